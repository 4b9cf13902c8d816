"""Answers that are read before they are told, or are not passed on: errors, and those of the other API."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from keelage_api.proxy_config import Backend, Dialect
from keelage_sidecar.core.meter import PLAIN_BYTES_MAX, Meter
from keelage_sidecar.core.refusal import Refusal, render
from keelage_sidecar.shell import story as outcomes
from keelage_sidecar.shell.answer import UpstreamError
from keelage_sidecar.shell.call import Call
from keelage_sidecar.shell.relay import Body
from keelage_sidecar.shell.story import Story

if TYPE_CHECKING:
    from keelage_sidecar.core.translation.interpreter import Interpreter

SWALLOWED_BYTES = 64 * 1024
SWALLOWED_S = 2.0
"""How much of an answer that is not passed on is read: enough for the type of its error."""


async def tell(
    call: Call,
    interpreter: Interpreter,
    body: Body,
    meter: Meter,
    first: bytes,
    headers: list[tuple[bytes, bytes]],
    story: Story,
    unix_s: int,
) -> bool:
    """Read an answer that is no stream to its end, and say what it says in the application's API; whether it got there.

    `first`: the body's first piece.
    """
    kept, size, piece, whole = list[bytes](), 0, first, True
    try:
        while piece:
            meter.feed(piece)
            size += len(piece)
            if size <= PLAIN_BYTES_MAX:
                kept.append(piece)
            piece = b"" if body.at_end else await body.read()
    except UpstreamError:
        whole = False
    meter.finish()
    said = body.answer.status
    text = b"".join(kept) if whole and size <= PLAIN_BYTES_MAX else b""
    status, told = interpreter.answer(said, text, unix_s, story.request_id)
    if said < 300 <= status:  # it was billed all the same: an SDK that tries again would pay again
        headers = [*(field for field in headers if field[0] != b"x-should-retry"), (b"x-should-retry", b"false")]
    call.reply(status, headers, told)
    if story.copy is not None:
        story.copy.begin(status, headers)
        story.copy.add(told)
        story.copy.whole = whole
    story.outcome = outcomes.TRUNCATED if not whole else outcomes.OK if status < 400 else outcomes.UPSTREAM_ERROR
    return whole


def tell_lost(
    call: Call, backend: Backend, status: int, headers: list[tuple[bytes, bytes]], dialect: Dialect, story: Story
) -> None:
    """An error whose text has not come."""
    text = f"backend {backend.name} answered with status {status}, and the text of the error was lost on the way"
    status, told, body = render(Refusal(status, "UpstreamTruncated", text), dialect, story.request_id)
    named = {b"content-encoding", *(name for name, _ in told)}
    call.reply(status, [*(each for each in headers if each[0] not in named), *told], body)
    story.outcome = outcomes.UPSTREAM_ERROR


async def first_of_error(body: Body) -> bytes:
    """Empty where it takes too long, or never comes."""
    try:
        async with asyncio.timeout(SWALLOWED_S):
            return await body.read()
    except (TimeoutError, UpstreamError):
        return b""  # the status is there, and says enough


async def late_text(body: Body) -> bytes:
    """The first of the text of an error that is handed on after all, however long it takes; empty where none comes."""
    try:
        return await body.read()
    except UpstreamError:
        return b""


async def swallow(body: Body, meter: Meter, read: int) -> None:
    """Let the meter see the rest of an error, `read` bytes of which it has seen."""
    try:
        async with asyncio.timeout(SWALLOWED_S):
            while read < SWALLOWED_BYTES and (piece := await body.read()):
                read += len(piece)
                meter.feed(piece)
    except (TimeoutError, UpstreamError):
        pass  # then there is no evidence, and the attempt is charged accordingly
    meter.finish()
