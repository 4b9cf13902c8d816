"""The last will of a sidecar: what it has spent at most, told by the pod's status after its death.

The sidecar keeps one record in its container's termination message file; the kubelet
publishes it however the container ended. Whoever can patch a pod's status can write such
a text, so it bears a MAC with a key that only the ledger and this holder know. It is ASCII
and says itself where it begins and ends, since a runtime may put text of its own around it:

    {keelage-will-1 <incarnation> <seq> <account>:<spent>:<promised> ... <mac>}

numbers in hexadecimal, amounts in pico-dollars, `account` a digest of budget and window.
The pod is not in it but in the key: under another pod the record does not verify.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Iterable
from functools import lru_cache
from hashlib import sha256

import msgspec

RECORD_BYTES = 1024
"""A pod's status keeps 12 KiB of messages for all of its containers."""
ACCOUNTS_MAX = 16
"""That many accounts fit whatever their amounts; for the others there is no evidence."""

_MAGIC = "keelage-will-1"
_RECORD = re.compile(
    r"\{(keelage-will-1 ([0-9a-zA-Z_-]{1,32}) ([0-9a-f]{1,16}) "
    r"((?:[0-9a-f]{16}:[0-9a-f]{1,16}:[0-9a-f]{1,16} ){0,16}))([0-9a-f]{64})\}"
)


class Promise(msgspec.Struct, frozen=True):
    """Of one account, pico-dollars."""

    spent: int
    """Settled when the record was written."""
    promised: int
    """The holder spends and reserves no more than this in all before it writes another record."""


class Will(msgspec.Struct, frozen=True):
    incarnation: str
    seq: int
    """Of the newest statement that the holder may have sent: older than what the ledger heard, it is void."""
    promises: dict[str, Promise] = {}
    """By `account_of`."""

    def on(self, budget: str, window: str, value: str = "") -> Promise | None:
        return self.promises.get(account_of(budget, window, value))


@lru_cache(maxsize=1024)
def account_of(budget: str, window: str, value: str = "") -> str:
    """16 hexadecimal digits for `<namespace>/<budget>` in a window; the MAC makes collisions no attack."""
    name = f"{budget}\n{window}\n{value}" if value else f"{budget}\n{window}"
    return sha256(name.encode()).hexdigest()[:16]


def write_will(will: Will, key: bytes) -> bytes:
    """The record, at most RECORD_BYTES for ACCOUNTS_MAX promises."""
    assert len(will.promises) <= ACCOUNTS_MAX
    accounts = "".join(f"{name}:{each.spent:x}:{each.promised:x} " for name, each in will.promises.items())
    text = f"{_MAGIC} {will.incarnation} {will.seq:x} {accounts}"
    return f"{{{text}{_mac(text, key)}}}".encode("ascii")


def incarnation_in(message: str) -> str:
    """Whose record the message claims to hold, not verified; empty: it holds none."""
    found = _last(message)
    return found[2] if found is not None else ""


def read_will(message: str, keys: Iterable[bytes]) -> Will | None:
    """The record in a termination message; None if there is no whole one made with one of the keys."""
    found = _last(message)
    if found is None or not any(hmac.compare_digest(found[5], _mac(found[1], key)) for key in keys):
        return None
    promises = {}
    for account in found[4].split():
        name, spent, promised = account.split(":")
        promises[name] = Promise(int(spent, 16), int(promised, 16))
    return Will(found[2], int(found[3], 16), promises)


def _last(message: str) -> re.Match[str] | None:
    """The last record is the file's own: a runtime's text stands before it."""
    found = list(_RECORD.finditer(message))
    return found[-1] if found else None


def _mac(text: str, key: bytes) -> str:
    return hmac.digest(key, text.encode("ascii"), "sha256").hex()
