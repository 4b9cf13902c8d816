"""Again, whom and when; or stop. Asked only before the application got its first byte.

The attempts of a rule are spread over its candidates in order, the earlier ones getting more: of 3
attempts at 2 backends the first gets 2. What a backend cannot use goes to the next ones.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from email.utils import parsedate_to_datetime

from keelage_api.proxy_config import Backend
from keelage_sidecar.core.refusal import Headers, Refusal
from keelage_sidecar.core.routing import Plan


class Failure(enum.StrEnum):
    """How an attempt ended without an answer."""

    CONNECT = "ConnectError"
    """No connection: nothing was sent."""
    TIMEOUT = "Timeout"
    RESET = "Reset"
    LIMITED = "Limited"
    """Nothing was sent: the provider's limits had no room in time. Not counted as an attempt."""


@dataclass(frozen=True, slots=True)
class AttemptEnd:
    candidate: int
    """Index into `Plan.candidates`."""
    status: int | None = None
    failure: Failure | None = None
    retry_after_ms: int | None = None
    should_retry: bool | None = None


@dataclass(frozen=True, slots=True)
class Again:
    candidate: int
    """Index into `Plan.candidates`."""
    delay_ms: int


@dataclass(frozen=True, slots=True)
class Stop:
    refusal: Refusal | None
    """None: hand on the last answer as it is, with `x-should-retry: false` if it was a retryable one; after
    Failure.LIMITED there is none."""


_RETRY_AFTER_MAX_MS = 60_000
"""Longest wait for an application that does not say how long it will wait itself."""


def is_retryable(status: int) -> bool:
    """429 and 5xx; every other 4xx would fail again, or is not ours to repeat."""
    return status == 429 or status >= 500


def answered(candidate: int, status: int, headers: Headers, now_unix_s: float) -> AttemptEnd:
    """The end of an attempt that got an answer; reads `retry-after(-ms)` and `x-should-retry`."""
    given = dict(headers)
    said = given.get(b"x-should-retry")
    should_retry = {b"true": True, b"false": False}.get(said.strip().lower()) if said is not None else None
    return AttemptEnd(candidate, status, None, _retry_after_ms(given, now_unix_s), should_retry)


def next_step(
    plan: Plan, ends: tuple[AttemptEnd, ...], pick: float, patience_left_ms: int | None = None
) -> Again | Stop:
    """What to do after the attempts so far (one at least).

    `pick` is uniform in [0, 1) and drawn once per attempt by the caller.
    `patience_left_ms`: how long the application will still wait; None: unknown.
    """
    last = ends[-1]
    if last.status is not None and not is_retryable(last.status):
        return Stop(None)
    made = tuple(end for end in ends if end.failure is not Failure.LIMITED)
    left = plan.rule.retry.attempts - len(made)
    if left <= 0 or (patience_left_ms is not None and patience_left_ms <= 0):
        return Stop(_give_up(plan, last))
    following = last.candidate + 1
    has_following = following < len(plan.candidates)
    if last.failure is Failure.LIMITED:
        return Again(following, 0) if has_following else Stop(None)
    delay_ms = _delay_ms(plan, ends, pick)
    if (
        last.should_retry is not False
        and _share_left(plan, made) > 0
        and _fits(delay_ms, plan, has_following, patience_left_ms)
    ):
        return Again(last.candidate, delay_ms)
    if has_following:
        return Again(following, 0)
    return Stop(_give_up(plan, last))


def _share_left(plan: Plan, ends: tuple[AttemptEnd, ...]) -> int:
    """Attempts that the current candidate may still have, with those after it not forgotten."""
    current = ends[-1].candidate
    here = sum(end.candidate == current for end in ends)
    at_its_start = plan.rule.retry.attempts - (len(ends) - here)
    share = -(-at_its_start // (len(plan.candidates) - current))
    return share - here


def _delay_ms(plan: Plan, ends: tuple[AttemptEnd, ...], pick: float) -> int:
    """Retry-After as it is; else exponential, with up to a quarter less so that replicas spread."""
    last, retry = ends[-1], plan.rule.retry
    if last.retry_after_ms is not None:
        return last.retry_after_ms
    here = sum(end.candidate == last.candidate for end in ends)
    full = min(retry.max_ms, retry.base_ms * 2 ** min(here - 1, 30))
    return int(full * (1 - 0.25 * pick))


def _fits(delay_ms: int, plan: Plan, has_following: bool, patience_left_ms: int | None) -> bool:
    """Whether waiting is sensible: the application is still there, and no other backend could answer sooner."""
    if has_following and delay_ms > plan.rule.retry.max_ms:
        return False
    return delay_ms < (_RETRY_AFTER_MAX_MS if patience_left_ms is None else patience_left_ms)


def _give_up(plan: Plan, last: AttemptEnd) -> Refusal | None:
    if last.failure in (None, Failure.LIMITED):
        return None  # the answer is handed on, or the limit's own refusal says it
    return unanswered(plan.candidates[last.candidate].backend, last.failure)


def unanswered(backend: Backend, failure: Failure) -> Refusal:
    """What the application hears of a backend that gave no answer."""
    match failure:
        case Failure.TIMEOUT:
            return Refusal(504, "UpstreamTimeout", f"backend {backend.name} did not answer in time: see its `timeouts`")
        case Failure.CONNECT | Failure.LIMITED:
            return Refusal(503, "UpstreamUnreachable", f"backend {backend.name}: no connection to {backend.endpoint}")
        case Failure.RESET:
            return Refusal(503, "UpstreamReset", f"backend {backend.name} closed the connection before it answered")


def _retry_after_ms(given: dict[bytes, bytes], now_unix_s: float) -> int | None:
    """`retry-after-ms`, else `retry-after` in seconds or as a date; None for nonsense."""
    try:
        if (exact := given.get(b"retry-after-ms")) is not None:
            return max(0, int(float(exact)))
        if (said := given.get(b"retry-after")) is None:
            return None
        try:
            return max(0, int(float(said) * 1000))
        except ValueError:
            when = parsedate_to_datetime(said.decode("latin-1"))
            return max(0, int((when.timestamp() - now_unix_s) * 1000))
    except (ValueError, OverflowError, TypeError, IndexError):
        # A provider's header may hold anything; the date parser raises each of these on some of it.
        return None
