"""The health port: the kubelet's probes, Prometheus, and whoever operates the pod."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from keelage_api.mounted import MountedKey
from keelage_sidecar.core.config_view import View
from keelage_sidecar.core.log_line import LEVELS, LogLevel
from keelage_sidecar.shell.call import Call
from keelage_sidecar.shell.call_log import CallLog

START_PATIENCE_S = 10.0
"""The pod's other containers start without a configuration after that long: the operator may be away,
and calls before the first configuration are refused with a clear error."""

PORT = 4001
"""Of the health port in a pod that was injected; for messages."""
LIVE = ("/livez", "/healthz")
SERVED = "/startedz, /livez (or /healthz), /readyz, /metrics, /debug/config, /debug/log-level"


class Health(msgspec.Struct, frozen=True):
    """The sidecar's state as probes ask for it."""

    listening: bool
    configured: bool
    draining: bool
    age_s: float
    """Since the process began to serve."""
    config_error: str = ""
    """Why the newest configuration is not in force."""
    missing: tuple[str, ...] = ()
    """Keys and authorities that the configuration names and that are not there."""
    ledger_reached: bool = True
    """By the last exchange."""
    models: tuple[str, ...] = ()
    """What is to be said of those whose circuit is not closed."""
    unshared: tuple[str, ...] = ()
    """Why shared caches cannot be used."""


class Admin:
    """Handler of the health port."""

    def __init__(
        self,
        health: Callable[[], Health],
        exposition: Callable[[], tuple[bytes, bytes]],
        view: Callable[[], View],
        log: CallLog,
    ) -> None:
        """`exposition` gives content type and text of the metrics."""
        self._health = health
        self._exposition = exposition
        self._view = view
        self._log = log

    async def handle(self, call: Call) -> None:
        path = call.target.partition("?")[0]
        if path.startswith("/debug/") and not call.wire.local:
            _say(call, 403, f"{path} is served to the pod itself only: kubectl port-forward POD {PORT}")
        elif path == "/debug/log-level":
            self._level(call)
        elif call.method not in ("GET", "HEAD"):
            _say(call, 405, f"{path}: GET is all that is served here")
        elif path == "/metrics":
            kind, text = self._exposition()
            call.reply(200, [(b"content-type", kind)], text)
        elif path == "/debug/config":
            call.reply(200, [(b"content-type", b"application/json")], self._view().page())
        elif path in ("/startedz", "/readyz", *LIVE):
            health = self._health()
            problem = _problem(path, health)
            _say(call, 503 if problem else 200, problem or "\n".join(("ok", *_remarks(path, health))))
        else:
            _say(call, 404, f"served here: {SERVED}")

    def _level(self, call: Call) -> None:
        """GET tells the level, PUT changes it until the container ends."""
        if call.method not in ("GET", "HEAD", "PUT"):
            _say(call, 405, "/debug/log-level: GET tells the level, PUT changes it")
            return
        if call.method == "PUT":
            level = LogLevel.of(bytes(call.body).decode("latin-1").strip())
            if level is None:
                _say(call, 400, f"the body names no level: send {LEVELS}")
                return
            self._log.level = level
        _say(call, 200, self._log.level.name.lower())


def _problem(path: str, health: Health) -> str:
    """Why the probe fails; empty: it passes."""
    if path in LIVE:
        return ""
    if not health.listening:
        return "not listening yet"
    if path == "/startedz":
        waiting = not health.configured and health.age_s < START_PATIENCE_S
        return "waiting for the first configuration" if waiting else ""
    if health.draining:
        return "shutting down"
    return "" if health.configured else "no configuration yet: see the keelage operator"


def _remarks(path: str, health: Health) -> list[str]:
    """What is wrong, but not so that no call could be answered."""
    if path != "/readyz":
        return []
    found = [
        f"{MountedKey.of(path).text} is missing: backends that need it refuse calls,"
        " and a sharedCache that needs it is not used"
        for path in health.missing
    ]
    if health.config_error:
        found.append(f"the newest configuration is not in force: {health.config_error}")
    found += health.models
    if not health.ledger_reached:
        found.append("the operator does not answer: calls are paid from what was leased before")
    found += [f"{why}: calls go on without it" for why in health.unshared]
    return found


def _say(call: Call, status: int, text: str) -> None:
    call.reply(status, [(b"content-type", b"text/plain; charset=utf-8")], text.encode() + b"\n")
