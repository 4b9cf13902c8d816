"""The circuit breaker of one model at one backend: whether it is asked at all. Pure.

    closed ── tripped ──▶ open ── due ──▶ half open ── proven ──▶ closed
                            ▲                 │
                            └──── failed ─────┘

Who is admitted gets a ticket, and says with it how the call ended. A ticket of an earlier state says nothing
about this one: calls that were under way when the circuit opened neither close it nor keep it open.
"""

from __future__ import annotations

import enum

from keelage_api.proxy_config import CircuitBreaker
from keelage_sidecar.core.tally import Tally


class State(enum.Enum):
    CLOSED = 0
    """Every call is let through."""
    HALF_OPEN = 1
    """A few calls are let through, to see."""
    OPEN = 2
    """None is."""


class Signal(enum.Enum):
    TRIPPED = enum.auto()
    """Too many calls have failed."""
    DUE = enum.auto()
    """It has been open for long enough."""
    FAILED = enum.auto()
    """A probe has."""
    PROVEN = enum.auto()
    """As many probes as are wanted have succeeded."""


class Verdict(enum.Enum):
    """What a call says about the model that was asked."""

    OK = enum.auto()
    FAILED = enum.auto()
    REFUSED = enum.auto()
    """It lives, and no more than that: it said no to the application's own mistake, or for a limit of its own."""
    NONE = enum.auto()
    """Nothing: the application left, or was impatient."""


_CLOSED, _OK = State.CLOSED, Verdict.OK

TRANSITIONS = {
    (State.CLOSED, Signal.TRIPPED): State.OPEN,
    (State.OPEN, Signal.DUE): State.HALF_OPEN,
    (State.HALF_OPEN, Signal.FAILED): State.OPEN,
    (State.HALF_OPEN, Signal.PROVEN): State.CLOSED,
}
"""What is not here changes nothing."""

PROBE_S = 1.0
"""When a call that found all probes under way is worth another try."""


SPENT = -1
"""The ticket of a call that has said all it had to say."""


def advance(state: State, signal: Signal) -> State:
    return TRANSITIONS.get((state, signal), state)


class Breaker:
    """`pick` is uniform in [0, 1), `now_s` monotonic."""

    __slots__ = (
        "_failures", "_opened_in_a_row", "_probing", "_proven", "_recent", "_since_s", "_terms",
        "_until_s", "opened", "state", "ticket",
    )  # fmt: skip

    def __init__(self, terms: CircuitBreaker, now_s: float) -> None:
        self._terms = terms
        self._recent = Tally(terms.window_ms / 1000)
        self._failures = 0
        """In a row."""
        self._opened_in_a_row = 0
        self._probing = 0
        self._proven = 0
        self._since_s = now_s
        self._until_s = now_s
        self.state = State.CLOSED
        self.ticket = 0
        """Of the present state."""
        self.opened = 0
        """How often, ever."""

    def admit(self, now_s: float) -> int | None:
        """A ticket, to be given to `ended` exactly once; None: the model is not to be asked now."""
        if self.state is _CLOSED:
            return self.ticket
        if self.state is State.OPEN and now_s >= self._until_s:
            self._signal(Signal.DUE, now_s)
        match self.state:
            case State.OPEN:
                return None
            case State.HALF_OPEN:
                if self._probing + self._proven >= self._terms.probes:
                    return None
                self._probing += 1
        return self.ticket

    def admits(self, now_s: float) -> bool:
        """Whether `admit` would give a ticket."""
        match self.state:
            case State.CLOSED:
                return True
            case State.OPEN:
                return now_s >= self._until_s
            case State.HALF_OPEN:
                return self._probing + self._proven < self._terms.probes

    def answers(self, ticket: int, now_s: float) -> int:
        """The first byte has come: a probe has proven itself, and does not hold up others for as long as it streams.

        The ticket to end the call with.
        """
        if ticket != self.ticket or self.state is not State.HALF_OPEN:
            return ticket
        self._probing -= 1
        self._proven += 1
        if self._proven < self._terms.probes:
            return SPENT
        self._signal(Signal.PROVEN, now_s)
        return self.ticket

    def ended(self, ticket: int, verdict: Verdict, now_s: float, pick: float) -> None:
        """A call that was admitted has ended."""
        if ticket != self.ticket:
            return
        if verdict is _OK and self.state is _CLOSED:
            self._failures = 0
            self._recent.add(now_s, 1, 0)
            return
        if self.state is State.HALF_OPEN:
            if verdict in (Verdict.OK, Verdict.REFUSED):
                self.answers(ticket, now_s)
                return
            self._probing -= 1
            if verdict is Verdict.FAILED:
                self._signal(Signal.FAILED, now_s, pick)
            return
        if verdict in (Verdict.REFUSED, Verdict.NONE):
            return
        failed = verdict is Verdict.FAILED
        self._failures = self._failures + 1 if failed else 0
        self._recent.add(now_s, 1, failed)
        if failed and self._too_many(now_s):
            self._signal(Signal.TRIPPED, now_s, pick)

    def recent(self, now_s: float) -> tuple[int, int]:
        """(calls, failures) within the window, since the circuit was closed."""
        return self._recent.read(now_s)

    def opens_in_s(self, now_s: float) -> float:
        """When the next call may be let through."""
        return max(0.0, self._until_s - now_s) if self.state is State.OPEN else PROBE_S

    def _too_many(self, now_s: float) -> bool:
        calls, failures = self._recent.read(now_s)
        terms = self._terms
        if self._failures >= terms.consecutive_failures:
            return True
        return calls >= terms.min_calls and failures * 100 >= terms.failure_percent * calls

    def _signal(self, signal: Signal, now_s: float, pick: float = 0.0) -> None:
        before, self.state = self.state, advance(self.state, signal)
        if self.state is before:
            return
        self.ticket += 1
        self._probing = self._proven = self._failures = 0
        if self.state is State.OPEN:
            # One that fails again soon after it was closed goes on where it was.
            lasted = before is State.CLOSED and now_s - self._since_s >= self._terms.open_max_ms / 1000
            self._opened_in_a_row = 1 if lasted else self._opened_in_a_row + 1
            self.opened += 1
            full_ms = min(self._terms.open_max_ms, self._terms.open_base_ms * 2 ** min(self._opened_in_a_row - 1, 30))
            self._until_s = now_s + full_ms / 1000 * (1 - 0.5 * pick)
        elif self.state is State.CLOSED:
            self._recent.clear()
        self._since_s = now_s
