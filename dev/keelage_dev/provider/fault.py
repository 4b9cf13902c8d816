"""What goes wrong with one request, on purpose.

Written as a comma list, in the request header `x-fake-fault` or as one entry of the schedule:

    429, 500, 529 …      a refusal with that status in the shape of the API called
    429:30               the same with `retry-after: 30`; 429:0.5 gives `retry-after-ms: 500` beside it
    429-spend, 429-quota, 400-spend   the vendors' spend limits
    should-retry:false   adds `x-should-retry` to the refusal
    slow-first-byte:2    two seconds before the status line
    hang, hang:N         never answers; or stops for good after N events
    reset, reset-billed  the connection is reset before the reply; the second is billed all the same
    cut:N, eof:N         after N events the connection is reset; or the reply ends early but cleanly
    malformed-sse, malformed-json, garbage   broken event, broken body, not HTTP at all
    error-event, error-event:N   an error inside the stream, after N events (default 3), which ends it
    ok                   nothing
"""

from __future__ import annotations

from dataclasses import dataclass, replace

__all__ = ["NONE", "BadFault", "Fault", "parse"]


class BadFault(ValueError):
    """A fault that the fake provider does not know; the text names it."""


@dataclass(frozen=True, slots=True)
class Fault:
    """All that may go wrong with a request; the default is that nothing does."""

    status: int = 0
    """0: no refusal."""
    variant: str = ""
    """`spend` or `quota`: which of the meanings of the status."""
    retry_after_s: float | None = None
    should_retry: str = ""
    slow_s: float = 0.0
    hang: bool = False
    hang_after: int | None = None
    reset: bool = False
    reset_billed: bool = False
    garbage: bool = False
    cut_after: int | None = None
    eof_after: int | None = None
    error_event_after: int | None = None
    malformed: bool = False


NONE = Fault()
ERROR_EVENT_AFTER = 3
"""Past `message_start` and the start of the first block: the application has seen text."""


def parse(text: str) -> Fault:
    """Read a comma list of faults. Raises `BadFault`."""
    fault = NONE
    for word in text.split(","):
        name, _, argument = word.strip().partition(":")
        if name and name != "ok":
            fault = _with(fault, name, argument)
    return fault


def _with(fault: Fault, name: str, argument: str) -> Fault:
    status, _, variant = name.partition("-")
    if len(status) == 3 and status.isdigit() and status[0] in "45" and variant in ("", "spend", "quota"):
        after = _number(name, argument) if argument else None
        return replace(fault, status=int(status), variant=variant, retry_after_s=after)
    match name:
        case "should-retry" if argument in ("true", "false"):
            return replace(fault, should_retry=argument)
        case "slow-first-byte":
            return replace(fault, slow_s=_number(name, argument))
        case "hang" if argument:
            return replace(fault, hang_after=int(_number(name, argument)))
        case "hang":
            return replace(fault, hang=True)
        case "reset":
            return replace(fault, reset=True)
        case "reset-billed":
            return replace(fault, reset_billed=True)
        case "garbage":
            return replace(fault, garbage=True)
        case "cut":
            return replace(fault, cut_after=int(_number(name, argument)))
        case "eof":
            return replace(fault, eof_after=int(_number(name, argument)))
        case "error-event":
            return replace(fault, error_event_after=int(_number(name, argument)) if argument else ERROR_EVENT_AFTER)
        case "malformed-sse" | "malformed-json":
            return replace(fault, malformed=True)
        case _:
            raise BadFault(f"{name}: no such fault, or without the argument it needs")


def _number(name: str, argument: str) -> float:
    try:
        number = float(argument)
    except ValueError as wrong:
        raise BadFault(f"{name}: a number expected after the colon, not {argument!r}") from wrong
    if not 0 <= number < 1e6:
        raise BadFault(f"{name}: between 0 and a million expected, not {argument!r}")
    return number
