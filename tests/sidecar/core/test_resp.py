"""Replies of a Valkey server, whatever the cuts between what is received."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keelage_sidecar.core.resp import LINE_MAX, Failed, Reply, RespError, RespReader, command

REPLIES: list[tuple[bytes, Reply]] = [
    (b"+OK\r\n", b"OK"),
    (b"-NOAUTH Authentication required.\r\n", Failed("NOAUTH Authentication required.")),
    (b":-7\r\n", -7),
    (b"$-1\r\n", None),
    (b"$0\r\n\r\n", b""),
    (b"$8\r\nab\r\n$1\r\n\r\n", b"ab\r\n$1\r\n"),
]


@given(st.lists(st.sampled_from(REPLIES), max_size=6), st.lists(st.integers(0, 120), max_size=6))
def test_any_cut_yields_the_same_replies(replies: list[tuple[bytes, Reply]], cuts: list[int]) -> None:
    stream = b"".join(raw for raw, _ in replies)
    reader, found, start = RespReader(100), list[Reply](), 0
    for end in (*sorted(cuts), len(stream)):
        found += reader.feed(stream[start:end])
        start = max(start, end)
    assert found == [read for _, read in replies]


@given(st.binary(max_size=60))
def test_any_bytes_are_replies_or_one_known_error(data: bytes) -> None:
    with contextlib.suppress(RespError):
        RespReader(10).feed(data)


@pytest.mark.parametrize("raw", [b"$11\r\n", b"$x\r\n", b"*1\r\n", b"HTTP/1.1 400\r\n", b"$1\r\nab\r\n", b":\r\n"])
def test_what_is_no_reply_is_an_error(raw: bytes) -> None:
    with pytest.raises(RespError):
        RespReader(10).feed(raw)


def test_a_line_without_an_end_is_not_kept_for_ever() -> None:
    reader = RespReader(10)
    for _ in range(LINE_MAX // 1024):
        assert reader.feed(b"+" + b"x" * 1023) == []
    with pytest.raises(RespError):
        reader.feed(b"x")


def test_a_command_says_how_long_each_word_is() -> None:
    assert command(b"SET", b"a b", b"\r\n") == b"*3\r\n$3\r\nSET\r\n$3\r\na b\r\n$2\r\n\r\n\r\n"
