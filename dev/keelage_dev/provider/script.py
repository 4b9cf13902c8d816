"""A reply with its delays and faults, as the steps that a connection plays one after the other."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import Enum, auto
from http import HTTPStatus

from keelage_dev.provider.exchange import SSE, Charge, Reply, Request
from keelage_dev.provider.settings import Settings

__all__ = ["End", "Step", "script"]

GZIP_WINDOW = 31
"""zlib's way to ask for a gzip frame."""
GARBAGE = b"\x16\x03\x01 this is not HTTP\r\n\r\n"
MALFORMED_EVENT = b'event: content_block_delta\ndata: {"type":"content_block_delta","index":0,"delta":{"typ\n\n'
MALFORMED_BODY = b'{"id": "msg_fake", "content": [{"type": "te'
LAST_CHUNK = b"0\r\n\r\n"


class End(Enum):
    """What becomes of the connection after a step."""

    GO_ON = auto()
    NEXT_REQUEST = auto()
    CLOSE = auto()
    RESET = auto()
    HANG = auto()


@dataclass(frozen=True, slots=True)
class Step:
    """Wait, charge, then send; in that order, so that nothing is sent that is not on the bill."""

    wait_s: float = 0.0
    data: bytes = b""
    charges: tuple[Charge, ...] = ()
    end: End = End.GO_ON


def script(request: Request, reply: Reply, settings: Settings) -> Iterator[Step]:
    """The steps of a reply; the last one, and only it, has an `end` other than GO_ON."""
    fault = reply.fault
    wait = fault.slow_s + (settings.latency_s if not request.path.startswith("/fake/") else 0.0)
    if fault.hang:
        yield Step(end=End.HANG)
    elif fault.reset or fault.reset_billed:
        yield Step(wait, charges=reply.charges if fault.reset_billed else (), end=End.RESET)
    elif fault.garbage:
        yield Step(wait, GARBAGE, end=End.CLOSE)
    elif reply.events is None:
        yield from _whole(request, reply, wait)
    else:
        yield from _stream(request, reply, settings, wait)


def _whole(request: Request, reply: Reply, wait: float) -> Iterator[Step]:
    fault = reply.fault
    if request.method == "HEAD":
        head = _head(request, reply, f"content-length: {len(reply.body)}\r\n", False)
        yield Step(wait, head, reply.charges, End.NEXT_REQUEST if request.keep_alive else End.CLOSE)
        return
    body = MALFORMED_BODY if fault.malformed and reply.status == 200 else reply.body
    coded = "gzip" in request.headers.get("accept-encoding", "") and len(body) > 0
    if coded:
        body = zlib.compress(body, 1, GZIP_WINDOW)
    data = _head(request, reply, f"content-length: {len(body)}\r\n", coded) + body
    after = fault.cut_after if fault.cut_after is not None else fault.eof_after
    if reply.status == 200 and (after is not None or fault.hang_after is not None):
        end = End.HANG if after is None else End.RESET if fault.cut_after is not None else End.CLOSE
        yield Step(wait, data[: len(data) - len(body) // 2 - 1], reply.charges, end)
    else:
        yield Step(wait, data, reply.charges, End.NEXT_REQUEST if request.keep_alive else End.CLOSE)


def _stream(request: Request, reply: Reply, settings: Settings, wait: float) -> Iterator[Step]:
    fault = reply.fault
    coded = settings.gzip_streams and "gzip" in request.headers.get("accept-encoding", "")
    packer = zlib.compressobj(1, zlib.DEFLATED, GZIP_WINDOW) if coded else None

    def chunk(data: bytes) -> bytes:
        if packer is not None:
            data = packer.compress(data) + packer.flush(zlib.Z_SYNC_FLUSH)
        return b"%x\r\n%b\r\n" % (len(data), data)

    def finish(end: End = End.NEXT_REQUEST) -> Step:
        last = packer.flush() if packer is not None else b""
        coded_end = b"%x\r\n%b\r\n" % (len(last), last) if last else b""
        return Step(data=coded_end + LAST_CHUNK, end=end if request.keep_alive else End.CLOSE)

    yield Step(wait, _head(request, reply, "transfer-encoding: chunked\r\n", coded), reply.charges)
    gap = settings.first_event_s
    owed = reply.charges[0] if reply.charges else None
    events = reply.events or ()
    bought: dict[int, tuple[Charge, ...]] = {0: ()}  # most events hold as many tokens as the one before
    for at, event in enumerate(events):
        if at == fault.cut_after:
            yield Step(end=End.RESET)
            return
        if at == fault.eof_after:
            yield finish()
            return
        if at == fault.hang_after:
            yield Step(end=End.HANG)
            return
        if at == fault.error_event_after:
            yield Step(gap, chunk(reply.error_event))
            yield finish()
            return
        data = event.data
        if fault.malformed and at == len(events) // 2:
            data = MALFORMED_EVENT
        charges = bought.get(event.tokens)
        if charges is None and owed is not None:
            charges = (replace(owed, usd=reply.token_usd * event.tokens, new_call=False),)
            bought[event.tokens] = charges
        yield Step(gap, chunk(data), charges or ())
        gap = settings.gap_s
    if fault.cut_after is not None:
        yield Step(end=End.RESET)
    elif fault.error_event_after is not None:
        yield Step(gap, chunk(reply.error_event))
        yield finish()
    else:
        yield finish()


def _head(request: Request, reply: Reply, framing: str, coded: bool) -> bytes:
    try:
        reason = HTTPStatus(reply.status).phrase
    except ValueError:  # 529 is Anthropic's own
        reason = "Overloaded" if reply.status == 529 else "Error"
    lines = [f"HTTP/1.1 {reply.status} {reason}\r\ncontent-type: {reply.content_type}\r\n{framing}"]
    if reply.content_type == SSE:
        lines.append("cache-control: no-cache\r\n")
    if coded:
        lines.append("content-encoding: gzip\r\nvary: Accept-Encoding\r\n")
    if not request.keep_alive:
        lines.append("connection: close\r\n")
    lines += [f"{name}: {value}\r\n" for name, value in reply.headers]
    lines.append("\r\n")
    return "".join(lines).encode()
