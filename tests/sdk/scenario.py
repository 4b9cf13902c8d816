"""What applications do with an SDK, and what the provider answers them."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["SCENARIOS", "Scenario"]

STATUSES = (
    *("400", "400-spend", "401", "402", "403", "404", "408", "409", "413", "422"),
    *("429", "500", "503", "504", "529"),
)
RETRIED = ("408", "409", "429", "500", "503", "504", "529")
"""Both SDKs send these again, twice."""
RESPONSES = ("response", "response stream", "response tool", "response tool stream", "stored response")
SOON = ":0.01"
"""A `retry-after-ms` of 10, lest the matrix spend its time in the SDKs' back-off."""


@dataclass(frozen=True, slots=True)
class Scenario:
    """`call` is one of those in `client_program.py`, `fault` one of the fake provider's."""

    name: str
    call: str
    fault: str = ""


def _refused(call: str, status: str) -> Scenario:
    return Scenario(f"{call} {status}", call, status + SOON if status in RETRIED else status)


_COMMON = (
    *(Scenario(call, call) for call in ("plain", "stream", "raw stream", "tool", "tool stream", "models")),
    *(_refused("plain", status) for status in STATUSES),
    *(_refused("stream", status) for status in ("400", "429", "529")),
    Scenario("plain 400 told to retry", "plain", "400:0.01,should-retry:true"),
    Scenario("plain 500 told not to retry", "plain", "500,should-retry:false"),
    Scenario("error event", "stream", "error-event:6"),
    Scenario("cut stream", "stream", "cut:6"),
    Scenario("early end", "stream", "eof:6"),
    Scenario("reset", "plain", "reset"),
    Scenario("hang", "impatient", "hang"),
)

SCENARIOS = {
    "anthropic": (
        *_COMMON,
        Scenario("count tokens", "count tokens"),
        Scenario("batch", "batch"),
        Scenario("batch 400", "batch", "400"),
        *(Scenario(f"batch {status}", "batch", status + SOON) for status in ("429", "529")),
        Scenario("plain 429-spend", "plain", "429-spend,should-retry:false"),
    ),
    "openai": (
        *_COMMON,
        Scenario("embeddings", "embeddings"),
        *(Scenario(call, call) for call in RESPONSES),
        *(_refused("response", status) for status in ("400", "401", "429", "500")),
        Scenario("response error event", "response stream", "error-event:6"),
        Scenario("response cut stream", "response stream", "cut:6"),
        Scenario("response early end", "response stream", "eof:6"),
        Scenario("plain 429-quota", "plain", "429-quota,should-retry:false"),
    ),
}
