"""Calls that the sidecar makes itself on the way to an answer: a classifier's question, an embedding, a summary.

Each goes the way of the application's calls: it reserves on every budget, is tried again, falls back, is settled,
is attributed to the user and feature of the call that it is made for, and has a line of its own in the log.
Whatever becomes of it, that call goes on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

import msgspec
from msgspec import structs

from keelage_api.proxy_config import Dialect, ModelChoice, Rule
from keelage_sidecar.core.endpoints import Endpoint
from keelage_sidecar.core.log_line import CallRecord, Purpose
from keelage_sidecar.core.question import Question, endpoint_for, posed, reply_text
from keelage_sidecar.core.refusal import Refusal
from keelage_sidecar.core.request import Facts, Headers, Workload, read_request
from keelage_sidecar.core.routing import RoutingTable
from keelage_sidecar.shell import story as outcomes
from keelage_sidecar.shell.attempts import attempt_all
from keelage_sidecar.shell.call import Call
from keelage_sidecar.shell.means import Means
from keelage_sidecar.shell.story import Story

ANSWER_BYTES_MAX = 8 * 1024 * 1024
"""Embeddings of a few hundred texts; what is beyond counts as no answer."""
TIMED_OUT = "InnerTimeout"
NO_ANSWER = "NoAnswer"

_HEADERS: dict[Dialect, Headers] = {
    Dialect.ANTHROPIC: ((b"content-type", b"application/json"), (b"anthropic-version", b"2023-06-01")),
    Dialect.OPENAI: ((b"content-type", b"application/json"),),
}
_PATHS = {"messages": "/v1/messages", "chat": "/v1/chat/completions", "embeddings": "/v1/embeddings"}


class Asker(msgspec.Struct, frozen=True):
    """The application's call that an inner one is made for."""

    table: RoutingTable
    rule: Rule
    facts: Facts
    story: Story


class Whom(msgspec.Struct, frozen=True):
    """Who is asked, and for how long at most."""

    choices: tuple[ModelChoice, ...]
    """In fallback order; those without a model are asked for the one that the application named."""
    timeout_s: float
    tier: str = ""
    """Whose choices they are; empty: nobody's."""
    max_output_tokens: int = 0
    """Cap of an answer that is generated; 0: the body has one, or the model's own maximum."""


@dataclass(frozen=True, slots=True)
class Answered:
    body: bytes
    cost: int
    """Pico-dollars."""


class Unanswered(msgspec.Struct, frozen=True):
    """Nothing came that can be used."""

    reason: str
    """Stable CamelCase word."""
    cost: int = 0
    """Pico-dollars that it cost all the same."""


class _Memory:
    """The wire of a call that nobody is at the other end of: keeps what is written."""

    draining = False
    full = False
    local = False

    def __init__(self) -> None:
        self.closed = False
        self._pieces: list[bytes] = []
        self._size = 0

    def write(self, data: bytes, /) -> None:
        self._size += len(data)
        if self._size > ANSWER_BYTES_MAX:
            self.closed = True
            self._pieces.clear()
        else:
            self._pieces.append(data)

    async def writable(self) -> None:
        """At once: there is always room, up to the end."""

    def close(self) -> None:
        """All is there already."""

    def body(self) -> bytes:
        return b"".join(self._pieces).partition(b"\r\n\r\n")[2]


class InnerCalls:
    """Makes them. `tell` gets each once, as it gets the application's calls."""

    def __init__(self, means: Means, tell: Callable[[CallRecord], None]) -> None:
        self._means = means
        self._tell = tell

    async def question(self, asker: Asker, whom: Whom, question: Question, purpose: Purpose) -> str | Unanswered:
        """What a model says to it, not empty; asked in the API of the first choice."""
        if not whom.choices:
            return Unanswered("NoBackend")
        first = whom.choices[0]
        endpoint = endpoint_for(asker.table.config.backends[first.backend].dialect)
        answer = await self.ask(
            asker, whom, endpoint, posed(question, endpoint, first.model or asker.facts.model), purpose
        )
        if isinstance(answer, Unanswered):
            return answer
        return reply_text(endpoint, answer.body).strip() or Unanswered(NO_ANSWER)

    async def ask(
        self, asker: Asker, whom: Whom, endpoint: Endpoint, body: bytes, purpose: Purpose
    ) -> Answered | Unanswered:
        """A good answer that is no stream, or why there is none. Raises nothing but cancellation.

        `body` is one of the endpoint's, not streamed, with the model of the first choice.
        """
        means, outer = self._means, asker.facts
        headers = _HEADERS[endpoint.dialect]
        workload = Workload(outer.user, outer.feature, outer.task_type, outer.pod)
        facts = read_request(endpoint, headers, body, workload)
        if isinstance(facts, Refusal):
            return Unanswered(facts.reason)
        facts = structs.replace(facts, patience_s=whom.timeout_s)
        # A name of its own: what is found for it is not for the application's calls, which have other terms.
        rule = Rule(
            asker.rule.route,
            f"{asker.rule.name}/{purpose}",
            whom.choices,
            whom.tier,
            retry=asker.rule.retry,
            max_output_tokens=whom.max_output_tokens,
        )
        plan = asker.table.among(rule, facts)
        if isinstance(plan, Refusal):
            return Unanswered(plan.reason)
        now_s = means.clock()
        story = Story(f"{asker.story.request_id}/{purpose}", means.unix(), now_s, endpoint, facts, plan)
        story.purpose = purpose
        wire = _Memory()
        # HTTP/1.0: the body is not cut into chunks.
        call = Call(wire, "POST", _PATHS[endpoint.kind], headers, body, http11=False, received_s=now_s)
        try:
            story.plan = plan = means.health.ordered(plan, 0, facts.user, means.pick(), now_s)
            async with asyncio.timeout(whom.timeout_s):
                refusal = await attempt_all(means, call, asker.table, facts, plan, story)
            if refusal is not None:
                story.refused(refusal)
        except TimeoutError:
            story.outcome, story.reason = outcomes.UPSTREAM_ERROR, TIMED_OUT
        except asyncio.CancelledError:
            story.outcome = outcomes.CLIENT_DISCONNECT
            raise
        finally:
            record = story.record(call.status, means.clock())
            self._tell(record)
        if record.outcome == outcomes.OK and call.status < 300:
            return Answered(wire.body(), record.cost)
        return Unanswered(record.reason or NO_ANSWER, record.cost)
