"""What upstreams sent, read leniently: a value of another type than expected counts as absent."""

from __future__ import annotations

from collections.abc import Mapping

import orjson

_NOTHING: dict[str, object] = {}
EMPTY = ("", "null")
"""Arguments of a call without any, as some servers write them instead of `{}`."""


def parsed(data: bytes) -> dict[str, object]:
    """The JSON object in those bytes; empty for anything else."""
    try:
        value = orjson.loads(data)
    except orjson.JSONDecodeError:
        return _NOTHING
    return value if isinstance(value, dict) else _NOTHING


def text_of(holder: Mapping[str, object], name: str) -> str:
    value = holder.get(name)
    return value if isinstance(value, str) else ""


def object_of(holder: Mapping[str, object], name: str) -> dict[str, object]:
    value = holder.get(name)
    return value if isinstance(value, dict) else _NOTHING


def objects_of(holder: Mapping[str, object], name: str) -> list[dict[str, object]]:
    value = holder.get(name)
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []


def content_of(holder: Mapping[str, object]) -> str:
    """The text of a chat message or delta; some servers, such as Mistral's that reason, send a list of parts."""
    texts = (text_of(part, "text") for part in objects_of(holder, "content") if part.get("type") == "text")
    return text_of(holder, "content") or "".join(texts)


def index_of(holder: Mapping[str, object]) -> int | None:
    value = holder.get("index")
    return value if isinstance(value, int) and not isinstance(value, bool) else None
