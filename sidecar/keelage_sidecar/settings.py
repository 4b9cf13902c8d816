"""The environment, which the injector sets, as one frozen value; read once, in `__main__`."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from pathlib import Path

import msgspec

from keelage_api.errors import KeelageError
from keelage_sidecar.core.log_line import LEVELS, LogLevel


class SettingsError(KeelageError):
    """A variable is missing or wrong; mended by whoever wrote the container's environment."""


class Address(msgspec.Struct, frozen=True):
    host: str
    port: int
    """0: the system chooses."""


class Settings(msgspec.Struct, frozen=True):
    listen: Address = Address("127.0.0.1", 4000)
    """Where the application calls; loopback, since whoever can connect can spend."""
    health: Address | None = Address("0.0.0.0", 4001)
    """Probes and metrics; None: neither."""
    credentials_dir: Path = Path("/var/run/keelage/credentials")
    state_dir: Path = Path("/var/lib/keelage")
    will_file: Path | None = None
    """The container's termination message file; None: no last will is kept."""
    operator: str = ""
    """`https://host:port`; empty where configuration and ledger are in the same process."""
    ca_pem: str = ""
    """Whom the operator's certificate must come from."""
    token_file: Path = Path("/var/run/secrets/keelage/token")
    user: str = ""
    feature: str = ""
    task_type: str = ""
    """Of calls that name none: the pod's labels."""
    pod: str = ""
    """Its name: for limits that hold per pod."""
    drain_s: float = 1.0
    """How long calls may go on after SIGTERM; the kubelet leaves native sidecars 2 s at the least."""
    log_level: LogLevel = LogLevel.INFO
    """To begin with: it can be changed at run time."""


def read_settings(environ: Mapping[str, str]) -> Settings:
    """Settings of a sidecar in a pod; raises SettingsError."""
    plain = Settings()
    operator = environ.get("KEELAGE_OPERATOR", "").rstrip("/")
    if not operator.startswith(("https://", "http://")):
        raise SettingsError("KEELAGE_OPERATOR: the operator's URL is needed, as in https://keelage.keelage.svc:8443")
    try:
        ca_pem = base64.b64decode(environ.get("KEELAGE_CA", ""), validate=True).decode("ascii")
    except (binascii.Error, UnicodeDecodeError) as error:
        raise SettingsError("KEELAGE_CA: PEM certificates in base64 are needed") from error
    return Settings(
        listen=_address(environ, "KEELAGE_LISTEN", plain.listen),
        health=_address(environ, "KEELAGE_HEALTH", Address("0.0.0.0", 4001)),
        credentials_dir=Path(environ.get("KEELAGE_CREDENTIALS_DIR") or plain.credentials_dir),
        state_dir=Path(environ.get("KEELAGE_STATE_DIR") or plain.state_dir),
        will_file=Path(will_file) if (will_file := environ.get("KEELAGE_WILL_FILE", "")) else None,
        operator=operator,
        ca_pem=ca_pem,
        token_file=Path(environ.get("KEELAGE_TOKEN_FILE") or plain.token_file),
        user=environ.get("KEELAGE_USER", ""),
        feature=environ.get("KEELAGE_FEATURE", ""),
        task_type=environ.get("KEELAGE_TASK_TYPE", ""),
        pod=environ.get("KEELAGE_POD", ""),
        drain_s=_seconds(environ, "KEELAGE_DRAIN_S", plain.drain_s),
        log_level=_level(environ, "KEELAGE_LOG_LEVEL", plain.log_level),
    )


def _address(environ: Mapping[str, str], name: str, default: Address) -> Address:
    text = environ.get(name, "")
    if not text:
        return default
    host, colon, port = text.rpartition(":")
    if not colon or not port.isdigit() or int(port) > 65535:
        raise SettingsError(f"{name}={text}: host:port is needed, as in {default.host}:{default.port}")
    return Address(host.strip("[]"), int(port))


def _level(environ: Mapping[str, str], name: str, default: LogLevel) -> LogLevel:
    text = environ.get(name, "")
    level = LogLevel.of(text) if text else default
    if level is None:
        raise SettingsError(f"{name}={text}: {LEVELS} is needed")
    return level


def _seconds(environ: Mapping[str, str], name: str, default: float) -> float:
    text = environ.get(name, "")
    if not text:
        return default
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds <= 86_400:
        raise SettingsError(f"{name}={text}: seconds between 0 and 86400 are needed")
    return seconds
