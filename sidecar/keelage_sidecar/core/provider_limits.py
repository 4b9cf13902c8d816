"""What a provider says to be left of its rate limits, in the headers of any answer.

Anthropic: `anthropic-ratelimit-{requests,input-tokens,output-tokens,tokens}-{limit,remaining,reset}`, resets as
RFC 3339. OpenAI and those like it: `x-ratelimit-{limit,remaining,reset}-{requests,tokens}`, resets as `6m0.5s`.
Whatever else is in them is as if nothing was said.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from datetime import datetime

import msgspec

from keelage_api.proxy_config import Quota, Unit
from keelage_sidecar.core.refusal import Headers

COUNT_MAX = 1 << 53
MINUTE_MS = 60_000

_ANTHROPIC = {
    b"requests": Unit.REQUESTS,
    b"input-tokens": Unit.INPUT_TOKENS,
    b"output-tokens": Unit.OUTPUT_TOKENS,
    b"tokens": Unit.TOKENS,
}
_OPENAI = {b"requests": Unit.REQUESTS, b"tokens": Unit.TOKENS}
_COUNT = re.compile(rb"\d{1,16}(?:\.0*)?")
_DURATION = re.compile(r"(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m(?!s))?(?:(\d+(?:\.\d+)?)s)?(?:(\d+(?:\.\d+)?)ms)?")
_SECONDS = (86_400.0, 3_600.0, 60.0, 1.0, 0.001)


class Remaining(msgspec.Struct, frozen=True):
    """The provider's word on one of its limits."""

    unit: Unit
    left: int
    limit: int | None = None
    resets_in_s: float | None = None
    """Until all of it is there again; None where it was not said."""


def remaining(headers: Headers, now_unix_s: float) -> tuple[Remaining, ...]:
    """What the answer's headers say; empty for any garbage."""
    given = dict(headers)
    found: list[Remaining] = []
    for word, unit in _ANTHROPIC.items():
        prefix = b"anthropic-ratelimit-" + word
        left = _count(given.get(prefix + b"-remaining"))
        if left is not None:
            limit, reset = _count(given.get(prefix + b"-limit")), given.get(prefix + b"-reset")
            found.append(Remaining(unit, left, limit, _until(reset, now_unix_s)))
    for word, unit in _OPENAI.items():
        left = _count(given.get(b"x-ratelimit-remaining-" + word))
        if left is not None:
            limit, reset = _count(given.get(b"x-ratelimit-limit-" + word)), given.get(b"x-ratelimit-reset-" + word)
            found.append(Remaining(unit, left, limit, _duration(reset)))
    return tuple(found)


def left_of(quotas: Iterable[Quota], said: tuple[Remaining, ...]) -> tuple[tuple[str, int], ...]:
    """Of each quota that the provider spoke about: its name and what is left of it.

    Providers speak of their shortest windows, so nothing is concluded for quotas of more than a minute. Where only
    all tokens together are limited, no more of either kind is left.
    """
    found: list[tuple[str, int]] = []
    for quota in quotas:
        if quota.window_ms > MINUTE_MS:
            continue
        own = [each.left for each in said if each.unit is quota.unit]
        if not own and quota.unit in (Unit.INPUT_TOKENS, Unit.OUTPUT_TOKENS):
            own = [each.left for each in said if each.unit is Unit.TOKENS]
        if own:
            found.append((quota.name, min(own)))
    return tuple(found)


def _count(raw: bytes | None) -> int | None:
    """A whole number, which some servers write with a point."""
    text = raw.strip() if raw is not None else b""
    if not _COUNT.fullmatch(text):
        return None
    return min(int(text.partition(b".")[0]), COUNT_MAX)


def _until(raw: bytes | None, now_unix_s: float) -> float | None:
    """Seconds until a moment in RFC 3339."""
    if raw is None or len(raw) > 64:
        return None
    try:
        moment = datetime.fromisoformat(raw.strip().decode("ascii"))
        return max(0.0, moment.timestamp() - now_unix_s) if moment.tzinfo is not None else None
    except (ValueError, OverflowError):
        return None


def _duration(raw: bytes | None) -> float | None:
    """Seconds of `1s`, `6m0s`, `20ms`, `1h2m3.5s`, or of a bare number."""
    text = raw.strip().decode("latin-1") if raw is not None and len(raw) <= 64 else ""
    match = _DURATION.fullmatch(text)
    if text and match is not None:
        return sum(float(part) * unit for part, unit in zip(match.groups(), _SECONDS, strict=True) if part)
    try:
        seconds = float(text)
    except ValueError:
        return None
    return seconds if math.isfinite(seconds) and seconds >= 0 else None
