"""Whether breakpoints pay, as the provider's own counts say; where they do not, none are set for a while. Pure.

    on ── loses ──▶ off ── rested ──▶ trying ── pays ──▶ on
                     ▲                   │
                     └────── loses ──────┘

Judged in windows, for each rule, model and extent of the breakpoints. To lose is to have saved less than nothing;
to pay again after that, a twentieth of the prompts' price: what breaks even does not go on and off.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import NamedTuple

import msgspec
from msgspec.structs import replace

from keelage_api.pricing import ModelPrice, cost_of
from keelage_api.proxy_config import Rule
from keelage_api.sync import Resting
from keelage_api.usage import TokenUsage
from keelage_sidecar.core.prompt_cache import Extent, extent_of, with_breakpoints
from keelage_sidecar.core.request import Facts
from keelage_sidecar.core.routing import Candidate

CALLS_MIN = 20
"""In a window, before it is judged: a few dear beginnings say little."""
CALLS_MANY = 100
"""So many are enough before an entry's life is over..."""
MANY_S = 60.0
"""...but not within seconds: calls that start together all write what none of them can read yet."""
PAYS_PERCENT = 5
REST_BASE_S = 600.0
"""The first pause; each that follows without a win between is twice as long: a try costs a quarter of CALLS_MIN
prompts, which is nothing once in two hours."""
REST_MAX_S = 7200.0
KEPT_MAX = 1024
"""Rules, models and extents that are judged; applications may invent models, so then all is begun anew."""


class State(enum.Enum):
    OFF = 0
    """No breakpoints."""
    TRYING = 1
    """Breakpoints, to see."""
    ON = 2


class Signal(enum.Enum):
    PAYS = enum.auto()
    """Reads have repaid the writes, by a margin."""
    EVEN = enum.auto()
    """Without the margin."""
    LOSES = enum.auto()
    """They have not, or nothing was cached at all."""
    RESTED = enum.auto()
    """It has been off for long enough."""


TRANSITIONS = {
    (State.ON, Signal.LOSES): State.OFF,
    (State.OFF, Signal.RESTED): State.TRYING,
    (State.TRYING, Signal.PAYS): State.ON,
    (State.TRYING, Signal.EVEN): State.OFF,
    (State.TRYING, Signal.LOSES): State.OFF,
}
"""What is not here changes nothing."""


def advance(state: State, signal: Signal) -> State:
    return TRANSITIONS.get((state, signal), state)


class Key(NamedTuple):
    route: str
    rule: str
    backend: str
    model: str
    extent: Extent
    long: bool


def saved_by_caching(usage: TokenUsage, price: ModelPrice) -> tuple[int, int]:
    """Pico-dollars that caches have saved in one answer, below zero where writes cost more than reads saved; and what
    the answer would have cost without them."""
    prompt = usage.prompt_tokens
    plain = replace(usage, input_tokens=prompt, cache_read_tokens=0, cache_write_5m_tokens=0, cache_write_1h_tokens=0)
    without = cost_of(plain, price)
    return without - cost_of(usage, price), without


@dataclass(slots=True)
class _Window:
    since_s: float
    calls: int = 0
    saved: int = 0
    without: int = 0
    cached_tokens: int = 0


