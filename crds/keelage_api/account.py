"""Names of accounts: a budget or quota, a window, and for limits that hold `per` something a value.

The value is made by the sidecar and is a key in the ledger: bounded, printable, and without
a character that means something in a file, a label or a line of a log.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from hashlib import sha256

PART_MAX = 64
RATE_WINDOW = "rate"
"""Window id of every account of a quota: it has no beginning and no end."""
_QUOTA = ("rate:", "limit:")
_PLAIN = re.compile(r"[A-Za-z0-9_.@:+=-]{1,64}")


def account_value(parts: Iterable[str]) -> str:
    """One part per member of `per`, in its order: `alice`, `alice/search`.

    What is empty becomes `-`; what is too long or not plain becomes `~` and 32 hexadecimal digits of its digest, so
    that two different values never share an account.
    """
    return "/".join(_plain(part) for part in parts)


def is_quota(name: str) -> bool:
    """Whether a statement's `budget` names a quota (`proxy_config.Quota.name`); no budget's name has a colon."""
    return name.partition("/")[2].startswith(_QUOTA)


def _plain(part: str) -> str:
    if not part:
        return "-"
    if part != "-" and _PLAIN.fullmatch(part):
        return part
    return f"~{sha256(part.encode()).hexdigest()[:32]}"


def shard_of(value: str, shards: int) -> int:
    """Which of the ledger's objects holds the value's account: equal on every replica, for ever."""
    return int.from_bytes(sha256(value.encode()).digest()[:4], "big") % shards
