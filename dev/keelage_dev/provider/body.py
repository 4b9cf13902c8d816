"""Reading request bodies: the border where untyped JSON becomes typed values."""

from __future__ import annotations

from collections.abc import Mapping

import orjson

__all__ = ["items", "mapping", "mappings", "packed", "parsed", "text", "whole"]


def parsed(raw: bytes) -> Mapping[str, object] | None:
    """The JSON object in `raw`, None when it holds anything else."""
    try:
        value: object = orjson.loads(raw)
    except orjson.JSONDecodeError:
        return None
    return value if isinstance(value, dict) else None


def mapping(value: object) -> Mapping[str, object]:
    """`value` if it is an object, else an empty one."""
    return value if isinstance(value, dict) else {}


def items(value: object) -> list[object]:
    """`value` if it is a list, else an empty one."""
    return value if isinstance(value, list) else []


def mappings(value: object) -> list[Mapping[str, object]]:
    """The objects in a list."""
    return [each for each in items(value) if isinstance(each, dict)]


def text(value: object) -> str:
    """`value` if it is a string, else an empty one."""
    return value if isinstance(value, str) else ""


def whole(value: object) -> int | None:
    """`value` if it is an integer (true and false are not), else None."""
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def packed(*values: object) -> bytes:
    """A canonical form: the same content gives the same bytes."""
    return b"".join(orjson.dumps(value, option=orjson.OPT_SORT_KEYS) for value in values if value is not None)
