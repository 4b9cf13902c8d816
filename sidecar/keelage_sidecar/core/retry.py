"""Again, whom and when; or stop. Asked only before the application got its first byte.

The attempts of a rule are spread over its candidates in order, the earlier ones getting more: of 3
attempts at 2 backends the first gets 2. What a backend cannot use goes to the next ones. Whose circuit
is open is passed over.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Set
from dataclasses import dataclass, replace

import msgspec

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
    UNTRANSLATABLE = "Untranslatable"
    """Nothing was sent: the backend's API cannot say what the call asks. Not counted as an attempt."""
    OPEN = "CircuitOpen"
    """Nothing was sent: its last calls have failed. Not counted as an attempt."""
    OUTRUN = "Outrun"
    """Another attempt, made beside it, answered first."""


UNASKED = (Failure.LIMITED, Failure.UNTRANSLATABLE, Failure.OPEN)


@dataclass(frozen=True, slots=True)
class AttemptEnd:
    candidate: int
    """Index into `Plan.candidates`."""
    status: int | None = None
    failure: Failure | None = None
    retry_after_ms: int | None = None
    should_retry: bool | None = None
    took_ms: int = 0
    said: str = ""
    """Of an attempt without an answer: what kept it from being made. Names hosts, never a key or a prompt."""


class Again(msgspec.Struct, frozen=True):
    candidate: int
    """Index into `Plan.candidates`."""
    delay_ms: int


class Stop(msgspec.Struct, frozen=True):
    refusal: Refusal | None
    """None: hand on the last answer as it is, with `x-should-retry: false` if it was a retryable one; where nobody
    was asked there is none."""


_RETRY_AFTER_MAX_MS = 60_000
"""Longest wait for an application that does not say how long it will wait itself."""


def is_retryable(status: int) -> bool:
    """429 and 5xx; every other 4xx would fail again, or is not ours to repeat."""
    return status == 429 or status >= 500


def answered(candidate: int, status: int, headers: Headers, now_unix_s: float, took_ms: int = 0) -> AttemptEnd:
    """The end of an attempt that got an answer; reads `retry-after(-ms)` and `x-should-retry`."""
    given = dict(headers)
    said = given.get(b"x-should-retry")
    should_retry = {b"true": True, b"false": False}.get(said.strip().lower()) if said is not None else None
    return AttemptEnd(candidate, status, None, _retry_after_ms(given, now_unix_s), should_retry, took_ms)


def next_step(
    plan: Plan,
    ends: tuple[AttemptEnd, ...],
    pick: float,
    patience_left_ms: int | None = None,
    *,
    shut: Set[int] = frozenset(),
    may_repeat: bool = True,
) -> Again | Stop:
    """What to do after the attempts so far (one at least).

    `pick` is uniform in [0, 1) and drawn once per attempt by the caller.
    `patience_left_ms`: how long the application will still wait; None: unknown.
    `shut`: candidates that are not to be asked now. `may_repeat`: the retry budget allows another attempt at the
    candidate that was asked last.
    """
    last = ends[-1]
    if last.status is not None and not is_retryable(last.status):
        return Stop(None)
    made = tuple(end for end in ends if end.failure not in UNASKED)
    left = plan.rule.retry.attempts - len(made)
    if left <= 0 or (patience_left_ms is not None and patience_left_ms <= 0):
        return Stop(_give_up(plan, ends))
    following = next((each for each in range(last.candidate + 1, len(plan.candidates)) if each not in shut), None)
    if last.failure not in UNASKED:
        delay_ms = _delay_ms(plan, ends, pick)
        if (
            may_repeat
            and last.candidate not in shut
            and last.should_retry is not False
            and _share_left(plan, made) > 0
            and _fits(delay_ms, plan, following is not None, patience_left_ms)
        ):
            return Again(last.candidate, delay_ms)
    return Stop(_give_up(plan, ends)) if following is None else Again(following, 0)


