"""Names of accounts: a budget or quota, a window, and for limits that hold `per` something a value.

The value is made by the sidecar and is a key in the ledger: bounded, printable, and without
a character that means something in a file, a label or a line of a log.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from hashlib import sha256

from keelage_api.proxy_config import Per, Unit

PART_MAX = 64
RATE_WINDOW = "rate"
"""Window id of every account of a quota: it has no beginning and no end."""
_QUOTA = ("rate:", "limit:")
_TOKENS = "tokens"
_LETTERS = {Per.USER: "u", Per.FEATURE: "f", Per.POD: "p"}
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


def rate_kind(unit: Unit, per: Iterable[Per], window_ms: int) -> str:
    """What the name of a rule's rate limit ends in: `r60s` for requests in a minute, `t1500ms.u` for tokens per user.

    No two of a rule have the same. It holds no place in a list, so that limits may be put in another order, and no
    amount, so that what was used still counts when a limit is raised or lowered.
    """
    window = f"{window_ms // 1000}s" if window_ms % 1000 == 0 else f"{window_ms}ms"
    letters = "".join(_LETTERS[each] for each in per)
    return f"{'t' if unit is Unit.TOKENS else 'r'}{window}{'.' if letters else ''}{letters}"


def window_kind(unit: Unit, per: Iterable[Per]) -> str:
    """What a budget's window id ends in after a point, where it counts tokens or holds per something: `tokens.uf`.

    So amounts of one kind are never taken for those of another, also while a budget changes from one to the other.
    """
    letters = "".join(_LETTERS[each] for each in per)
    return ".".join(part for part in (_TOKENS if unit is Unit.TOKENS else "", letters) if part)


def kind_of(window: str) -> str:
    """The kind of the budget's window with that id."""
    return window.partition(".")[2]


def counts_tokens(window: str) -> bool:
    """Whether amounts in a budget's window with that id are tokens and not pico-dollars."""
    return kind_of(window).partition(".")[0] == _TOKENS


def _plain(part: str) -> str:
    if not part:
        return "-"
    if part != "-" and _PLAIN.fullmatch(part):
        return part
    return f"~{sha256(part.encode()).hexdigest()[:32]}"


def shard_of(value: str, shards: int) -> int:
    """Which of the ledger's objects holds the value's account: equal on every replica, for ever."""
    return int.from_bytes(sha256(value.encode()).digest()[:4], "big") % shards
