"""What this sidecar has seen of each model at each backend, and in which order a call asks them therefore. Pure.

A model whose circuit is open is not asked. One that said for how long it has no room, or that stands out against the
others of its tier, is asked last: never is anybody refused for that.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator

import msgspec

from keelage_api.proxy_config import Backend
from keelage_sidecar.core.breaker import Breaker, State, Verdict
from keelage_sidecar.core.endpoints import Kind
from keelage_sidecar.core.pace import Pace
from keelage_sidecar.core.refusal import Refusal
from keelage_sidecar.core.request import Facts
from keelage_sidecar.core.retry import UNASKED, Again, AttemptEnd, Stop, next_step
from keelage_sidecar.core.retry_budget import RetryLedger
from keelage_sidecar.core.routing import Candidate, Plan
from keelage_sidecar.core.weights import in_order

TRACKS_MAX = 512
"""Models of backends; applications may invent names. The one that was asked least recently is forgotten."""
ASIDE_S = 30.0
"""For how long one that stands out is asked last."""
ASIDE_MAX_S = 3600.0
"""A Retry-After beyond is not believed."""
CALLS_MIN = 20
"""Below, a share of failures says nothing."""
FAILURE_PERCENT = 20
TIMES_WORSE = 2
"""Than the best of its tier, by its share of failures."""
TIMES_SLOWER = 3.0
"""Than its own habit, while another one of the tier is not."""
AS_USUAL = 1.5
HEDGED = (Kind.MESSAGES, Kind.CHAT, Kind.EMBEDDINGS)
"""What may be asked twice: nothing is left behind by either."""
REMARKS_MAX = 10
JUDGED_S = 1.0
"""Tiers are looked at no more often."""


class Cause(enum.StrEnum):
    """Why a model is asked last."""

    LIMITED = "Limited"
    FAILURES = "Failures"
    SLOWNESS = "Slowness"


class Track:
    """One model at one backend."""

    __slots__ = (
        "aside_until_s",
        "asked_s",
        "backend",
        "breaker",
        "judged_s",
        "model",
        "plain",
        "retries",
        "streamed",
        "times_aside",
        "whole",
    )

    def __init__(self, backend: Backend, model: str, now_s: float) -> None:
        self.backend = backend
        self.model = model
        self.breaker = Breaker(backend.circuit_breaker, now_s)
        self.retries = RetryLedger()
        self.streamed = Pace()
        self.plain = Pace()
        self.whole = Pace()
        """Of answers from the request to their end; kept where a rule has a bound for that."""
        self.times_aside: dict[Cause, int] = {}
        self.asked_s = now_s
        self.judged_s = now_s - JUDGED_S
        self.aside_until_s = now_s
        """It is asked last until then."""

    def pace(self, stream: bool) -> Pace:
        return self.streamed if stream else self.plain

    def put_aside(self, cause: Cause, seconds: float, now_s: float) -> None:
        if now_s >= self.aside_until_s:
            self.times_aside[cause] = self.times_aside.get(cause, 0) + 1
        self.aside_until_s = max(self.aside_until_s, now_s + min(seconds, ASIDE_MAX_S))

    def first_byte(self, ticket: int, stream: bool, seconds: float, now_s: float) -> int:
        """It has come after so long; the ticket to end the call with."""
        self.pace(stream).took(seconds)
        return ticket if self.breaker.state is State.CLOSED else self.breaker.answers(ticket, now_s)

    def failed(self, ticket: int, end: AttemptEnd, now_s: float, pick: float) -> None:
        """An attempt that was admitted got no good answer."""
        if end.retry_after_ms:
            self.put_aside(Cause.LIMITED, end.retry_after_ms / 1000, now_s)
        limited = end.status is not None and end.status < 500
        self.breaker.ended(ticket, Verdict.REFUSED if limited else Verdict.FAILED, now_s, pick)

    def failure_percent(self, now_s: float) -> float | None:
        """Of the last calls; None where they are too few."""
        calls, failures = self.breaker.recent(now_s)
        return failures * 100 / calls if calls >= CALLS_MIN else None


class ModelHealth(msgspec.Struct, frozen=True):
    """Of one track, for the metrics."""

    backend: str
    model: str
    state: State
    opened: int
    retries_refused: int
    times_aside: tuple[tuple[Cause, int], ...]


class HealthBook:
    """`now_s` is monotonic everywhere, `pick` uniform in [0, 1)."""

    def __init__(self) -> None:
        self._tracks: dict[tuple[str, str], Track] = {}
        """By backend and model."""

    def track(self, candidate: Candidate, now_s: float) -> Track:
        """That of the candidate; a new one where its backend has been changed."""
        key = (candidate.backend.name, candidate.model)
        track = self._tracks.get(key)
        if track is not None and track.backend is not candidate.backend:
            if track.backend == candidate.backend:
                track.backend = candidate.backend  # another configuration: the next comparison is of identities again
            else:
                track = None
        if track is None:
            if len(self._tracks) >= TRACKS_MAX and key not in self._tracks:
                oldest = min(self._tracks.values(), key=lambda each: each.asked_s)
                del self._tracks[oldest.backend.name, oldest.model]
            track = self._tracks[key] = Track(candidate.backend, candidate.model, now_s)
        track.asked_s = now_s
        return track

    def ordered(self, plan: Plan, start: int, user: str, pick: float, now_s: float) -> Plan:
        """The plan with its candidates from `start` on in the order in which this call asks them.

        The one that the weights choose for the user, or by `pick`, comes first; who is to be asked last, last.
        """
        if len(plan.candidates) - start < 2:
            return plan
        rest = plan.candidates[start:]
        if rest[0].weight is not None:
            rest = in_order(rest, f"{plan.rule.route}/{plan.rule.tier}", user, pick)
        tracks = [self._tracks.get((candidate.backend.name, candidate.model)) for candidate in rest]
        first = tracks[0]
        if first is not None and now_s >= first.judged_s + JUDGED_S:
            first.judged_s = now_s
            _put_outliers_aside([track for track in tracks if track is not None], now_s)
        aside = [track is not None and now_s < track.aside_until_s for track in tracks]
        if True in aside:
            last = [candidate for candidate, waits in zip(rest, aside, strict=True) if waits]
            rest = (*(candidate for candidate, waits in zip(rest, aside, strict=True) if not waits), *last)
        elif rest[0] is plan.candidates[start]:
            return plan
        return Plan(plan.rule, (*plan.candidates[:start], *rest), plan.tried, plan.spare)

    def shut(self, plan: Plan, now_s: float) -> frozenset[int]:
        """The candidates that are not to be asked now."""
        return frozenset(
            index
            for index, candidate in enumerate(plan.candidates)
            if (track := self._tracks.get((candidate.backend.name, candidate.model))) is not None
            and not track.breaker.admits(now_s)
        )

    def next_step(
        self, plan: Plan, ends: tuple[AttemptEnd, ...], pick: float, patience_left_ms: int | None, now_s: float
    ) -> Again | Stop:
        """What to do after the attempts so far (`retry.next_step`), with what is known of the candidates."""
        last = ends[-1]
        retries = self.track(plan.candidates[last.candidate], now_s).retries
        shut = self.shut(plan, now_s)
        wanted = next_step(plan, ends, pick, patience_left_ms, shut=shut)
        if not isinstance(wanted, Again) or wanted.candidate != last.candidate:
            return wanted
        if retries.fits(plan.rule.retry.budget, now_s):
            retries.retried(now_s)
            return wanted
        retries.refused += 1
        return next_step(plan, ends, pick, patience_left_ms, shut=shut, may_repeat=False)

    def late_s(self, plan: Plan, ends: tuple[AttemptEnd, ...], index: int, facts: Facts, now_s: float) -> float | None:
        """When to make a second attempt beside the one at candidate `index`, in seconds from now; None: never."""
        hedge = plan.rule.hedge
        if hedge is None or facts.endpoint.kind not in HEDGED or index + 1 >= len(plan.candidates):
            return None
        made = sum(end.failure not in UNASKED for end in ends)
        if plan.rule.retry.attempts - made < 2:
            return None
        pace = self.track(plan.candidates[index], now_s).pace(facts.stream)
        return hedge.after_ms / 1000 if hedge.after_ms else pace.late_s

    def hedge(self, plan: Plan, index: int, now_s: float) -> int | None:
        """The candidate to ask beside `index` now, counted as a retry of that one; None: there is none."""
        shut = self.shut(plan, now_s)
        second = next((each for each in range(index + 1, len(plan.candidates)) if each not in shut), None)
        retries = self.track(plan.candidates[index], now_s).retries
        if second is None or not retries.fits(plan.rule.retry.budget, now_s):
            return None
        retries.retried(now_s)
        return second

    def figures(self) -> Iterator[ModelHealth]:
        for track in sorted(self._tracks.values(), key=lambda each: each.asked_s):
            breaker = track.breaker
            yield ModelHealth(
                track.backend.name,
                track.model,
                breaker.state,
                breaker.opened,
                track.retries.refused,
                tuple(track.times_aside.items()),
            )

    def remarks(self, now_s: float) -> tuple[str, ...]:
        """In words, the models that are not asked as usual, those of the last calls first."""
        tracks = sorted(self._tracks.values(), key=lambda each: each.asked_s, reverse=True)
        shut = [track for track in tracks if track.breaker.state is not State.CLOSED]
        return tuple(_remark(track, now_s) for track in shut[:REMARKS_MAX])


def _remark(track: Track, now_s: float) -> str:
    left_s = track.breaker.opens_in_s(now_s)
    waits = track.breaker.state is State.OPEN and left_s > 0
    until = f"it is not asked for another {left_s:.1f} s" if waits else "the next call finds out whether it is back"
    return f"{_name(track)}: its last calls have failed: {until}"


def _name(track: Track) -> str:
    return f"backend {track.backend.name}, model {track.model[:120]!r}"


def not_asked(track: Track, now_s: float) -> Refusal:
    """What the application hears when there is nobody else to ask. Its SDK may come again: that costs nothing."""
    wait_s = track.breaker.opens_in_s(now_s)
    return Refusal(
        503,
        "UpstreamUnavailable",
        f"{_name(track)}: its last calls have failed, so it is not asked for"
        f" {wait_s:.1f} s (`circuitBreaker`): the log of calls says how; add another model to the tier to fall back on",
        retry_after_s=wait_s,
        should_retry=True,
    )


def _put_outliers_aside(tracks: list[Track], now_s: float) -> None:
    """Those that stand out against another one of their tier, never all."""
    if len(tracks) < 2:
        return
    shares = [track.failure_percent(now_s) for track in tracks]
    known = [share for share in shares if share is not None]
    paces = [track.streamed for track in tracks]
    usual = any(pace.count >= CALLS_MIN and pace.slowdown < AS_USUAL for pace in paces)
    for track, share, pace in zip(tracks, shares, paces, strict=True):
        if now_s < track.aside_until_s:
            continue
        if share is not None and share >= FAILURE_PERCENT and share >= TIMES_WORSE * min(known) and len(known) > 1:
            track.put_aside(Cause.FAILURES, ASIDE_S, now_s)
        elif usual and pace.slowdown >= TIMES_SLOWER:
            track.put_aside(Cause.SLOWNESS, ASIDE_S, now_s)
            pace.forgive()
