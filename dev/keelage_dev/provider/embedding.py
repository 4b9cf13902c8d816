"""OpenAI's embeddings: unit vectors made from digests of the text, or of its words."""

from __future__ import annotations

import base64
import hashlib
import math
import struct
from collections.abc import Mapping

import orjson

from keelage_dev.provider.body import items, packed, text, whole
from keelage_dev.provider.chat import Complaint
from keelage_dev.provider.usage import Usage, tokens_of

__all__ = ["complaint", "embeddings"]

DIMENSIONS = {"text-embedding-3-small": 1536, "text-embedding-3-large": 3072}
DIMENSIONS_MAX = 3072
INPUTS_MAX = 2048


def complaint(body: Mapping[str, object]) -> Complaint | None:
    """What OpenAI would refuse; None when nothing."""
    if not text(body.get("model")):
        return Complaint("you must provide a model parameter")
    if not body.get("input"):
        return Complaint("'$.input' is invalid. Please check the API reference.")
    if len(_texts(body)) > INPUTS_MAX:
        return Complaint(f"'input' must hold at most {INPUTS_MAX} entries", "input")
    dimensions = body.get("dimensions")
    if dimensions is not None and not 1 <= (whole(dimensions) or 0) <= DIMENSIONS_MAX:
        return Complaint("Invalid value for 'dimensions'.", "dimensions")
    return None


def embeddings(body: Mapping[str, object], vectors: str = "digest") -> tuple[bytes, Usage]:
    """The reply and what it is billed for; `vectors` as in `Settings`."""
    model = text(body.get("model"))
    size = whole(body.get("dimensions")) or DIMENSIONS.get(model, 1536)
    in_base64 = body.get("encoding_format") == "base64"
    data: list[dict[str, object]] = []
    tokens = 0
    for at, raw in enumerate(_texts(body)):
        vector = _vector(_seen(raw, vectors), size)
        as_sent: object = vector
        if in_base64:
            as_sent = base64.b64encode(struct.pack(f"<{size}f", *vector)).decode()
        data.append({"object": "embedding", "index": at, "embedding": as_sent})
        tokens += tokens_of(raw)
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    return orjson.dumps({"object": "list", "data": data, "model": model, "usage": usage}), Usage(input=tokens)


def _texts(body: Mapping[str, object]) -> list[bytes]:
    """One entry per vector: a string, or a list of strings, or of token lists; a list of integers is one text."""
    value = body.get("input")
    if isinstance(value, str):
        return [value.encode()]
    each_of = items(value)
    if each_of and all(isinstance(each, int) for each in each_of):
        return [packed(value)]
    return [each.encode() if isinstance(each, str) else packed(each) for each in each_of]


def _seen(raw: bytes, vectors: str) -> list[bytes]:
    """What of the text its vector is made of."""
    if vectors == "alike":
        return [b"any"]
    if vectors == "digest":
        return [raw]
    words = raw.lower().split()
    return [part for word in words for part in (word, *(b"%b_" % word[at : at + 3] for at in range(len(word) - 2)))]


def _vector(parts: list[bytes], size: int) -> list[float]:
    sums = [0.0] * size
    for part in parts:
        stream = hashlib.shake_128(part).digest(2 * size)
        for at, number in enumerate(struct.unpack(f"<{size}H", stream)):
            sums[at] += number - 32767.5
    length = math.sqrt(sum(number * number for number in sums))
    return [number / length for number in sums]
