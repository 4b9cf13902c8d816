"""Whom a provider's certificate must come from. It is always verified, whatever a configuration says."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from keelage_api.errors import KeelageError
from keelage_api.mounted import MountedKey
from keelage_sidecar.shell.tls_session import ResumingContext

CHECK_S = 1.0
"""How old an answer may be; the kubelet itself takes up to a minute to refresh a mounted key."""
PEM_BYTES = 1024 * 1024
"""The largest file that is taken for certificates: what a Secret or ConfigMap can hold."""


class TrustError(KeelageError):
    """An authority that a backend names cannot be used; mended by whoever keeps its Secret or ConfigMap."""


@dataclass(slots=True)
class _Known:
    checked_s: float
    stamp: tuple[tuple[int, int], ...]
    context: ssl.SSLContext


class Trust:
    """TLS contexts by the files of their authorities; a changed file counts for connections opened from then on."""

    def __init__(self, directory: Path, clock: Callable[[], float]) -> None:
        """`directory`: where the kubelet mounts the files."""
        self._directory = directory
        self._clock = clock
        self._system: ssl.SSLContext | None = None
        self._known: dict[tuple[str, ...], _Known] = {}

    def context(self, authorities: tuple[str, ...]) -> ssl.SSLContext:
        """For a backend that names these files; none: the system's authorities, or those of SSL_CERT_FILE and
        SSL_CERT_DIR. Raises TrustError."""
        if not authorities:
            if self._system is None:
                self._system = ResumingContext(self._clock)
                self._system.load_default_certs()
            return self._system
        now_s = self._clock()
        known = self._known.get(authorities)
        if known is not None and now_s - known.checked_s < CHECK_S:
            return known.context
        stamp = tuple(self._stamp(path) for path in authorities)
        if known is None or known.stamp != stamp:
            context = ResumingContext(self._clock)
            for path in authorities:
                self._load(context, path)
            known = self._known[authorities] = _Known(now_s, stamp, context)
        known.checked_s = now_s
        return known.context

    def _stamp(self, path: str) -> tuple[int, int]:
        try:
            stat = (self._directory / path).stat()
        except OSError as error:
            raise TrustError(
                f"{MountedKey.of(path).text} is not there for this pod: create it, or correct"
                " backends[].tls.caCertificateRefs; a pod injected before it was named there must be restarted"
            ) from error
        return stat.st_mtime_ns, stat.st_ino

    def _load(self, context: ssl.SSLContext, path: str) -> None:
        try:
            with (self._directory / path).open("rb") as file:
                context.load_verify_locations(cadata=file.read(PEM_BYTES).decode("ascii"))
        except (OSError, ValueError, ssl.SSLError) as error:
            text = f"{MountedKey.of(path).text} holds no certificates in PEM: write those of the authority"
            raise TrustError(text) from error
