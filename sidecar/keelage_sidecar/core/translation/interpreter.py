"""One attempt at a backend that speaks the other API: what is sent there, and what its answer says here."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import orjson
from msgspec import structs

from keelage_api.proxy_config import Dialect
from keelage_sidecar.core.bound import Bound, Unbounded, bound_of
from keelage_sidecar.core.endpoints import CHAT, MESSAGES
from keelage_sidecar.core.refusal import Headers, Refusal
from keelage_sidecar.core.request import Facts, read_request
from keelage_sidecar.core.routing import Candidate
from keelage_sidecar.core.translation.chat_answer import chat_answer
from keelage_sidecar.core.translation.chat_request import chat_request
from keelage_sidecar.core.translation.chat_stream import ChatStream
from keelage_sidecar.core.translation.counted_stream import StreamTranslator
from keelage_sidecar.core.translation.error import broken_answer, error_answer, status_for
from keelage_sidecar.core.translation.fields import Fields, Losses, Untranslatable
from keelage_sidecar.core.translation.json_read import parsed
from keelage_sidecar.core.translation.manner import Manner, manner_of
from keelage_sidecar.core.translation.messages_answer import messages_answer
from keelage_sidecar.core.translation.messages_request import messages_request
from keelage_sidecar.core.translation.messages_stream import MessagesStream

UNTRANSLATABLE = "Untranslatable"
"""Reason of a refusal: the other API cannot say what the call asks."""
_SAMPLING = ("temperature", "top_p", "top_k")
_WITH_SAMPLING = b"2023-06-01"
_NEWEST = b"2026-10-21"
"""Of Anthropic's API; it takes no sampling parameters."""
_VENDOR_HEADERS = (b"anthropic-", b"openai-", b"x-stainless-")


@dataclass(frozen=True, slots=True)
class Interpreter:
    """`facts` is the request as sent, so that its bound, meter and changes are those of any request of that API."""

    facts: Facts
    target: str
    headers: Headers
    """The application's, with those of one vendor's API exchanged for the other's."""
    dropped: tuple[str, ...]
    """Fields of the application's request that the answer had to do without."""
    dialect: Dialect
    """Of the application."""
    manner: Manner

    def stream(self, created_s: int, request_id: str) -> StreamTranslator:
        """For an answer that comes as `text/event-stream`."""
        if self.dialect is Dialect.OPENAI:
            return ChatStream(self.manner, created_s, request_id)
        return MessagesStream(request_id)

    def headers_back(self, headers: Iterable[tuple[bytes, bytes]], *, streaming: bool) -> list[tuple[bytes, bytes]]:
        """The answer's headers: the request's id under the name that the application's SDK reads."""
        theirs, ours = b"x-request-id", b"request-id"
        if self.dialect is Dialect.OPENAI:
            theirs, ours = ours, theirs
        dropped = (b"content-encoding",) if streaming else (b"content-encoding", b"content-type")
        kept = [(ours if name == theirs else name, value) for name, value in headers if name not in dropped]
        return kept if streaming else [*kept, (b"content-type", b"application/json")]

    def answer(self, status: int, body: bytes, created_s: int, request_id: str) -> tuple[int, bytes]:
        """Status and body of a whole answer; 502 where the provider's cannot be told in the other API."""
        if status >= 300:
            return status_for(status, self.dialect), error_answer(body, status, self.dialect, request_id)
        try:
            told = self._told(parsed(body), created_s)
        except orjson.JSONEncodeError:  # it reads deeper nesting than it writes
            told = None
        if told is None:
            return 502, broken_answer(
                self.dialect, request_id, "it is no answer of its API, or calls a tool without JSON"
            )
        return status, told

    def _told(self, answer: Mapping[str, object], created_s: int) -> bytes | None:
        if self.dialect is Dialect.OPENAI:
            return chat_answer(answer, self.manner, created_s)
        return messages_answer(answer)


def bound_at(facts: Facts, candidate: Candidate, output_cap: int) -> Bound | Unbounded:
    """The bound of the call as that candidate would get it, in whichever API."""
    if candidate.backend.dialect is facts.endpoint.dialect:
        return bound_of(facts, candidate, output_cap)
    said = interpret(facts, candidate, ())
    return (
        Unbounded(said.field, said.message)
        if isinstance(said, Refusal)
        else bound_of(said.facts, candidate, output_cap)
    )


def interpret(facts: Facts, candidate: Candidate, headers: Headers) -> Interpreter | Refusal:
    """The call for a candidate whose backend speaks the other API, or a 400 that names the field in the way.

    The bound holds, as it is computed for what is sent: the translated request is read as if an application had
    sent it.
    """
    losses = Losses()
    version: Headers = ()
    given = orjson.loads(facts.body)
    try:
        fields = Fields(given, "", losses)
        if facts.endpoint.dialect is Dialect.ANTHROPIC:
            endpoint, target = CHAT, "/v1/chat/completions"
            body = chat_request(fields, candidate.model, candidate.backend.provider)
        else:
            endpoint, target = MESSAGES, "/v1/messages"
            body = messages_request(fields, candidate.model, candidate.output_cap)
            sampled = any(name in body for name in _SAMPLING)
            version = ((b"anthropic-version", _WITH_SAMPLING if sampled else _NEWEST),)
        sent = orjson.dumps(body)
    except Untranslatable as error:
        return Refusal(
            400,
            UNTRANSLATABLE,
            f"{error.field}: {error.reason} (backend {candidate.backend.name} speaks the other API)",
            error.field,
        )
    except orjson.JSONEncodeError:
        return Refusal(400, UNTRANSLATABLE, "the body is nested too deep to be translated")
    if any(name == b"anthropic-beta" for name, _ in headers):
        losses.add("anthropic-beta")
    read = read_request(endpoint, (), sent)
    if isinstance(read, Refusal):
        return read
    return Interpreter(
        structs.replace(read, user=facts.user, feature=facts.feature, pod=facts.pod, patience_s=facts.patience_s),
        target,
        (*(header for header in headers if not header[0].startswith(_VENDOR_HEADERS)), *version),
        losses.names,
        facts.endpoint.dialect,
        manner_of(given),
    )
