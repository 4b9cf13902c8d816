"""Again, whom and when; or stop. Asked only before the application got its first byte."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from keelage_sidecar.core.refusal import Headers, Refusal
from keelage_sidecar.core.routing import Plan


class Failure(enum.StrEnum):
    """How an attempt ended without an answer."""

    CONNECT = "ConnectError"
    """No connection: nothing was sent."""
    TIMEOUT = "Timeout"
    RESET = "Reset"


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
    """None: hand on the last answer as it is, with `x-should-retry: false` if it was a retryable one."""


def answered(candidate: int, status: int, headers: Headers, now_unix_s: float) -> AttemptEnd:
    """The end of an attempt that got an answer; reads `retry-after(-ms)` and `x-should-retry`."""
    raise AssertionError


def next_step(
    plan: Plan, ends: tuple[AttemptEnd, ...], pick: float, patience_left_ms: int | None = None
) -> Again | Stop:
    """What to do after the attempts so far (one at least).

    `pick` is uniform in [0, 1) and drawn once per attempt by the caller.
    `patience_left_ms`: how long the application will still wait; None: unknown.
    """
    raise AssertionError
