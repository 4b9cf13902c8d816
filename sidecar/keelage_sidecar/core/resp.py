"""The protocol of Valkey and Redis (RESP2), as far as a cache needs it: commands to bytes, bytes to replies."""

from __future__ import annotations

import msgspec

from keelage_api.errors import KeelageError

LINE_MAX = 64 * 1024
"""A line that is longer is no reply: error texts have a few hundred bytes."""


class RespError(KeelageError):
    """What the server sends is no reply. Mended by whoever runs the server."""


class Failed(msgspec.Struct, frozen=True):
    """The server refuses the command."""

    text: str


Reply = bytes | int | Failed | None
"""None: there is no such value."""


def command(*words: bytes) -> bytes:
    """One command with its arguments."""
    return b"".join((b"*%d\r\n" % len(words), *(b"$%d\r\n%b\r\n" % (len(word), word) for word in words)))


class RespReader:
    """Feed what was received, get the replies that it completed. Raises RespError; nothing can be read after that."""

    def __init__(self, value_max: int) -> None:
        """`value_max`: bytes of a value; a longer one is an error."""
        self._value_max = value_max
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[Reply]:
        self._buffer += data
        replies, start = list[Reply](), 0
        while (end := self._buffer.find(b"\r\n", start)) >= 0:
            kind, rest = self._buffer[start : start + 1], bytes(self._buffer[start + 1 : end])
            after = end + 2
            match kind:
                case b"+":
                    replies.append(rest)
                case b"-":
                    replies.append(Failed(rest[:200].decode("latin-1")))
                case b":":
                    replies.append(_number(rest))
                case b"$":
                    size = _number(rest)
                    if size > self._value_max:
                        raise RespError(f"a value of {size} bytes: more than {self._value_max} are never kept")
                    if size < 0:
                        replies.append(None)
                    else:
                        if len(self._buffer) < after + size + 2:
                            break
                        if self._buffer[after + size : after + size + 2] != b"\r\n":
                            raise RespError("a value does not end where it should")
                        replies.append(bytes(self._buffer[after : after + size]))
                        after += size + 2
                case _:
                    raise RespError(f"not a reply: it begins with {bytes(kind)!r}")
            start = after
        del self._buffer[:start]
        if len(self._buffer) > LINE_MAX and not self._buffer.startswith(b"$"):
            raise RespError(f"a line of more than {LINE_MAX} bytes")
        return replies


def _number(text: bytes) -> int:
    digits = text.removeprefix(b"-")
    if not digits.isdigit() or len(digits) > 18:
        raise RespError(f"not a number: {text[:40]!r}")
    return int(text)
