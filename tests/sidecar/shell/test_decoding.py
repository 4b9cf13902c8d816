"""Content encodings are undone piece by piece."""

from __future__ import annotations

import gzip
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keelage_sidecar.shell.decoding import PIECE_BYTES, Decoder, decoder_for


def inflate() -> Decoder:
    decoder = decoder_for(b"gzip")
    assert decoder is not None
    return decoder


def unpacked(pieces: list[bytes]) -> bytes:
    decoder, plain = inflate(), b""
    for piece in pieces:
        plain += decoder.decode(piece)
        while decoder.pending:
            plain += decoder.decode(b"")
    return plain


@given(st.lists(st.binary(max_size=3000), min_size=1, max_size=3), st.integers(1, 500), st.booleans())
def test_any_cut_of_any_members_is_unpacked(members: list[bytes], size: int, one: bool) -> None:
    packed = zlib.compress(members[0]) if one else b"".join(gzip.compress(each) for each in members)
    pieces = [packed[i : i + size] for i in range(0, len(packed), size)] if one else [packed]
    assert unpacked(pieces) == (members[0] if one else b"".join(members))


@pytest.mark.parametrize("extra", [-1, 0, 1, 5 * PIECE_BYTES])
def test_a_bomb_is_unpacked_in_bounded_pieces(extra: int) -> None:
    plain = b"x" * (PIECE_BYTES + extra)
    decoder = inflate()
    pieces = [decoder.decode(gzip.compress(plain))]
    while decoder.pending:
        pieces.append(decoder.decode(b""))
    assert b"".join(pieces) == plain
    assert max(len(each) for each in pieces) == min(len(plain), PIECE_BYTES)


def test_padding_after_the_end_is_passed_over() -> None:
    assert unpacked([gzip.compress(b"x") + b"\0" * 100, b"\0"]) == b"x"


def test_a_broken_encoding_is_told() -> None:
    with pytest.raises(ValueError, match="content-encoding"):
        inflate().decode(b"not packed")


@pytest.mark.parametrize("encoding", [b"br", b"zstd", b"identity", b""])
def test_other_encodings_are_left_alone(encoding: bytes) -> None:
    assert decoder_for(encoding) is None