def told(plan: Plan, ends: tuple[AttemptEnd, ...]) -> str:
    """Who was asked, and what became of it: `assistant/anthropic claude-haiku-4-5 529 120ms, …`; ASCII."""
    return ", ".join(_told(plan, end) for end in ends)


def _told(plan: Plan, end: AttemptEnd) -> str:
    candidate = plan.candidates[end.candidate]
    model = _UNFIT.sub("?", candidate.model[:MODEL_LENGTH_MAX])
    how = str(end.status) if end.failure is None else end.failure.value
    words = (candidate.backend.name, model, how, "" if end.failure in UNASKED else f"{end.took_ms}ms")
    return " ".join(word for word in words if word)


MODEL_LENGTH_MAX = 64
_UNFIT = re.compile(r"[^!-+\--~]")
"""The model may be whatever the application wrote, and a header bears little of that; commas are between the ends."""


def _share_left(plan: Plan, ends: tuple[AttemptEnd, ...]) -> int:
    """Attempts that the current candidate may still have, with those after it not forgotten."""
    current = ends[-1].candidate
    here = sum(end.candidate == current for end in ends)
    at_its_start = plan.rule.retry.attempts - (len(ends) - here)
    share = -(-at_its_start // (len(plan.candidates) - current))
    return share - here


def _delay_ms(plan: Plan, ends: tuple[AttemptEnd, ...], pick: float) -> int:
    """Retry-After as it is; else drawn below a bound that doubles ("full jitter"), so that replicas spread."""
    last, retry = ends[-1], plan.rule.retry
    if last.retry_after_ms is not None:
        return last.retry_after_ms
    here = sum(end.candidate == last.candidate for end in ends)
    full = min(retry.max_ms, retry.base_ms * 2 ** min(here - 1, 30))
    return int(full * (1 - pick))


def _fits(delay_ms: int, plan: Plan, has_following: bool, patience_left_ms: int | None) -> bool:
    """Whether waiting is sensible: the application is still there, and no other backend could answer sooner."""
    if has_following and delay_ms > plan.rule.retry.max_ms:
        return False
    return delay_ms < (_RETRY_AFTER_MAX_MS if patience_left_ms is None else patience_left_ms)


def _give_up(plan: Plan, ends: tuple[AttemptEnd, ...]) -> Refusal | None:
    """None: the last answer is handed on, or the refusal of whoever was not asked says it."""
    last = ends[-1]
    made = [end for end in ends if end.failure not in UNASKED]
    if last.failure in (None, Failure.LIMITED) or not made:
        return None
    backend, end = plan.candidates[made[-1].candidate].backend, made[-1]
    if end.failure is not None:
        refusal = unanswered(backend, end.failure, end.said)
    else:
        assert end.status is not None
        refusal = Refusal(end.status, "UpstreamFailed", f"backend {backend.name} answered with status {end.status}")
    if len(ends) == 1:
        return refusal
    return replace(refusal, message=f"{refusal.message}; tried in this order: {told(plan, ends)}")


def unanswered(backend: Backend, failure: Failure, said: str = "") -> Refusal:
    """What the application hears of a backend that gave no answer; `said`: why there was no connection."""
    match failure:
        case Failure.TIMEOUT:
            return Refusal(504, "UpstreamTimeout", f"backend {backend.name} did not answer in time: see its `timeouts`")
        case Failure.CONNECT | Failure.LIMITED | Failure.UNTRANSLATABLE | Failure.OPEN:
            why = f": {said}" if said else ""
            text = f"backend {backend.name}: no connection to {backend.endpoint}{why}"
            return Refusal(503, "UpstreamUnreachable", text)
        case Failure.RESET | Failure.OUTRUN:
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
            from email.utils import parsedate_to_datetime  # seldom needed, and a fortieth of each start

            when = parsedate_to_datetime(said.decode("latin-1"))
            return max(0, int((when.timestamp() - now_unix_s) * 1000))
    except (ValueError, OverflowError, TypeError, IndexError):
        # A provider's header may hold anything; the date parser raises each of these on some of it.
        return None
