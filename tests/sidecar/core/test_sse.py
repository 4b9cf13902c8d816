"""Events come out the same whatever the cuts and line ends."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keelage_sidecar.core import sse
from keelage_sidecar.core.sse import SseEvent, SseScanner

LINES = st.sampled_from(
    [b"data: {}", b"data:x", b"data", b"event: ping", b": comment", b"", b"id: 7", b"data:  two", b"\xff", b"a\x00"]
)
STREAMS = st.lists(st.tuples(LINES, st.sampled_from([b"\n", b"\r\n", b"\r"])), max_size=12).map(
    lambda pairs: b"".join(line + end for line, end in pairs)
)


def cut(stream: bytes, cuts: list[int]) -> list[bytes]:
    edges = [0, *sorted(min(c, len(stream)) for c in cuts), len(stream)]
    return [stream[a:b] for a, b in pairwise(edges)]


def scan(chunks: list[bytes]) -> tuple[list[SseEvent], bytes]:
    scanner = SseScanner()
    events = [event for chunk in chunks for event in scanner.feed(chunk)]
    return events + scanner.finish(), scanner.rest()


@given(STREAMS | st.binary(max_size=40), st.lists(st.integers(0, 80), max_size=6))
def test_any_cut_gives_the_same_events_and_no_byte_is_lost(stream: bytes, cuts: list[int]) -> None:
    whole = scan([stream])
    assert scan(cut(stream, cuts)) == whole
    assert scan([stream[i : i + 1] for i in range(len(stream))]) == whole
    events, rest = whole
    assert b"".join(event.raw for event in events) + rest == stream


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
def test_fields_are_read_with_any_line_end(end: bytes) -> None:
    stream = end.join([b": hello", b"event: message", b"data: a", b"data:b", b"id: 1", b"", b"data: c", b"", b""])
    events, rest = scan([stream])
    assert [(event.name, event.data) for event in events] == [(b"message", b"a\nb"), (b"", b"c")]
    assert rest == b""


def test_an_unfinished_event_is_one_only_at_the_end_of_the_stream() -> None:
    scanner = SseScanner()
    assert scanner.feed(b"data: a\n\ndata: b\n") == [SseEvent(b"", b"a", b"data: a\n\n")]
    assert scanner.finish() == [SseEvent(b"", b"b", b"data: b\n")]
    assert scanner.rest() == b""


def test_an_endless_event_is_given_up_and_its_bytes_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sse, "EVENT_BYTES_MAX", 10)
    scanner = SseScanner()
    assert scanner.feed(b"data: 0123456789") == []
    assert scanner.lost
    assert scanner.rest() == b"data: 0123456789"
    assert scanner.feed(b"\n\n") == scanner.finish() == []
