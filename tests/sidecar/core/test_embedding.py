"""What embedders are asked and answer."""

from __future__ import annotations

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keelage_dev.provider.embedding import complaint, embeddings
from keelage_sidecar.core.embedding import DIMENSIONS_MAX, asked, vectors_of


def answer(*entries: object) -> bytes:
    return orjson.dumps({"object": "list", "data": entries, "usage": {"prompt_tokens": 1}})


@pytest.mark.parametrize("dimensions", [0, 256])
def test_a_provider_takes_the_body_and_its_answer_is_read(dimensions: int) -> None:
    body = orjson.loads(asked("text-embedding-3-small", dimensions, ["one", "two"]))
    assert complaint(body) is None
    vectors = vectors_of(embeddings(body)[0], 2)
    assert vectors is not None
    assert [len(vector) for vector in vectors] == [dimensions or 1536] * 2
    assert vectors[0] != vectors[1]


def test_vectors_come_in_the_order_of_the_texts() -> None:
    vectors = vectors_of(answer({"index": 1, "embedding": [0, 2]}, {"index": 0, "embedding": [3, 0]}), 2)
    assert vectors is not None
    assert [list(vector) for vector in vectors] == [[1, 0], [0, 1]]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        answer(),
        answer({"index": 0, "embedding": "AAAA"}),
        answer({"index": 1, "embedding": [1]}),
        answer({"index": 0, "embedding": [1]}, {"index": 1, "embedding": [1]}),
        answer({"index": 0, "embedding": []}),
        answer({"index": 0, "embedding": [0, 0]}),
        answer({"index": 0, "embedding": [1] * (DIMENSIONS_MAX + 1)}),
    ],
)
def test_anything_else_is_no_answer(body: bytes) -> None:
    assert vectors_of(body, 1) is None


@given(st.binary(max_size=100))
def test_no_bytes_break_it(body: bytes) -> None:
    assert vectors_of(body, 1) is None
