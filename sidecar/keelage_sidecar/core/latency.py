"""Latency budgets: whether a model keeps its bound, and when a tier that does not is tried again. Pure.

    kept ── tripped ──▶ broken ── due ──▶ probing ── proven ──▶ kept
                          ▲                  │
                          └───── failed ─────┘

The states and their table are the circuit breaker's. What keeps them from flapping: a percentile is judged over calls
made since the state was entered, and 20 at least; broken, only probes are sent, one at a time; 5 in a row must keep the
bound; one that does not doubles the pause, and so does breaking it again soon.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator

import msgspec

from keelage_api.proxy_config import LatencyBudget, Rule
from keelage_sidecar.core.breaker import Signal, State, advance
from keelage_sidecar.core.health import HealthBook, Track
from keelage_sidecar.core.pace import SAMPLES, Pace
from keelage_sidecar.core.request import Facts
from keelage_sidecar.core.routing import Plan, RoutingTable

PROBES = 5
PAUSE_S = 10.0
PAUSE_MAX_S = 300.0
PROBE_LOST_S = 60.0
"""A probe that nothing was heard of for so long, and for longer than the bound, makes way for another."""
GUARDS_MAX = 512
"""Models of backends, with their bounds; the one that was asked about least recently is forgotten."""


class Bound(enum.StrEnum):
    """Which budget of a rule; in the log and the metrics."""

    FIRST_TOKEN = "firstTokenWithin"
    ANSWER = "answerWithin"


class Guard:
    """Of one model at one backend and one bound. `now_s` is monotonic, `pick` uniform in [0, 1)."""

    __slots__ = (
        "_heard", "_pause_s", "_percent", "_probe_s", "_proven", "_since_s", "_until_s", "_within_s", "broken", "state",
    )  # fmt: skip

    def __init__(self, budget: LatencyBudget, pace: Pace, now_s: float) -> None:
        self._percent = budget.percent
        self._within_s = budget.within_ms / 1000
        self._heard = pace.count - min(pace.count, SAMPLES)
        """How many calls the pace had when those began that count."""
        self._pause_s = 0.0
        self._proven = 0
        self._probe_s: float | None = None
        """When the probe that is under way began."""
        self._since_s = self._until_s = now_s
        self.state = State.CLOSED
        self.broken = 0
        """How often, ever."""

    def asks(self, pace: Pace, now_s: float, pick: float) -> bool:
        """Whether a call is to go to the model, given what its calls took until now."""
        self._hear(pace, now_s, pick)
        if self.state is State.OPEN and now_s >= self._until_s:
            self._signal(Signal.DUE, pace, now_s, pick)
        match self.state:
            case State.CLOSED:
                return True
            case State.OPEN:
                return False
            case State.HALF_OPEN:
                if self._probe_s is not None and now_s < self._probe_s + max(PROBE_LOST_S, self._within_s):
                    return False
                self._probe_s = now_s
                return True

    def _hear(self, pace: Pace, now_s: float, pick: float) -> None:
        self._heard = min(self._heard, pace.count)  # it began anew where the backend was changed
        fresh = pace.count - self._heard
        if self.state is State.CLOSED:
            took_s = pace.percentile(self._percent, fresh)
            if took_s is not None and took_s > self._within_s:
                self._signal(Signal.TRIPPED, pace, now_s, pick)
        elif self.state is State.HALF_OPEN and fresh:
            self._heard, self._probe_s = pace.count, None
            for took_s in pace.newest(fresh):
                if took_s > self._within_s:
                    self._signal(Signal.FAILED, pace, now_s, pick)
                    return
                self._proven += 1
            if self._proven >= PROBES:
                self._signal(Signal.PROVEN, pace, now_s, pick)

    def _signal(self, signal: Signal, pace: Pace, now_s: float, pick: float) -> None:
        before, self.state = self.state, advance(self.state, signal)
        if self.state is State.OPEN:
            lasted = before is State.CLOSED and now_s - self._since_s >= PAUSE_MAX_S
            # A call that began before must not be taken for a probe: most of them have ended by then.
            least_s = max(PAUSE_S, 2 * self._within_s)
            longer_s = least_s if lasted or not self._pause_s else 2 * self._pause_s
            self._pause_s = min(longer_s, max(PAUSE_MAX_S, least_s))
            self._until_s = now_s + self._pause_s * (1 - 0.5 * pick)
            self.broken += before is State.CLOSED
        self._heard, self._since_s = pace.count, now_s
        self._proven, self._probe_s = 0, None


class GuardFigures(msgspec.Struct, frozen=True):
    """For the metrics."""

    backend: str
    model: str
    bound: Bound
    within_ms: int
    state: State
    broken: int


class Otherwise(msgspec.Struct, frozen=True):
    """Another tier takes the call."""

    plan: Plan
    bound: Bound
    """Which is broken."""
    tier: str
    """That was selected."""


_Key = tuple[str, str, Bound, LatencyBudget]


class LatencyBook:
    def __init__(self) -> None:
        self._guards: dict[_Key, Guard] = {}
        """Least recently asked about first."""

    def otherwise(
        self, table: RoutingTable, plan: Plan, facts: Facts, health: HealthBook, pick: float, now_s: float
    ) -> Otherwise | None:
        """Whom to ask in place of the plan's tier, whose first model is too slow; None: nobody.

        To be asked once for each call of a rule that has a latency budget: it may make the call a probe.
        """
        first = plan.candidates[0]
        for bound, budget in _budgets(plan.rule, facts):
            if budget.otherwise == plan.rule.tier:
                continue
            track = health.track(first, now_s)
            pace = _pace(track, bound)
            guard = self._guard((first.backend.name, first.model, bound, budget), pace, now_s)
            if not guard.asks(pace, now_s, pick):
                other = table.lowered(plan, 0, budget.otherwise, facts)
                if other is not None:
                    return Otherwise(other, bound, plan.rule.tier)
        return None

    def figures(self) -> Iterator[GuardFigures]:
        for (backend, model, bound, budget), guard in self._guards.items():
            yield GuardFigures(backend, model, bound, budget.within_ms, guard.state, guard.broken)

    def _guard(self, key: _Key, pace: Pace, now_s: float) -> Guard:
        guard = self._guards.pop(key, None)
        if guard is None:
            if len(self._guards) >= GUARDS_MAX:
                del self._guards[next(iter(self._guards))]
            guard = Guard(key[3], pace, now_s)
        self._guards[key] = guard
        return guard


def _budgets(rule: Rule, facts: Facts) -> Iterator[tuple[Bound, LatencyBudget]]:
    """Those that the call falls under."""
    if not facts.endpoint.generates:
        return
    if rule.first_token_within is not None and facts.stream:
        yield Bound.FIRST_TOKEN, rule.first_token_within
    if rule.answer_within is not None:
        yield Bound.ANSWER, rule.answer_within


def _pace(track: Track, bound: Bound) -> Pace:
    return track.streamed if bound is Bound.FIRST_TOKEN else track.whole