class Account:
    """What came of the breakpoints of one key. Seconds are monotonic."""

    __slots__ = ("_lasts_s", "_losses", "_until_s", "_window", "state")

    def __init__(self, lasts_s: float, now_s: float) -> None:
        """`lasts_s`: how long an entry of the cache lives."""
        self._lasts_s = lasts_s
        self._losses = 0
        """In a row."""
        self._until_s = now_s
        self._window = _Window(now_s)
        self.state = State.ON

    def is_open(self, now_s: float) -> bool:
        """Whether a call is to get breakpoints."""
        if self.state is State.OFF and now_s >= self._until_s:
            self._step(Signal.RESTED, now_s)
        return self.state is not State.OFF

    def learn(self, usage: TokenUsage, price: ModelPrice, now_s: float) -> None:
        """What the provider counted for a call with breakpoints."""
        if self.state is State.OFF:
            return  # the call began before
        window = self._window
        saved, without = saved_by_caching(usage, price)
        window.calls += 1
        window.saved += saved
        window.without += without
        window.cached_tokens += usage.prompt_tokens - usage.input_tokens
        age_s = now_s - window.since_s
        enough = window.calls >= CALLS_MIN and age_s >= self._lasts_s
        if enough or (window.calls >= CALLS_MANY and age_s >= MANY_S):
            self._step(_signal(window), now_s)

    def _step(self, signal: Signal, now_s: float) -> None:
        self.state = advance(self.state, signal)
        self._window = _Window(now_s)
        if self.state is State.OFF:
            self._until_s = now_s + min(REST_MAX_S, REST_BASE_S * 2**self._losses)
            self._losses = min(self._losses + 1, 16)
        elif self.state is State.ON:
            self._losses = 0


def _signal(window: _Window) -> Signal:
    if window.saved < 0 or not window.cached_tokens:
        return Signal.LOSES
    return Signal.PAYS if window.saved * 100 >= window.without * PAYS_PERCENT else Signal.EVEN


_NARROWING = {Extent.TURNS: (Extent.TURNS, Extent.FIXED), Extent.FIXED: (Extent.FIXED,)}


class Marked(msgspec.Struct, frozen=True):
    """A call whose breakpoints are keelage's business."""

    facts: Facts
    """As it is to be sent."""
    extent: Extent | None
    """None: it has none, as they do not pay now."""
    account: Account | None
    """Learns what came of it; None where it has none."""

    def learn(self, usage: TokenUsage, candidate: Candidate, now_s: float) -> int | None:
        """What the provider counted in the end; returns the pico-dollars saved, which may be below zero."""
        price = candidate.price or candidate.dearest
        if self.account is None or price is None:
            return None
        self.account.learn(usage, price, now_s)
        return saved_by_caching(usage, price)[0]


class PromptCacheBook:
    """All accounts of this sidecar."""

    def __init__(self) -> None:
        self._accounts: dict[Key, Account] = {}

    def marked(self, facts: Facts, candidate: Candidate, rule: Rule, now_s: float) -> Marked | None:
        """The call with as many breakpoints as pay; None: nothing in it is for keelage to mark.

        Where those in the turns do not pay, there may still be those in the fixed part.
        """
        caching = rule.prompt_cache
        extent = extent_of(facts, candidate)
        if caching is None or extent is None:
            return None
        for each in _NARROWING[extent]:
            key = Key(rule.route, rule.name, candidate.backend.name, candidate.model, each, caching.long)
            account = self._account(key, now_s)
            if account.is_open(now_s):
                marked = with_breakpoints(facts, candidate.model, each, caching.long)
                return None if marked is None else Marked(marked, each, account)
        return Marked(facts, None, None)

    def _account(self, key: Key, now_s: float) -> Account:
        account = self._accounts.get(key)
        if account is None:
            if len(self._accounts) >= KEPT_MAX:
                self._accounts.clear()
            account = self._accounts[key] = Account(3600.0 if key.long else 300.0, now_s)
        return account

    def resting(self) -> tuple[Resting, ...]:
        """Where no breakpoint is set at all, for the route's status."""
        states = self._accounts.items()
        off = [key for key, each in states if key.extent is Extent.FIXED and each.state is State.OFF]
        turns = {key for key, each in states if key.extent is Extent.TURNS and each.state is not State.OFF}
        found = [key for key in off if key._replace(extent=Extent.TURNS) not in turns]
        return tuple(sorted({Resting(key.route, key.rule, key.model) for key in found}))

    def states(self) -> tuple[tuple[Key, State], ...]:
        """For the metrics."""
        return tuple((key, account.state) for key, account in self._accounts.items())
