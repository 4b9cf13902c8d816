"""Undoes a content encoding that an upstream applied although it was asked for none: usage must be readable."""

from __future__ import annotations

import zlib
from typing import Protocol

PIECE_BYTES = 256 * 1024
"""Of what is unpacked at a time: a thousand times as much may be packed in the bytes that arrive at once."""
_WBITS = 47
_MAGIC = b"\x1f\x8b"


class Decoder(Protocol):
    @property
    def pending(self) -> bool:
        """There is more to unpack without further bytes: call `decode` with none."""

    def decode(self, data: bytes) -> bytes:
        """What these bytes hold, at most PIECE_BYTES of it; raises ValueError for a broken encoding."""


class Inflate:
    """gzip (RFC 9110 8.4.1.3) and zlib; `wbits` 47 tells them apart by their headers."""

    def __init__(self) -> None:
        self._inflate = zlib.decompressobj(_WBITS)
        self._full = False

    @property
    def pending(self) -> bool:
        inflate = self._inflate
        return self._full or bool(inflate.unconsumed_tail) or inflate.unused_data.startswith(_MAGIC)

    def decode(self, data: bytes) -> bytes:
        data = self._inflate.unconsumed_tail + data
        if self._inflate.eof and (data := self._inflate.unused_data + data).startswith(_MAGIC):
            self._inflate = zlib.decompressobj(_WBITS)  # another member of the file (RFC 1952 2.2)
        try:
            plain = self._inflate.decompress(data, PIECE_BYTES)
        except zlib.error as error:
            raise ValueError(f"content-encoding: {error}") from error
        self._full = len(plain) == PIECE_BYTES
        return plain


def decoder_for(encoding: bytes) -> Decoder | None:
    """A decoder, or None where there is nothing to undo, or nothing that can be."""
    if encoding.lower() in (b"gzip", b"x-gzip", b"deflate"):
        return Inflate()
    return None
