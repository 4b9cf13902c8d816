"""The conversation of a chat request as `system` and `messages` of a Messages request."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field

import orjson

from keelage_sidecar.core.refusal import quoted
from keelage_sidecar.core.translation.fields import Fields, Losses, Untranslatable
from keelage_sidecar.core.translation.json_read import EMPTY
from keelage_sidecar.core.translation.picture import document_block, picture_block

Block = dict[str, object]
CACHE_MARKS_MAX = 4
_ID = re.compile(r"[A-Za-z0-9_-]{1,128}")


@dataclass(slots=True)
class History:
    """Consecutive messages of one role are one turn, as Anthropic wants the results of parallel calls."""

    late_system: bool
    """The model takes instructions in the middle."""
    system: list[Block] = field(default_factory=list)
    turns: list[tuple[str, list[Block]]] = field(default_factory=list)
    marks: int = 0
    short_mark: bool = False
    """A mark of the shorter life was set; a longer one may not follow it."""

    def add(self, role: str, blocks: list[Block]) -> None:
        if not blocks:
            return
        if self.turns and self.turns[-1][0] == role:
            self.turns[-1][1].extend(blocks)
        else:
            self.turns.append((role, blocks))

    def place_instructions(self, losses: Losses) -> None:
        """Those in the middle may only stand between a user's turn and an answer, or at the end: others go to `system`.

        Known when all turns are there, as empty ones are none.
        """
        turns, self.turns = self.turns, []
        for at, (role, blocks) in enumerate(turns):
            following = turns[at + 1][0] if at + 1 < len(turns) else "assistant"
            if role == "system" and (self.turns[-1][0] != "user" or following != "assistant"):
                self.system += blocks
                losses.add("messages.role")
            else:
                self.add(role, blocks)

    @property
    def messages(self) -> list[dict[str, object]]:
        return [{"role": role, "content": _content(blocks)} for role, blocks in self.turns]

    @property
    def awaits_tool_results(self) -> bool:
        """The last turn answers calls of tools: thinking would have to go on where it was, and that is lost."""
        return bool(self.turns) and any(block.get("type") == "tool_result" for block in self.turns[-1][1])


def history_of(request: Fields, *, late_system: bool) -> History:
    """`messages`, which is taken from the request."""
    history = History(late_system)
    called = spoken = ""
    for number, message in enumerate(request.objects("messages")):
        role = message.text("role")
        message.drop("name") if role != "function" else None
        match role:
            case "system" | "developer":
                _instruct(history, message)
            case "user":
                history.add("user", _parts(history, message))
            case "assistant":
                called, spoken = f"call_{number}", message.path
                history.add("assistant", _assistant(history, message, called))
            case "tool":
                name = _identifier(message.text("tool_call_id"))
                history.add("user", [_result(name, _parts(history, message))])
            case "function":
                message.ignore("name")
                history.add("user", [_result(called, _parts(history, message))])
            case other:
                raise Untranslatable(message.at("role"), f"{quoted(other)} is no role of the chat API")
        message.finish()
    history.place_instructions(request.losses)
    if history.turns and history.turns[-1][0] == "assistant":
        raise Untranslatable(
            spoken, "Anthropic would go on with this answer as if it were its own: end with a user turn"
        )
    if not history.turns:
        raise Untranslatable("messages", "Anthropic needs at least one message with content beside the instructions")
    return history


def _instruct(history: History, message: Fields) -> None:
    """At the start to `system`; later in place where the model takes that, else to `system` too, which is told."""
    blocks = _parts(history, message)
    if any(block["type"] != "text" for block in blocks):
        raise Untranslatable(message.at("content"), "only text can be an instruction")
    if not history.turns:
        history.system += blocks
    elif history.late_system:
        history.add("system", blocks)
    else:
        history.system += blocks
        message.losses.add(message.at("role"))


def _assistant(history: History, message: Fields, legacy_id: str) -> list[Block]:
    if message.take("audio") is not None:
        raise Untranslatable(message.at("audio"), "Anthropic takes no audio: send its transcript")
    blocks = _parts(history, message)
    if refusal := message.text("refusal"):
        blocks.append({"type": "text", "text": refusal})
    for call in message.objects("tool_calls"):
        if (kind := call.text("type")) not in ("", "function"):
            raise Untranslatable(call.at("type"), f"a call of type {quoted(kind)} has no counterpart at Anthropic")
        name = _identifier(call.text("id"))
        call.ignore("index")
        blocks.append(_call(name, call.inner("function"), call))
        call.finish()
    if (function := message.inner("function_call")) is not None:
        blocks.append(_call(legacy_id, function, message))
    message.drop("reasoning_content", "reasoning", "reasoning_details")
    message.ignore("annotations")
    return blocks


def _call(name: str, function: Fields | None, holder: Fields) -> Block:
    if function is None:
        raise Untranslatable(holder.at("function"), "an object is needed")
    text = function.text("arguments")
    try:
        arguments = {} if text.strip() in EMPTY else orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise Untranslatable(function.at("arguments"), f"it is not JSON: {error.msg[:80]}") from error
    if not isinstance(arguments, dict):
        raise Untranslatable(function.at("arguments"), "Anthropic needs a JSON object")
    block: Block = {"type": "tool_use", "id": name, "name": function.text("name"), "input": arguments}
    function.finish()
    return block


def _result(name: str, content: list[Block]) -> Block:
    block: Block = {"type": "tool_result", "tool_use_id": name}
    if content:
        block["content"] = _content(content)
    return block


def _identifier(name: str) -> str:
    """Ids stay as they are; one that Anthropic would refuse gets another, the same each time."""
    return name if _ID.fullmatch(name) else f"call_{hashlib.sha256(name.encode()).hexdigest()[:32]}"


def _parts(history: History, message: Fields) -> list[Block]:
    """The content; texts of nothing but blanks, which Anthropic refuses, are left out."""
    content = message.take("content")
    if content is None:
        return []
    if isinstance(content, str):
        return [{"type": "text", "text": content}] if content.strip() else []
    if not isinstance(content, list):
        raise Untranslatable(message.at("content"), "a string or a list of parts is needed")
    blocks: list[Block] = []
    for at, each in enumerate(content):
        part = Fields(each, f"{message.at('content')}[{at}]", message.losses)
        kind = part.text("type")
        mark = part.inner("prompt_cache_breakpoint")
        match kind:
            case "text" | "refusal":
                block: Block = {"type": "text", "text": part.text(kind)}
            case "image_url":
                block = picture_block(part)
            case "file":
                block = document_block(part)
            case other:
                raise Untranslatable(part.path, f"a part of type {quoted(other)} has no counterpart at Anthropic")
        part.finish()
        if block["type"] == "text" and not str(block["text"]).strip():
            continue
        if mark is not None:
            _mark(history, block, mark)
        blocks.append(block)
    return blocks


def _mark(history: History, block: Block, mark: Fields) -> None:
    """A cache breakpoint, as long as Anthropic takes another one."""
    long = mark.text("ttl") == "12h"
    mark.ignore("type")
    mark.finish()
    if history.marks == CACHE_MARKS_MAX:
        mark.losses.add(mark.path)
        return
    history.marks += 1
    history.short_mark = history.short_mark or not long
    block["cache_control"] = {"type": "ephemeral"} if history.short_mark else {"type": "ephemeral", "ttl": "1h"}


def _content(blocks: list[Block]) -> object:
    """A single text without more as a string, as most applications write it."""
    return blocks[0]["text"] if len(blocks) == 1 and blocks[0].keys() == {"type", "text"} else blocks
