"""Heads of requests that came before: an SDK sends the same bytes with each call, but for the length of the body.

A request with a known head is cut at its end and needs no parser; whatever differs in a byte goes through it.
"""

from __future__ import annotations

import re

import msgspec

from keelage_sidecar.core.refusal import Headers
from keelage_sidecar.shell.call import Call

HEAD_BYTES_MAX = 4 * 1024
"""SDKs send one of about 700."""
HEADS_MAX = 64
"""A port remembers no more, 256 KiB at most; an application has one or two for each of its clients."""
_DIGITS_MAX = 9
_LENGTH = re.compile(rb"\r\n(?i:content-length):[ \t]*([0-9]{1,9})(?=\r\n)")
_SPECIAL = frozenset((b"transfer-encoding", b"expect", b"upgrade"))


class KnownHead(msgspec.Struct, frozen=True):
    """Of HTTP/1.1, with a length; the connection goes on after it."""

    before: bytes
    """Up to the digits of the length."""
    after: bytes
    """Behind them, to the blank line that ends the head."""
    method: str
    target: str
    headers: Headers

    def body_of(self, data: bytes) -> bytes | None:
        """The body, if `data` is this head with any length and exactly as much behind it."""
        if not data.startswith(self.before):
            return None
        start = len(self.before)
        end = data.find(b"\r", start, start + _DIGITS_MAX + 1)
        digits = data[start:end]
        if end < 0 or not digits.isdigit() or not data.startswith(self.after, end):
            return None
        body = data[end + len(self.after) :]
        return body if len(body) == int(digits) else None


class KnownHeads:
    """Those of one port."""

    def __init__(self) -> None:
        self._heads: dict[tuple[bytes, bytes], KnownHead] = {}

    def __len__(self) -> int:
        return len(self._heads)

    def learn(self, data: bytes, call: Call) -> KnownHead | None:
        """The head of the one request in `data`, as the parser understood it; None for one that is not simple."""
        end = data.find(b"\r\n\r\n", 0, HEAD_BYTES_MAX) + 4
        length = _LENGTH.search(data, 0, end)
        if end < 4 or length is None or len(data) != end + int(length[1]):
            return None
        if not (call.http11 and call.keeps_connection) or any(name in _SPECIAL for name, _ in call.headers):
            return None
        key = (data[: length.start(1)], data[length.end(1) : end])
        known = self._heads.get(key)
        if known is None:
            if len(self._heads) >= HEADS_MAX:
                self._heads.clear()
            known = self._heads[key] = KnownHead(*key, call.method, call.target, call.headers)
        return known
