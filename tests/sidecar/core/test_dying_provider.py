"""A provider that dies and comes back, before a fleet of sidecars that share nothing: on simulated time."""

from __future__ import annotations

import heapq
import random
from collections import Counter
from dataclasses import dataclass, field
from itertools import count

import pytest
from tests.sidecar.core.calls import HAIKU

from keelage_api.proxy_config import Backend, ModelChoice, Provider, Retry, Rule
from keelage_sidecar.core.breaker import Verdict
from keelage_sidecar.core.health import HealthBook
from keelage_sidecar.core.retry import Again, AttemptEnd, Failure
from keelage_sidecar.core.routing import Candidate, Plan

SIDECARS = 10
CALLS_PER_S = 5.0
"""Of each sidecar."""
DEAD_S = (30.0, 150.0)
END_S = 260.0
FIRST, SECOND = (
    Candidate(Backend(f"r/{name}", Provider.ANTHROPIC, f"https://{name}"), "claude-haiku-4-5", HAIKU) for name in "ab"
)


@dataclass
class Fleet:
    """Sidecars that all ask the same tier; its first backend is dead for two minutes."""

    candidates: tuple[Candidate, ...]
    seed: int
    failing: float = 1.0
    """Share of the calls that fail while it is dead."""
    sent: Counter[tuple[str, int]] = field(default_factory=Counter)
    """Attempts by backend and second."""
    served: Counter[int] = field(default_factory=Counter)
    """Calls with an answer, by the second in which they began."""
    calls: Counter[int] = field(default_factory=Counter)
    """By the second in which they began."""

    def run(self) -> None:
        draw, order = random.Random(self.seed), count()
        plan = Plan(Rule("r", "all", (ModelChoice("b"),), retry=Retry()), self.candidates)
        fleet = [HealthBook() for _ in range(SIDECARS)]
        # (when, tie-break, sidecar, began, plan, ends, candidate to ask)
        queue: list[tuple[float, int, int, float, Plan, tuple[AttemptEnd, ...], int]] = []
        for number in range(SIDECARS):
            now_s = 0.0
            while (now_s := now_s + draw.expovariate(CALLS_PER_S)) < END_S:
                queue.append((now_s, next(order), number, now_s, plan, (), 0))
                self.calls[int(now_s)] += 1
        heapq.heapify(queue)
        while queue:
            now_s, _, number, began_s, asked, ends, index = heapq.heappop(queue)
            health = fleet[number]
            asked = asked if ends else health.ordered(asked, 0, "", draw.random(), now_s)
            candidate = asked.candidates[index]
            track = health.track(candidate, now_s)
            ticket = track.breaker.admit(now_s)
            took_s = 0.0
            if ticket is None:
                end = AttemptEnd(index, failure=Failure.OPEN)
            else:
                if not any(each.candidate == index for each in ends):
                    track.retries.called(now_s)
                self.sent[candidate.backend.name, int(now_s)] += 1
                took_s = draw.uniform(0.05, 0.5)
                dead = candidate.backend.name == "r/a" and DEAD_S[0] <= now_s < DEAD_S[1]
                if not dead or draw.random() >= self.failing:
                    ticket = track.first_byte(ticket, True, took_s, now_s + took_s)
                    track.breaker.ended(ticket, Verdict.OK, now_s + took_s, draw.random())
                    self.served[int(began_s)] += 1
                    continue
                end = AttemptEnd(index, 529)
                track.failed(ticket, end, now_s + took_s, draw.random())
            ends = (*ends, end)
            step = health.next_step(asked, ends, draw.random(), None, now_s + took_s)
            if isinstance(step, Again):
                due_s = now_s + took_s + step.delay_ms / 1000
                heapq.heappush(queue, (due_s, next(order), number, began_s, asked, ends, step.candidate))

    def sent_to(self, backend: str, begin: float, end: float) -> int:
        return sum(n for (name, second), n in self.sent.items() if name == backend and begin <= second < end)


@pytest.mark.parametrize("seed", range(2))
def test_a_dead_provider_is_sent_a_fraction_of_its_load_and_served_again_within_the_probe_time(seed: int) -> None:
    fleet = Fleet((FIRST,), seed)
    fleet.run()
    usual = fleet.sent_to("r/a", 0, DEAD_S[0])
    first_seconds = fleet.sent_to("r/a", DEAD_S[0], DEAD_S[0] + 10)
    assert first_seconds < 1.2 * usual / 3 + SIDECARS * 10, "retries stay within the budget"
    while_dead = fleet.sent_to("r/a", DEAD_S[0] + 10, DEAD_S[1])
    in_full = sum(n for second, n in fleet.calls.items() if DEAD_S[0] + 10 <= second < DEAD_S[1])
    assert while_dead < 0.02 * in_full, "probes only"
    late = [
        second for second in range(int(DEAD_S[1]) + 61, int(END_S) - 1) if fleet.served[second] < fleet.calls[second]
    ]
    assert not late, "the longest open time is 60 s"


@pytest.mark.parametrize("seed", range(2))
def test_with_a_fallback_no_call_is_lost_and_the_second_backend_gets_the_load_only_while_it_must(seed: int) -> None:
    fleet = Fleet((FIRST, SECOND), seed)
    fleet.run()
    assert fleet.served == fleet.calls
    assert fleet.sent_to("r/a", DEAD_S[0] + 10, DEAD_S[1]) < 100
    assert fleet.sent_to("r/b", 0, DEAD_S[0]) == 0
    assert fleet.sent_to("r/b", DEAD_S[1] + 61, END_S) == 0


@pytest.mark.parametrize("seed", range(2))
def test_a_provider_that_fails_now_and_then_is_sent_no_more_than_a_fifth_again(seed: int) -> None:
    fleet = Fleet((FIRST,), seed, failing=0.4)
    fleet.run()
    calls = sum(n for second, n in fleet.calls.items() if DEAD_S[0] <= second < DEAD_S[1])
    assert fleet.sent_to("r/a", DEAD_S[0], DEAD_S[1]) <= 1.25 * calls
