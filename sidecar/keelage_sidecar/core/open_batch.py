"""Batches whose cost is not known yet, and when to ask their provider about each.

The application usually reads the results itself, which settles them in passing; this is for when it
does not, or not through this sidecar.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Iterable
from dataclasses import dataclass

import orjson

from keelage_sidecar.core.batch import BatchOrder
from keelage_sidecar.core.claim import Hold
from keelage_sidecar.core.refusal import Headers
from keelage_sidecar.core.request import Facts

OPEN_MAX = 64
"""Batches that a sidecar holds money for; each has up to eight holds in the journal, which has 4096 in all."""
FIRST_LOOK_S = 30.0
LOOK_S = 60.0
LOOK_MAX_S = 600.0
"""Between looks, each half as long again as the one before: most batches end within the hour, some take a day."""
GIVE_UP_S = 48 * 3600.0
"""After creation. A batch ends within 24 hours; what says nothing for as long again is charged at its bound."""
OBJECT_BYTES_MAX = 16 * 1024 * 1024
"""Of a batch object or a list of them: a thousand, the most in a list, take 700 KB."""

_ID = re.compile(r"[A-Za-z0-9_-]{1,128}")
_HOST = re.compile(rb"[A-Za-z0-9._:\[\]-]{1,255}")
_RESULTS_URL = re.compile(rb'("results_url"[ \t\r\n]*+:[ \t\r\n]*+)("[^"\\]*+(?:\\.[^"\\]*+)*+")')
_RESULTS_PATH = re.compile(
    r"https?://[^/?#]+(?:/[^?#]*)?(/v1/messages/batches/[A-Za-z0-9_-]{1,128}/results(?:\?[^#]*)?)"
)


class Stage(enum.Enum):
    """What one look at a batch has shown."""

    RUNNING = enum.auto()
    ENDED = enum.auto()
    GONE = enum.auto()
    """The provider does not know it any more: there will be no results."""
    UNKNOWN = enum.auto()
    """No answer, or one that says nothing."""


@dataclass(slots=True)
class OpenBatch:
    """Times are on the sidecar's monotonic clock."""

    id: str
    order: BatchOrder
    """Without its body."""
    holds: tuple[Hold | None, ...]
    """For each lot; None where no budget applies."""
    headers: Headers
    """Of the call that created it, as far as the provider needs them again."""
    facts: Facts
    """Of that call, without its body: user and feature for the log."""
    request_id: str
    created_s: float
    due_s: float = 0.0
    """When to look next; set by `OpenBatches`."""
    looks: int = 0


class OpenBatches:
    """All of one sidecar: a bounded number, counted from before they are created."""

    def __init__(self) -> None:
        self._batches: dict[str, OpenBatch] = {}
        self._creating = 0

    def __len__(self) -> int:
        return len(self._batches)

    def enter(self) -> bool:
        """Take a place for a batch that is about to be created; False: there is none. `leave` it in any case."""
        if len(self._batches) + self._creating >= OPEN_MAX:
            return False
        self._creating += 1
        return True

    def leave(self) -> None:
        """The creation has ended: what came of it was added, or nothing was."""
        self._creating -= 1

    def add(self, batch: OpenBatch) -> None:
        self._batches[batch.id] = batch
        batch.due_s = batch.created_s + FIRST_LOOK_S

    def find(self, batch_id: str) -> OpenBatch | None:
        return self._batches.get(batch_id)

    def take(self, batch_id: str) -> OpenBatch | None:
        """Whoever takes it settles it: nobody else will."""
        return self._batches.pop(batch_id, None)

    def take_all(self) -> Iterable[OpenBatch]:
        batches = tuple(self._batches.values())
        self._batches.clear()
        return batches

    def due(self, now_s: float) -> tuple[OpenBatch, ...]:
        """Whom to look at now, the longest due first."""
        due = [batch for batch in self._batches.values() if batch.due_s <= now_s]
        return tuple(sorted(due, key=lambda batch: batch.due_s))

    def looked(self, batch: OpenBatch, stage: Stage, now_s: float) -> bool:
        """Note a look that found no results; whether its cost will never be known, so that its bound is charged."""
        batch.looks += 1
        batch.due_s = now_s + min(LOOK_MAX_S, LOOK_S * 1.5 ** min(batch.looks - 1, 20))
        return stage is Stage.GONE or now_s - batch.created_s >= GIVE_UP_S


def stage_of(status: int, body: bytes) -> Stage:
    """What the provider's answer to `GET /v1/messages/batches/{id}` says; any bytes say something."""
    if status == 404:
        return Stage.GONE
    try:
        answer = orjson.loads(body)
    except orjson.JSONDecodeError:
        return Stage.UNKNOWN
    if status != 200 or not isinstance(answer, dict):
        return Stage.UNKNOWN
    match answer.get("processing_status"):
        case "ended":
            # Archived results are gone for good, 29 days after the end.
            return Stage.GONE if answer.get("archived_at") is not None else Stage.ENDED
        case "in_progress" | "canceling":
            return Stage.RUNNING
        case _:
            return Stage.UNKNOWN


def created_id(body: bytes) -> str | None:
    """The new batch's id; None where the answer names none that could be asked about."""
    try:
        answer = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    name = answer.get("id") if isinstance(answer, dict) else None
    return name if isinstance(name, str) and _ID.fullmatch(name) else None


def through_sidecar(body: bytes, host: bytes) -> bytes:
    """A batch object, or a list of them, with each `results_url` leading to the sidecar that the application called.

    The SDK fetches that URL as it is, so it would go past the sidecar, with a key that is none. Nothing else
    in the bytes is touched.
    """

    def replaced(found: re.Match[bytes]) -> bytes:
        try:
            path = _RESULTS_PATH.fullmatch(orjson.loads(found[2]))
        except orjson.JSONDecodeError:
            path = None
        return found[0] if path is None else found[1] + orjson.dumps(f"http://{host.decode('ascii')}{path[1]}")

    return _RESULTS_URL.sub(replaced, body) if _HOST.fullmatch(host) else body
