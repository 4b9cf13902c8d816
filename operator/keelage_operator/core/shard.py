"""Which ledger holds an account: the id of its window says what it counts and for whom, its shard where it is.

A budget that counts something else, or for somebody else, than before has another ledger:
amounts of the one mean nothing in the other.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache

from keelage_api.account import shard_of, window_kind
from keelage_api.proxy_config import Per, Unit
from keelage_api.sync import Statement

SHARDS = 32
"""Objects per window of a budget with values: 10,000 users are 313 accounts in each, some 50 KiB."""

_BUDGET = re.compile(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?")
_WINDOW = re.compile(r"|\d{4}-[0-9TWZ-]{2,16}([.]tokens)?([.][ufp]{1,3})?")
_VALUE = re.compile(r"[A-Za-z0-9_.@:+=~/-]{0,200}")
_VALUED = re.compile(r"[.]([ufp]{1,3})$")


def ledger_window(calendar_id: str, unit: Unit, per: Iterable[Per]) -> str:
    """The id of a budget's window: `2026-11`, `2026-11.tokens`, `2026-11.u`, `2026-11.tokens.uf`."""
    kind = window_kind(unit, per)
    return f"{calendar_id}.{kind}" if kind else calendar_id


@lru_cache(maxsize=1024)
def has_values(window: str) -> bool:
    """Whether a ledger of that window holds an account for each value."""
    return _VALUED.search(window) is not None


def holds_for(window: str) -> int:
    """Of how many names the values in a ledger of that window are made: 2 of user and feature."""
    found = _VALUED.search(window)
    return len(found[1]) if found is not None else 0


@lru_cache(maxsize=1 << 14)
def home_of(window: str, value: str) -> int:
    """The shard that holds the value's account."""
    return shard_of(value, SHARDS) if has_values(window) else 0


def names_a_ledger(namespace: str, statement: Statement) -> bool:
    """Whether the names are a budget of that namespace, a window and a value: a store makes paths of them."""
    owner, _, budget = statement.budget.partition("/")
    return (
        owner == namespace
        and _BUDGET.fullmatch(budget) is not None
        and _WINDOW.fullmatch(statement.window) is not None
        and _VALUE.fullmatch(statement.value) is not None
    )
