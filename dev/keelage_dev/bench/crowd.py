"""Ten thousand kept answers, and a question that comes in other words: what `path` measures semantic hits among."""

from __future__ import annotations

from array import array

import orjson

from keelage_api.response_cache import ResponseCache, Semantic
from keelage_sidecar.core.alike import asked_of
from keelage_sidecar.core.endpoints import MESSAGES
from keelage_sidecar.core.neighbours import SIDE_BY_SIDE_MAX, Vector
from keelage_sidecar.core.refusal import Headers
from keelage_sidecar.core.request import Facts, read_request
from keelage_sidecar.core.response_cache import KeptAnswer
from keelage_sidecar.core.response_cache import ResponseCache as Cache
from keelage_sidecar.core.routing import RoutingTable

DIMENSIONS = 1536
ANSWERS = 10_000
EMBEDDER, EMBEDDER_MODEL = "shop/openai", "text-embedding-3-small"
TERMS = ResponseCache(sampled=True, bytes_max=1 << 30, semantic=Semantic(EMBEDDER, EMBEDDER_MODEL))
QUESTION = "Please tell me how I can reset the password of my account, thanks!"
VECTORS = orjson.dumps(
    {
        "object": "list", "model": EMBEDDER_MODEL, "usage": {"prompt_tokens": 14, "total_tokens": 14},
        "data": [{"object": "embedding", "index": 0, "embedding": [1.0] + [0.0] * (DIMENSIONS - 1)}],
    }
)  # fmt: skip
"""The embedder's answer about QUESTION."""


def gather(cache: Cache, table: RoutingTable, headers: Headers, body: bytes, answer: KeptAnswer) -> None:
    """Keep that many answers. Of the question in `body` as many as there can be side by side: one is near."""
    rule = table.rules[-1]
    facts = read_request(MESSAGES, headers, body, target="/v1/messages")
    assert isinstance(facts, Facts)
    assert TERMS.semantic is not None
    salt = table.salts[rule.route, rule.name]
    asked = asked_of(salt, TERMS, TERMS.semantic, rule.tier, facts, "/v1/messages", headers)
    assert asked is not None
    cache.resize(TERMS.bytes_max)
    near, far = _unit(0), _unit(1)
    for number in range(ANSWERS):
        key = number.to_bytes(32, "big")
        cache.keep(key, answer)
        beside = number >= ANSWERS - SIDE_BY_SIDE_MAX
        cache.place(key, asked.partition if beside else key, near if number == ANSWERS - 1 else far)


def _unit(axis: int) -> Vector:
    numbers = [0.0] * DIMENSIONS
    numbers[axis] = 1.0
    return array("f", numbers)
