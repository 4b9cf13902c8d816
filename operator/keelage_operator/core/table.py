"""Objects as the columns that kubectl prints, from the same definitions as the CRDs."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

from keelage_api.v1alpha1.schema import Column

_FILTER = re.compile(r'(\w+)\[\?\(@\.(\w+)==["\'](\w+)["\']\)\]')


def render(columns: Sequence[Column], objects: Sequence[Mapping[str, object]], now: datetime, prefix: str = "") -> str:
    """Lines as kubectl prints them: NAME first, three spaces between columns, empty where there is no value.

    `prefix` stands before each name, where objects of several kinds are told.
    """
    head = ["NAME", *(column.name.upper() for column in columns)]
    body = [
        [f"{prefix}{look_up(each, '.metadata.name')}", *(_cell(column, each, now) for column in columns)]
        for each in objects
    ]
    rows = [head, *body]
    widths = [max(len(row[index]) for row in rows) for index in range(len(rows[0]))]
    return "\n".join(
        "   ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def look_up(value: object, path: str) -> object:
    """The value at a path of the small JSONPath that printer columns use; None where there is none."""
    for step in path.strip(".").split("."):
        value = value.get(step) if isinstance(value, Mapping) else None
    return value


def _cell(column: Column, each: Mapping[str, object], now: datetime) -> str:
    found = _find(each, column.json_path)
    if found is None or found == "":
        return "" if column.type != "date" else "<unknown>"
    if column.type == "date":
        return age(now - datetime.fromisoformat(str(found).replace("Z", "+00:00")))
    return str(found)


def _find(each: Mapping[str, object], path: str) -> object:
    match = _FILTER.search(path)
    if match is None:
        return look_up(each, path)
    entries = look_up(each, path[: match.start()] + match.group(1))
    if not isinstance(entries, Sequence):
        return None
    for entry in entries:
        if isinstance(entry, Mapping) and entry.get(match.group(2)) == match.group(3):
            return look_up(entry, path[match.end() :])
    return None


def age(elapsed: timedelta) -> str:
    """As kubectl abbreviates: 45s, 12m, 5h, 9d."""
    seconds = max(0, int(elapsed.total_seconds()))
    for limit, size, unit in ((120, 1, "s"), (7_200, 60, "m"), (172_800, 3_600, "h")):
        if seconds < limit:
            return f"{seconds // size}{unit}"
    return f"{seconds // 86_400}d"
