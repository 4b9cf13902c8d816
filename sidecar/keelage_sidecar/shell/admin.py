"""The health port: the kubelet's probes and Prometheus."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from keelage_sidecar.shell.call import Call

START_PATIENCE_S = 10.0
"""The pod's other containers start without a configuration after that long: the operator may be away,
and calls before the first configuration are refused with a clear error."""


@dataclass(frozen=True, slots=True)
class Health:
    """The sidecar's state as probes ask for it."""

    listening: bool
    configured: bool
    draining: bool
    age_s: float
    """Since the process began to serve."""


class Admin:
    """Handler of the health port."""

    def __init__(self, health: Callable[[], Health], exposition: Callable[[], tuple[bytes, bytes]]) -> None:
        """`exposition` gives content type and text of the metrics."""
        self._health = health
        self._exposition = exposition

    async def handle(self, call: Call) -> None:
        path = call.target.partition("?")[0]
        if call.method not in ("GET", "HEAD"):
            _say(call, 405, "GET is all that is served here")
        elif path == "/metrics":
            kind, text = self._exposition()
            call.reply(200, [(b"content-type", kind)], text)
        elif path in ("/startedz", "/livez", "/readyz"):
            problem = _problem(path, self._health())
            _say(call, 503 if problem else 200, problem or "ok")
        else:
            _say(call, 404, "served here: /startedz, /livez, /readyz, /metrics")


def _problem(path: str, health: Health) -> str:
    """Why the probe fails; empty: it passes."""
    if path == "/livez":
        return ""
    if not health.listening:
        return "not listening yet"
    if path == "/startedz":
        waiting = not health.configured and health.age_s < START_PATIENCE_S
        return "waiting for the first configuration" if waiting else ""
    if health.draining:
        return "shutting down"
    return "" if health.configured else "no configuration yet: see the keelage operator"


def _say(call: Call, status: int, text: str) -> None:
    call.reply(status, [(b"content-type", b"text/plain; charset=utf-8")], text.encode() + b"\n")
