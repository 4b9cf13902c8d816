"""What an embedder is asked, in OpenAI's API, and the vectors that it answers with. Pure."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import orjson

from keelage_sidecar.core.neighbours import Vector, unit

DIMENSIONS_MAX = 4096
"""Of a vector; the largest of today's models have as many."""


class _Entry(msgspec.Struct):
    index: int
    embedding: list[float]


class _Answer(msgspec.Struct):
    data: list[_Entry]


_DECODER = msgspec.json.Decoder(_Answer)


def asked(model: str, dimensions: int, texts: Sequence[str]) -> bytes:
    """The body of the call; `dimensions` 0: as many as the model has."""
    body: dict[str, object] = {"model": model, "input": list(texts), "encoding_format": "float"}
    if dimensions:
        body["dimensions"] = dimensions
    return orjson.dumps(body)


def vectors_of(body: bytes, count: int) -> list[Vector] | None:
    """One for each of so many texts, in their order; None where the answer is not that."""
    try:
        entries = _DECODER.decode(body).data
    except msgspec.DecodeError:
        return None
    if sorted(entry.index for entry in entries) != list(range(count)):
        return None
    if len({len(entry.embedding) for entry in entries}) != 1 or len(entries[0].embedding) > DIMENSIONS_MAX:
        return None
    found = [unit(entry.embedding) for entry in sorted(entries, key=lambda entry: entry.index)]
    vectors = [vector for vector in found if vector is not None]
    return vectors if len(vectors) == count else None
