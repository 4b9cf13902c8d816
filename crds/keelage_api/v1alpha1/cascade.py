"""The cheap model first, the dear one where the cheap one's answer will not do; and what to do when a tier is slow."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, StringConstraints

from keelage_api.regex_syntax import PATTERN_MAX
from keelage_api.v1alpha1.constraint import Constraint, constrained
from keelage_api.v1alpha1.metadata import Duration, Name, Opaque, Part

_CONDITIONS = ("replyPrefix", "pattern", "maxTokens", "invalidJson", "jsonSchema")
_PERCENTILES = ("p50", "p90", "p95", "p99")


@constrained(
    Constraint["EscalateOn"](
        cel="has(self.replyPrefix) || has(self.pattern) || has(self.jsonSchema) || self.maxTokens || self.invalidJson",
        message=f"escalateOn must have one condition at least, or no answer is ever escalated: give one of"
        f" {', '.join(_CONDITIONS)}",
        holds=lambda part: part.given,
    )
)
class EscalateOn(Part):
    """When an answer will not do; any of them suffices. Of several choices (`n`) the first is judged. An answer that
    calls a tool is judged by `maxTokens` only. Nothing of an answer reaches the application before it is judged."""

    reply_prefix: Annotated[str, StringConstraints(min_length=1, max_length=200)] | None = None
    """The answer's text begins so, as in UNCERTAIN: tell the model in the prompt to say it. White space before it is
    passed over. Of a stream as much is held back as is needed: an answer that begins otherwise flows at once."""
    pattern: Annotated[str, StringConstraints(min_length=1, max_length=PATTERN_MAX)] | None = None
    """This regular expression (RE2 syntax without looking around) is found in the answer's first characters. Of a
    stream so many are held back; one that begins with ^ is done with at the first character that does not fit."""
    pattern_characters: Annotated[int, Field(ge=1, le=2000)] = 500
    """How many of the answer's first characters `pattern` is looked for in."""
    max_tokens: bool = False
    """The answer ended because it reached its cap. A stream is held back to its end."""
    invalid_json: bool = False
    """The answer's text is not JSON. A stream is held back to its end."""
    json_schema: Opaque | None = None
    """The answer's text is not JSON of this schema: `type`, `enum`, `const`, `required`, `properties`,
    `additionalProperties`, `items`, `anyOf`, lengths and bounds of numbers. A stream is held back to its end."""

    @property
    def given(self) -> bool:
        """There is a condition."""
        patterns = (self.reply_prefix, self.pattern, self.json_schema)
        return self.max_tokens or self.invalid_json or any(each is not None for each in patterns)


@constrained(
    Constraint["Cascade"](
        cel="self.from != self.to",
        message="to must be another tier than from: it is asked when the answer of from will not do",
        holds=lambda part: part.cheap != part.to,
        field=".to",
    )
)
class Cascade(Part):
    """Calls for which `from` was selected are escalated to `to` when the answer will not do; other calls are not. Both
    answers are reserved, paid for and counted. Where no budget pays for the second one, or it fails, the application
    gets the first. Messages and chat completions only."""

    cheap: Annotated[Name, Field(alias="from")]
    """The tier that is asked first: one of `spec.tiers`, and of those that the rule selects."""
    to: Name
    """The tier that is asked then: one of `spec.tiers`."""
    escalate_on: EscalateOn
    """When an answer will not do."""


_ONE_PERCENTILE = " + ".join(f"(has(self.{name}) ? 1 : 0)" for name in _PERCENTILES)


@constrained(
    Constraint["LatencyBudget"](
        cel=f"{_ONE_PERCENTILE} == 1",
        message=f"exactly one percentile must be given: {', '.join(_PERCENTILES)}, as in p95: 5s",
        holds=lambda part: len(part.bounds) == 1,
    )
)
class LatencyBudget(Part):
    """How long the models of a rule's tier may take; while they take longer, another tier is asked. Measured by each
    sidecar over the last 100 calls of a model, once there are 20. While it is broken, a call now and then goes to the
    slow tier all the same: 5 of them in a row within the bound end it, one that is not doubles the pause before the
    next, from 10 s up to 5 min."""

    p50: Duration | None = None
    """Half of the calls take no longer."""
    p90: Duration | None = None
    """Of a hundred calls ten take longer."""
    p95: Duration | None = None
    """Of a hundred calls five take longer."""
    p99: Duration | None = None
    """Of a hundred calls one takes longer."""
    otherwise: Name
    """The tier to ask instead: one of `spec.tiers`."""

    @property
    def bounds(self) -> tuple[tuple[int, str], ...]:
        """Percentile and duration of those that are given."""
        given = ((50, self.p50), (90, self.p90), (95, self.p95), (99, self.p99))
        return tuple((percent, bound) for percent, bound in given if bound is not None)
