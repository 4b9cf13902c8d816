"""Anthropic's message batches: half price, results as JSON lines, progress counted in polls."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import orjson

from keelage_dev.provider.body import mapping, mappings, text

__all__ = ["Batch", "BatchEntry", "Batches", "complaint"]

BATCHES_KEPT = 1000
REQUESTS_MAX = 100_000
CREATED = "2026-01-01T00:00:00Z"
EXPIRES = "2026-01-02T00:00:00Z"


@dataclass(frozen=True, slots=True)
class BatchEntry:
    """One request of a batch and, once it has ended, its result object."""

    custom_id: str
    params: Mapping[str, object]


@dataclass(slots=True)
class Batch:
    """`results` is None until it has ended."""

    id: str
    entries: tuple[BatchEntry, ...]
    key: str
    polls_left: int
    ready_s: float
    """On the provider's clock: before it the batch is in progress."""
    canceling: bool = False
    results: list[dict[str, object]] | None = None

    def view(self, host: str) -> dict[str, object]:
        """The batch object; `host` makes its `results_url` absolute, as the provider's is."""
        ended = self.results is not None
        status = "ended" if ended else ("canceling" if self.canceling else "in_progress")
        counts = {
            "processing": 0 if ended else len(self.entries),
            "succeeded": 0,
            "errored": 0,
            "canceled": 0,
            "expired": 0,
        }
        for result in self.results or ():
            counts[text(mapping(result["result"])["type"])] += 1
        return {
            "id": self.id,
            "type": "message_batch",
            "processing_status": status,
            "request_counts": counts,
            "created_at": CREATED,
            "expires_at": EXPIRES,
            "ended_at": CREATED if ended else None,
            "cancel_initiated_at": CREATED if self.canceling else None,
            "archived_at": None,
            "results_url": f"http://{host}/v1/messages/batches/{self.id}/results" if ended else None,
        }

    def lines(self) -> bytes:
        """The results as JSON lines."""
        return b"".join(orjson.dumps(result) + b"\n" for result in self.results or ())


@dataclass(slots=True)
class Batches:
    """All batches of one provider, oldest first; a bounded number."""

    _all: dict[str, Batch] = field(default_factory=dict)
    _made: int = 0

    def create(self, body: Mapping[str, object], key: str, polls: int, ready_s: float) -> Batch:
        """A batch from a body that `complaint` accepted."""
        self._made += 1
        entries = tuple(
            BatchEntry(text(each.get("custom_id")), mapping(each.get("params")))
            for each in mappings(body.get("requests"))
        )
        batch = Batch(f"msgbatch_fake{self._made:08d}", entries, key, polls, ready_s)
        self._all[batch.id] = batch
        while len(self._all) > BATCHES_KEPT:
            del self._all[next(iter(self._all))]
        return batch

    def find(self, name: str) -> Batch | None:
        """None if there is no such batch."""
        return self._all.get(name)

    def delete(self, name: str) -> None:
        """Forget a batch that exists."""
        del self._all[name]

    def newest_first(self) -> list[Batch]:
        """In the order of the listing."""
        return list(reversed(self._all.values()))


def complaint(body: Mapping[str, object]) -> str | None:
    """Why a batch is refused with 400; None when it is not."""
    requests = mappings(body.get("requests"))
    if not requests:
        return "requests: at least one request is required"
    if len(requests) > REQUESTS_MAX:
        return f"requests: at most {REQUESTS_MAX} requests"
    names = [text(each.get("custom_id")) for each in requests]
    if not all(names):
        return "requests.0.custom_id: Field required"
    if len(set(names)) != len(names):
        return "requests: custom_id must be unique"
    return None
