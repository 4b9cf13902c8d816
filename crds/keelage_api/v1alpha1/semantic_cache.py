"""Answers that are given to calls which ask the same in other words."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, StringConstraints

from keelage_api.v1alpha1.constraint import Constraint, constrained, pattern
from keelage_api.v1alpha1.metadata import Duration, ModelName, Name, Part, duration_ms

TIMEOUT_MAX = "5s"


class Embedder(Part):
    """A model that makes vectors of texts."""

    backend: Name
    """One of `spec.backends`, with provider OpenAI or OpenAICompatible."""
    model: ModelName
    """Asked at `/v1/embeddings`."""
    dimensions: Annotated[int, Field(ge=16, le=4096)] | None = None
    """Of its vectors, for models that can be asked for fewer. Left out: the model's own number, 4,096 at most."""


@constrained(
    Constraint["SemanticCache"](
        cel=f"duration(self.timeout) <= duration('{TIMEOUT_MAX}')",
        message=f"timeout must not be longer than {TIMEOUT_MAX}: calls wait for it before they are sent",
        holds=lambda part: duration_ms(part.timeout) <= duration_ms(TIMEOUT_MAX),
        field=".timeout",
    )
)
class SemanticCache(Part):
    """A question gets the answer that was kept of another one with the same words, but for politeness, articles, the
    form of numbers and some synonyms, where an embedder finds the two alike, too. All else of the two calls must be
    equal. Only for calls with one question in plain text, without tools and with temperature 0 or none."""

    embedder: Embedder
    """Who is asked for vectors, in a call of its own: it reserves on the budgets that the application's call falls
    under. Only asked where a question in the same words is kept."""
    threshold: Annotated[
        str,
        StringConstraints(min_length=1, max_length=6),
        pattern(
            r"0\.[5-9][0-9]{0,3}|1(\.0{1,4})?",
            'must be a number from 0.5 to 1 as a decimal string with at most 4 decimals, as in "0.92"',
        ),
    ] = "0.92"
    """How alike (cosine) their vectors must be."""
    ttl: Duration | None = None
    """How old such an answer may be; left out: `exact.ttl`."""
    timeout: Duration = "300ms"
    """How long a call waits for the embedder. After a failure it is left alone for ten seconds."""
