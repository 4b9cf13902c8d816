"""Undoes a content encoding that an upstream applied although it was asked for none: usage must be readable."""

from __future__ import annotations

import zlib
from typing import Protocol


class Decoder(Protocol):
    def decode(self, data: bytes) -> bytes:
        """What these bytes hold; raises ValueError for a broken encoding."""


class Inflate:
    """gzip (RFC 9110 8.4.1.3) and zlib; `wbits` 47 tells them apart by their headers."""

    def __init__(self) -> None:
        self._inflate = zlib.decompressobj(47)

    def decode(self, data: bytes) -> bytes:
        try:
            return self._inflate.decompress(data)
        except zlib.error as error:
            raise ValueError(f"content-encoding: {error}") from error


def decoder_for(encoding: bytes) -> Decoder | None:
    """A decoder, or None where there is nothing to undo, or nothing that can be."""
    if encoding.lower() in (b"gzip", b"x-gzip", b"deflate"):
        return Inflate()
    return None
