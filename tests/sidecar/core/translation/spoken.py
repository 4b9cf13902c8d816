"""Requests as they reach a backend of the other API, and refusals on the way."""

from __future__ import annotations

import orjson
from msgspec.structs import replace
from tests.sidecar.core.calls import LOCAL, claude, gpt, is_a

from keelage_sidecar.core.refusal import Headers, Refusal
from keelage_sidecar.core.request import Facts
from keelage_sidecar.core.routing import Candidate
from keelage_sidecar.core.translation.interpreter import Interpreter, interpret

Json = dict[str, object]


def gpt_4o() -> Candidate:
    """A model that does not reason, with all its parameters."""
    return replace(gpt(), model="gpt-4o")


def local() -> Candidate:
    """A compatible server's."""
    return Candidate(LOCAL, "qwen", None)


def claude_as(model: str, cap: int = 0) -> Candidate:
    return replace(claude(), model=model, output_cap=cap)


def interpreted(facts: Facts, candidate: Candidate, headers: Headers = ()) -> Interpreter:
    return is_a(Interpreter, interpret(facts, candidate, headers))


def body_of(facts: Facts, candidate: Candidate) -> Json:
    return is_a(dict, orjson.loads(interpreted(facts, candidate).facts.body))


def refused(facts: Facts, candidate: Candidate) -> Refusal:
    return is_a(Refusal, interpret(facts, candidate, ()))
