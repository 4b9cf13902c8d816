"""Provider keys, as the kubelet mounts them: `<directory>/<secret>/<key>`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from keelage_api.proxy_config import ProxyConfig

CHECK_S = 1.0
"""How old an answer may be; the kubelet itself takes up to a minute to refresh a Secret."""
KEY_BYTES = 64 * 1024
"""The largest file that is taken for a key."""


class Credentials:
    """Reads a key again when its file has changed. Keys are never logged nor shown."""

    def __init__(self, directory: Path, clock: Callable[[], float]) -> None:
        self._directory = directory
        self._clock = clock
        self._known: dict[str, tuple[float, int, str]] = {}

    def get(self, name: str) -> str | None:
        """The key called `<secret>/<key>`; None where there is none, or an empty one."""
        now_s = self._clock()
        known = self._known.get(name)
        if known is not None and now_s - known[0] < CHECK_S:
            return known[2] or None
        try:
            path = self._directory / name
            changed_ns = path.stat().st_mtime_ns
            if known is not None and known[1] == changed_ns:
                key = known[2]
            else:
                with path.open("rb") as file:
                    key = file.read(KEY_BYTES).decode("latin-1").strip()
        except OSError:  # whatever keeps it from being read, the call cannot be made
            self._known.pop(name, None)
            return None
        self._known[name] = (now_s, changed_ns, key)
        return key or None

    def renewed(self, name: str, used: str | None) -> str | None:
        """The key as its file has it now, where that is another than the one that was used and refused."""
        self._known.pop(name, None)
        key = self.get(name) if used is not None else None
        return key if key != used else None

    def missing(self, config: ProxyConfig) -> tuple[str, ...]:
        """Every key and authority that the configuration names and that is not there, sorted."""
        named = {backend.credential for backend in config.backends.values() if backend.credential}
        trusted = {path for backend in config.backends.values() if backend.tls for path in backend.tls.authorities}
        caches = [rule.response_cache for rule in config.rules if rule.response_cache is not None]
        shared = {path for cache in caches if cache.shared is not None for path in cache.shared.files}
        return tuple(sorted(name for name in named | trusted | shared if self.get(name) is None))
