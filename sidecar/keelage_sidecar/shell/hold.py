"""An answer that is held back: read on, and kept for whoever passes it on."""

from __future__ import annotations

from keelage_sidecar.core.judge import HELD_BYTES_MAX, Judge, Verdict
from keelage_sidecar.shell.answer import UpstreamError
from keelage_sidecar.shell.relay import Body


async def hold_back(body: Body, held: list[bytes], judge: Judge) -> Verdict:
    """Read until the judge knows, adding to `held`, which has the beginning; raises UpstreamError."""
    verdict = judge.feed(held[0])
    while verdict is Verdict.OPEN:
        piece = b"" if body.at_end else await body.read()
        held.append(piece)
        verdict = judge.feed(piece) if piece else judge.end()
    return verdict


async def take_in(body: Body, held: list[bytes]) -> None:
    """Read to the end, or as much as may be held back."""
    size = len(held[0])
    try:
        while size < HELD_BYTES_MAX and not body.at_end and (piece := await body.read()):
            held.append(piece)
            size += len(piece)
    except UpstreamError:
        pass  # whoever passes it on comes upon it again
