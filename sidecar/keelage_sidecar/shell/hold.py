"""An answer that is held back: read on, and kept for whoever passes it on."""

from __future__ import annotations

from keelage_sidecar.core.held_bytes import HeldBytes
from keelage_sidecar.core.judge import HELD_BYTES_MAX, Judge, Verdict
from keelage_sidecar.shell.answer import UpstreamError
from keelage_sidecar.shell.relay import Body


async def hold_back(body: Body, held: list[bytes], judge: Judge, memory: HeldBytes) -> Verdict:
    """Read until the judge knows, adding to `held`, which has the beginning; raises UpstreamError.

    Where there is no memory for more, it must know now. All that is held counts in `memory`.
    """
    room = memory.take(len(held[0]))
    verdict = judge.feed(held[0])
    while verdict is Verdict.OPEN:
        if not room:
            return judge.give_up()
        piece = b"" if body.at_end else await body.read()
        held.append(piece)
        room = memory.take(len(piece))
        verdict = judge.feed(piece) if piece else judge.end()
    return verdict


async def take_in(body: Body, held: list[bytes], memory: HeldBytes) -> None:
    """Read to the end, or as much as may be held back; `held` has the beginning, which counts in `memory`."""
    size, room = len(held[0]), memory.take(0)
    try:
        while room and size < HELD_BYTES_MAX and not body.at_end and (piece := await body.read()):
            held.append(piece)
            size += len(piece)
            room = memory.take(len(piece))
    except UpstreamError:
        pass  # whoever passes it on comes upon it again
