"""Counts one answer's tokens beside the bytes that pass through, and prices what was counted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from keelage_api.usage import TokenUsage
from keelage_sidecar.core.bound import Bound, Unbounded
from keelage_sidecar.core.request import Facts
from keelage_sidecar.core.routing import Candidate


@dataclass(frozen=True, slots=True)
class Reading:
    """What an answer proved about itself."""

    usage: TokenUsage | None
    """None where the answer said nothing."""
    complete: bool
    """The answer came to its proper end; false for a stream that was cut, by whomever."""
    stop_reason: str = ""
    response_model: str = ""
    error: str = ""
    """Type of the error that the answer or its stream carried; never its text."""
    final_usage: bool = False
    """`usage` is the final one, not what the first events said."""


class Meter(Protocol):
    """One answer, from the first body byte to the last."""

    def feed(self, chunk: bytes) -> bytes:
        """The bytes to forward now: the same object, unless a chunk that the application did not ask for is in it."""

    def finish(self) -> bytes:
        """Bytes held back so far; after the last `feed`."""

    def result(self, status: int, complete: bool) -> Reading:
        """After `finish`. `complete`: the transport says that the body ended as framed."""


@dataclass(frozen=True, slots=True)
class Settlement:
    amount: int
    """Pico-dollars to charge."""
    violated: bool = False
    """The bill was above the bound: charged in full, counted, raised."""
    uncertain: bool = False
    """Charged without full evidence: the bound, or a part of it."""


def meter_for(facts: Facts, candidate: Candidate, streaming: bool | None = None) -> Meter:
    """A meter for the answer; `streaming` is whether it came as `text/event-stream`, None: as asked for."""
    raise AssertionError


def settle_amount(
    reading: Reading, bound: Bound | Unbounded, candidate: Candidate, status: int, sent: bool
) -> Settlement:
    """What one attempt is charged.

    `status` is 0 where no answer came; `sent` is false where no byte of the request left.
    """
    raise AssertionError
