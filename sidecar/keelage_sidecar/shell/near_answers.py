"""Calls that may be answered with the answer to another one: their vectors asked for, and compared.

A question is only measured where one in the same words is kept, together with those of them that have no vector yet.
Whatever the embedder does, the call goes on: it is a miss then.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from keelage_api.proxy_config import ModelChoice
from keelage_api.response_cache import Semantic
from keelage_sidecar.core.embedding import asked, vectors_of
from keelage_sidecar.core.endpoints import EMBEDDINGS
from keelage_sidecar.core.log_line import Purpose
from keelage_sidecar.core.neighbours import Vector
from keelage_sidecar.core.response_cache import KeptAnswer, ResponseCache
from keelage_sidecar.shell.inner_call import Asker, InnerCalls, Unanswered, Whom
from keelage_sidecar.shell.means import Means

if TYPE_CHECKING:
    from keelage_sidecar.core.alike import Asked

PAUSE_S = 10.0
"""After a failure no call waits for the embedder for so long."""
KNOWN_MAX = 256
"""Vectors of questions that were answered already, by a digest of their text: 1.5 MiB at 1,536 dimensions. One that is
asked again and again is paid for once."""


@dataclass(frozen=True, slots=True)
class Found:
    """What comparing a question has led to."""

    answer: KeptAnswer | None = None
    """None: there is none near enough."""
    similarity: float = 0.0
    cost: int = 0
    """Pico-dollars that the vectors cost."""
    vector: Vector | None = None
    """Of the question itself; None: it was not measured."""


class NearAnswers:
    def __init__(self, means: Means, cache: ResponseCache, inner: InnerCalls) -> None:
        self._means = means
        self._cache = cache
        self._inner = inner
        self._known: dict[bytes, Vector] = {}
        """The one that was used last comes last."""
        self._paused: dict[tuple[str, str], float] = {}
        """By backend and model, until when; as many as the configuration has."""

    async def find(self, asker: Asker, terms: Semantic, question: Asked, age_max_s: float) -> Found | None:
        """None: it was not compared with any, as there are none or the embedder is left alone."""
        neighbours = self._cache.neighbours
        if not neighbours.has_any(question.partition):
            return None
        name = hashlib.sha256(question.partition + question.text.encode("utf-8", "surrogatepass")).digest()
        vector, cost = self._known.pop(name, None), 0
        unmeasured = neighbours.unmeasured(question.partition)
        if vector is None or unmeasured:
            if self._means.clock() < self._paused.get((terms.backend, terms.model), 0.0):
                return None
            texts = [question.text, *(text for _, text in unmeasured)]
            vectors, cost = await self._measured(asker, terms, texts)
            if vectors is None:
                return Found(cost=cost)
            vector = vectors[0]
            for (key, _), measured in zip(unmeasured, vectors[1:], strict=True):
                self._cache.place(key, question.partition, measured)
        if len(self._known) >= KNOWN_MAX:
            del self._known[next(iter(self._known))]
        self._known[name] = vector
        for similarity, key in neighbours.near(question.partition, vector, terms.threshold):
            kept = self._cache.find(key, self._means.clock(), age_max_s)
            if kept is not None:
                return Found(kept, similarity, cost, vector)
        return Found(cost=cost, vector=vector)

    async def _measured(self, asker: Asker, terms: Semantic, texts: list[str]) -> tuple[list[Vector] | None, int]:
        """A vector for each, and what they cost."""
        left_s = asker.story.patience_left_s(self._means.clock())
        timeout_s = terms.timeout_ms / 1000
        whom = Whom(
            (ModelChoice(terms.backend, terms.model),),
            timeout_s if left_s is None else max(0.0, min(timeout_s, left_s / 2)),
        )
        body = asked(terms.model, terms.dimensions, texts)
        answer = await self._inner.ask(asker, whom, EMBEDDINGS, body, Purpose.EMBEDDING)
        vectors = None if isinstance(answer, Unanswered) else vectors_of(answer.body, len(texts))
        if vectors is None:
            self._paused[terms.backend, terms.model] = self._means.clock() + PAUSE_S
        return vectors, answer.cost
