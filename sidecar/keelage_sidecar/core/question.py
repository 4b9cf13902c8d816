"""A question that the sidecar itself asks a model, in either API, and what the model said. Pure."""

from __future__ import annotations

import msgspec
import orjson

from keelage_api.proxy_config import Dialect
from keelage_sidecar.core.endpoints import CHAT, MESSAGES, Endpoint


class Question(msgspec.Struct, frozen=True, gc=False):
    system: str
    text: str


def endpoint_for(dialect: Dialect) -> Endpoint:
    """Where questions are asked in that API."""
    return MESSAGES if dialect is Dialect.ANTHROPIC else CHAT


def posed(question: Question, endpoint: Endpoint, model: str) -> bytes:
    """The body of the call, without an output cap: what it is called depends on who is asked."""
    turns = [{"role": "user", "content": question.text}]
    if endpoint is MESSAGES:
        return orjson.dumps({"model": model, "system": question.system, "messages": turns})
    turns.insert(0, {"role": "system", "content": question.system})
    return orjson.dumps({"model": model, "messages": turns})


class _Block(msgspec.Struct):
    type: str = ""
    text: str = ""


class _Said(msgspec.Struct):
    content: str | None = None


class _Choice(msgspec.Struct):
    message: _Said


class _Message(msgspec.Struct):
    content: list[_Block]


class _Completion(msgspec.Struct):
    choices: list[_Choice]


_OF_MESSAGES = msgspec.json.Decoder(_Message)
_OF_CHAT = msgspec.json.Decoder(_Completion)


def reply_text(endpoint: Endpoint, body: bytes) -> str:
    """The text of an answer to `posed`; empty where it has none, or is no such answer."""
    try:
        if endpoint is MESSAGES:
            return "".join(block.text for block in _OF_MESSAGES.decode(body).content if block.type == "text")
        choices = _OF_CHAT.decode(body).choices
    except msgspec.DecodeError:
        return ""
    return (choices[0].message.content or "") if choices else ""
