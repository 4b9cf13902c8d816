"""How a fake provider behaves: set on the command line, changed over `POST /fake/config`.

Every field is plain JSON, so a test in another process can set what one in this process can.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace

__all__ = ["BadSetting", "Settings", "changed"]


VECTORS = ("digest", "words", "alike")


class BadSetting(ValueError):
    """A setting that does not exist or has another type; the text names it."""


@dataclass(frozen=True, slots=True)
class Settings:
    """Delays are seconds, counts are tokens unless the name says otherwise."""

    latency_s: float = 0.0
    """Before the status line."""
    first_event_s: float = 0.0
    """Between the status line and the first event of a stream."""
    gap_s: float = 0.0
    """Between two events of a stream."""
    output_tokens: int = 12
    """Visible tokens of a reply; the request's own cap may cut them."""
    tokens_per_event: int = 1
    thinking_tokens: int = 0
    """Billed output that comes before the visible one: thinking or reasoning."""
    cached_tokens: int = 0
    """Of the prompt, how many are reported as read from the cache, whatever was sent before."""
    cache_min_tokens: int = 1024
    """Shorter prefixes are silently not cached, as at Anthropic."""
    replies: dict[str, str] = field(default_factory=dict)
    """Model to the text it answers; "*" is for every other model. Four characters are a token."""
    tool_calls: bool = True
    """Whether an offered tool is called; a tool that is forced always is."""
    strict_models: bool = False
    """404 for models that the price list does not know; else they cost as much as the dearest."""
    prices: dict[str, list[str]] = field(default_factory=dict)
    """More models: [input, output, cache read, cache write 5m, cache write 1h] in USD per million tokens."""
    batch_polls: int = 1
    """How many retrievals answer `in_progress` before a batch has ended."""
    batch_s: float = 0.0
    """How long a batch is in progress at the least, whatever is retrieved."""
    batch_outcomes: dict[str, str] = field(default_factory=dict)
    """`custom_id` to what becomes of it instead of a success: `errored`, `expired` or `canceled`; none is billed."""
    vectors: str = "digest"
    """Of embeddings: "digest", by which no two texts are alike; "words", by which those with the same words and parts
    of words are; "alike", by which all are, as to the worst of embedders."""
    gzip_streams: bool = False
    schedule: list[str] = field(default_factory=list)
    """Faults, one entry taken per request to a model; "ok" is none. See `fault.parse`."""
    model_faults: dict[str, str] = field(default_factory=dict)
    """Model to a fault that every request for it gets."""
    requests_kept: int = 200


def changed(settings: Settings, changes: Mapping[str, object]) -> Settings:
    """`settings` with some fields replaced.

    Raises `BadSetting` for an unknown name or a value of another type than the default's.
    """
    known = {each.name: each for each in fields(Settings)}
    for name, value in changes.items():
        if name not in known:
            raise BadSetting(f"{name}: no such setting; there are {', '.join(sorted(known))}")
        now: object = getattr(settings, name)
        wanted: tuple[type, ...] = (float, int) if isinstance(now, float) else (type(now),)
        if not isinstance(value, wanted) or (isinstance(value, bool) and not isinstance(now, bool)):
            raise BadSetting(f"{name}: {type(now).__name__} expected, not {value!r}")
        if isinstance(value, (int, float)) and value < 0:
            raise BadSetting(f"{name}: must not be negative")
        _judge_parts(name, value)
    return replace(settings, **changes)  # type: ignore[arg-type]  # judged field by field above


def _judge_parts(name: str, value: object) -> None:
    """Raise `BadSetting` when a list or an object holds other things than its setting takes."""
    if name == "vectors" and value not in VECTORS:
        raise BadSetting(f"{name}: one of {', '.join(VECTORS)} expected")
    if isinstance(value, list) and not all(isinstance(each, str) for each in value):
        raise BadSetting(f"{name}: a list of strings expected")
    if isinstance(value, dict) and name != "prices" and not all(isinstance(each, str) for each in value.values()):
        raise BadSetting(f"{name}: an object of strings expected")
    if isinstance(value, dict) and name == "prices":
        for model, rates in value.items():
            if not isinstance(rates, list) or len(rates) != 5 or not all(isinstance(rate, str) for rate in rates):
                raise BadSetting(f"prices.{model}: five decimal strings expected")
