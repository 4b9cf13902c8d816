"""A conversation in short: its newest turns as they are; those before summarized, or cut. Pure.

A turn begins with what the user says and ends before the next such message, so calls of tools stay with their
results and what is sent begins with a user's message, as both APIs want it. What stays is sent byte for byte.
"""

from __future__ import annotations

import hashlib

import msgspec
import orjson
from msgspec.structs import replace

from keelage_sidecar.core.endpoints import Kind
from keelage_sidecar.core.json_span import elements, located, splice
from keelage_sidecar.core.request import Facts
from keelage_sidecar.core.transcript import transcript
from keelage_sidecar.core.weight import weigh

BYTES_PER_TOKEN = 4
"""English text: the median over recorded calls."""
_FIELDS = {Kind.MESSAGES: "messages", Kind.CHAT: "messages", Kind.RESPONSES: "input"}
_INSTRUCTING = ("system", "developer")
_INTRODUCTION = "This is a summary of the conversation so far:\n\n"


class Turn(msgspec.Struct, frozen=True):
    messages: tuple[object, ...]
    raw: tuple[bytes, ...]
    """The same as they came."""
    stays: bool = False
    """It is older than the kept ones, but something in it is needed."""

    @property
    def tokens(self) -> int:
        """Estimated."""
        return sum(map(len, self.raw)) // BYTES_PER_TOKEN


class Conversation(msgspec.Struct, frozen=True):
    """A call with turns that are too old to be sent."""

    facts: Facts
    body: dict[str, object]
    beginning: Turn
    """Instructions before the first turn."""
    older: tuple[Turn, ...]
    """Oldest first; those that stay among them. At least one does not."""
    kept: tuple[Turn, ...]

    def without(self, number: int, summary: str = "") -> Facts:
        """The call without its `number` oldest turns that need not stay, and with a summary in their place if any.

        Its weight is that of what is sent.
        """
        left: list[Turn] = []
        for turn in self.older:
            if number and not turn.stays:
                number -= 1
            else:
                left.append(turn)
        turns = [self.beginning, *left, *self.kept]
        if summary:
            said: dict[str, object] = {"role": "user", "content": _INTRODUCTION + summary}
            turns.insert(1, Turn((said,), (orjson.dumps(said),)))
        name = _FIELDS[self.facts.endpoint.kind]
        array = b"[" + b",".join(raw for turn in turns for raw in turn.raw) + b"]"
        body = {**self.body, name: [message for turn in turns for message in turn.messages]}
        return replace(
            self.facts,
            body=splice(self.facts.body, {name: array}),
            weight=weigh(self.facts.endpoint.kind, body),
        )

    @property
    def cuttable(self) -> tuple[Turn, ...]:
        """Oldest first."""
        return tuple(turn for turn in self.older if not turn.stays)

    def digests(self) -> tuple[bytes, ...]:
        """Of the cuttable turns up to each of them: equal for the same words, however they are written in JSON."""
        running, found = hashlib.sha256(), []
        for turn in self.cuttable:
            running.update(transcript(turn.messages).encode("utf-8", "surrogatepass") + b"\0")
            found.append(running.digest())
        return tuple(found)


def conversation(facts: Facts, keep_turns: int) -> Conversation | None:
    """The call, taken apart; None where it has no turn to cut."""
    name = _FIELDS.get(facts.endpoint.kind)
    if name is None or facts.body.count(b'"user"') <= keep_turns:
        return None
    members, _ = located(facts.body)
    spans = (
        elements(facts.body, members[name]) if name in members and _is_array(facts.body, members[name].start) else None
    )
    body = orjson.loads(facts.body)
    messages = body.get(name)
    if not spans or not isinstance(messages, list) or len(messages) != len(spans):
        return None
    raw = [facts.body[span.start : span.end] for span in spans]
    starts = [at for at, message in enumerate(messages) if _begins_turn(message)]
    if len(starts) <= keep_turns:
        return None
    first = next((at for at, message in enumerate(messages) if _role(message) not in _INSTRUCTING), 0)
    starts[0] = first  # an answer before the first question goes with it
    ends = [*starts[1:], len(messages)]
    turns = [Turn(tuple(messages[at:end]), tuple(raw[at:end])) for at, end in zip(starts, ends, strict=True)]
    older = _needed(turns[:-keep_turns], turns[-keep_turns:])
    if all(turn.stays for turn in older):
        return None
    beginning = Turn(tuple(messages[:first]), tuple(raw[:first]))
    return Conversation(facts, body, beginning, older, tuple(turns[-keep_turns:]))


def _is_array(body: bytes, start: int) -> bool:
    return body[start : start + 1] == b"["


def _role(message: object) -> object:
    return message.get("role") if isinstance(message, dict) else None


def _begins_turn(message: object) -> bool:
    """What the user says; results of tools are the application's answer to the model."""
    if _role(message) != "user":
        return False
    content = message.get("content") if isinstance(message, dict) else None
    blocks = content if isinstance(content, list) else ()
    return not any(isinstance(block, dict) and block.get("type") == "tool_result" for block in blocks)


def _needed(older: list[Turn], kept: list[Turn]) -> tuple[Turn, ...]:
    """Those with instructions stay, and those with calls whose results come later."""
    awaited = {answered for turn in kept for answered in _ids(turn, "_call_output")}
    found: list[Turn] = []
    for turn in reversed(older):
        instructs = any(_role(message) in _INSTRUCTING for message in turn.messages)
        stays = instructs or not awaited.isdisjoint(_ids(turn, "_call"))
        if stays:
            awaited |= _ids(turn, "_call_output")
        found.append(Turn(turn.messages, turn.raw, stays))
    return tuple(reversed(found))


def _ids(turn: Turn, ending: str) -> set[str]:
    """Ids of a Responses call's items whose type ends so; in the other APIs results follow their calls at once."""
    return {
        message["call_id"]
        for message in turn.messages
        if isinstance(message, dict)
        and isinstance(kind := message.get("type"), str)
        and kind.endswith(ending)
        and isinstance(message.get("call_id"), str)
    }
