"""OpenAI's Responses: what it rejects, what it answers, whole or as a stream, and what it keeps of that."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

import orjson

from keelage_dev.provider.body import items, mapping, mappings, packed, text, whole
from keelage_dev.provider.chat import CREATED, REASONING, Complaint
from keelage_dev.provider.exchange import Event
from keelage_dev.provider.output import Output, Tool, output
from keelage_dev.provider.settings import Settings
from keelage_dev.provider.usage import Usage, tokens_of

__all__ = ["Made", "Stored", "complaint", "run"]

OUTPUT_LEAST = 16
STORED_MAX = 1000
"""The oldest is forgotten."""


def complaint(body: Mapping[str, object]) -> Complaint | None:
    """What OpenAI would refuse; None when nothing."""
    model = text(body.get("model"))
    if not model:
        return Complaint("Missing required parameter: 'model'.", "model", "missing_required_parameter")
    if not body.get("input"):
        message = "One of \"input\" or \"previous_response_id\" or 'prompt' or 'conversation' must be provided."
        return Complaint(message, None, "missing_required_parameter")
    cap = body.get("max_output_tokens")
    if cap is not None and (whole(cap) or 0) < OUTPUT_LEAST:
        message = f"Invalid 'max_output_tokens': integer below minimum value. Expected a value >= {OUTPUT_LEAST}."
        return Complaint(message, "max_output_tokens", "integer_below_min_value")
    if "messages" in body:
        message = "Unsupported parameter: 'messages'. In the Responses API, this parameter has moved to 'input'."
        return Complaint(message, None, "unsupported_parameter")
    if model.startswith(REASONING) and body.get("temperature", 1) not in (None, 1):
        message = "Unsupported parameter: 'temperature' is not supported with this model."
        return Complaint(message, "temperature")
    return None


def run(body: Mapping[str, object], settings: Settings) -> tuple[Output, Usage]:
    """Let the model answer, and say what that is billed for."""
    model = text(body.get("model"))
    thinking = settings.thinking_tokens if model.startswith(REASONING) else 0
    cap = whole(body.get("max_output_tokens"))
    said = output(settings, model, cap=cap, thinking=thinking, tool=_tool(body, settings))
    tokens = tokens_of(packed(body.get("tools"), body.get("instructions"), body.get("input")))
    read = min(settings.cached_tokens, tokens)
    return said, Usage(input=tokens - read, cache_read=read, output=said.tokens, thinking=said.thinking)


@dataclass(frozen=True, slots=True)
class Made:
    """An answer, and the request that it is to."""

    body: Mapping[str, object]
    said: Output
    usage: Usage
    number: int

    @property
    def name(self) -> str:
        """Its id."""
        return f"resp_fake{self.number:08d}"

    def whole(self) -> bytes:
        """The Response object."""
        return orjson.dumps(self._response(ended=True))

    def events(self) -> Iterator[Event]:
        """The same as a stream: each event numbered and named by its type; the last holds the whole Response."""
        number = 0

        def event(kind: str, members: Mapping[str, object], tokens: int = 0) -> Event:
            nonlocal number
            data = orjson.dumps({"type": f"response.{kind}", "sequence_number": number, **members})
            number += 1
            return Event(b"event: response.%b\ndata: %b\n\n" % (kind.encode(), data), tokens)

        begun, item = {"response": self._response(ended=False)}, self._item()
        where: dict[str, object] = {"item_id": item["id"], "output_index": 0}
        yield event("created", begun)
        yield event("in_progress", begun, self.said.thinking)
        empty: dict[str, object] = {"content": []} if self.said.tool is None else {"arguments": ""}
        added = item | empty | {"status": "in_progress"}
        yield event("output_item.added", {"output_index": 0, "item": added})
        if self.said.tool is None:
            where["content_index"] = 0
            yield event("content_part.added", where | {"part": _part("")})
            for piece in self.said.pieces:
                yield event("output_text.delta", where | {"delta": piece.text, "logprobs": []}, piece.tokens)
            yield event("output_text.done", where | {"text": self.said.text, "logprobs": []})
            yield event("content_part.done", where | {"part": _part(self.said.text)})
        else:
            for piece in self.said.pieces:
                yield event("function_call_arguments.delta", where | {"delta": piece.text}, piece.tokens)
            done = {"name": self.said.tool, "arguments": self.said.text}
            yield event("function_call_arguments.done", where | done)
        yield event("output_item.done", {"output_index": 0, "item": item})
        last = "incomplete" if self.said.capped else "completed"
        yield event(last, {"response": self._response(ended=True)})

    def input_items(self) -> bytes:
        """What was asked, as a list of items."""
        given = self.body.get("input")
        asked = mappings(given) if isinstance(given, list) else [{"role": "user", "content": given}]
        data = [{"type": "message", "id": f"msg_in{at:08d}", **_spelled(each)} for at, each in enumerate(asked)]
        ends = {"first_id": data[0]["id"], "last_id": data[-1]["id"]}
        return orjson.dumps({"object": "list", "data": data, "has_more": False} | ends)

    def _response(self, *, ended: bool) -> dict[str, object]:
        status = "in_progress" if not ended else "incomplete" if self.said.capped else "completed"
        return {
            "id": self.name,
            "object": "response",
            "created_at": CREATED,
            "status": status,
            "background": False,
            "error": None,
            "incomplete_details": {"reason": "max_output_tokens"} if ended and self.said.capped else None,
            "instructions": self.body.get("instructions"),
            "max_output_tokens": self.body.get("max_output_tokens"),
            "metadata": {},
            "model": self.body["model"],
            "output": [self._item()] if ended else [],
            "parallel_tool_calls": True,
            "previous_response_id": None,
            "service_tier": "default",
            "store": self.body.get("store") is not False,
            "temperature": 1.0,
            "text": {"format": {"type": "text"}},
            "tool_choice": self.body.get("tool_choice") or "auto",
            "tools": self.body.get("tools") or [],
            "top_p": 1.0,
            "truncation": "disabled",
            "usage": _usage(self.usage) if ended else None,
        }

    def _item(self) -> dict[str, object]:
        status = "incomplete" if self.said.capped else "completed"
        if self.said.tool is None:
            head: dict[str, object] = {"type": "message", "id": f"msg_fake{self.number:08d}", "role": "assistant"}
            return head | {"status": status, "content": [_part(self.said.text)]}
        head = {"type": "function_call", "id": f"fc_fake{self.number:08d}", "call_id": f"call_fake{self.number:08d}"}
        return head | {"name": self.said.tool, "arguments": self.said.text, "status": status}


@dataclass(slots=True)
class Stored:
    """The answers that the provider keeps, by id."""

    _made: dict[str, Made] = field(default_factory=dict)

    def keep(self, made: Made) -> None:
        """Without the stream that it may have been."""
        self._made[made.name] = replace(made, body={**made.body, "stream": False})
        if len(self._made) > STORED_MAX:
            del self._made[next(iter(self._made))]

    def answer(self, method: str, name: str, part: str) -> bytes | None:
        """The reply to a request for one of them; None: there is none such."""
        found = self._made.get(name)
        match method, part:
            case _ if found is None:
                return None
            case "GET" | "HEAD", "":
                return found.whole()
            case "GET" | "HEAD", "input_items":
                return found.input_items()
            case "POST", "cancel":
                return found.whole()
            case "DELETE", "":
                del self._made[name]
                return orjson.dumps({"id": name, "object": "response", "deleted": True})
            case _:
                return None


def _spelled(item: Mapping[str, object]) -> Mapping[str, object]:
    """A message with its text as a part, which is how the API gives back what it was sent."""
    content = item.get("content")
    return {**item, "content": [{"type": "input_text", "text": content}]} if isinstance(content, str) else item


def _part(said: str) -> dict[str, object]:
    return {"type": "output_text", "text": said, "annotations": [], "logprobs": []}


def _usage(usage: Usage) -> dict[str, object]:
    return {
        "input_tokens": usage.prompt,
        "input_tokens_details": {"cached_tokens": usage.cache_read, "cache_write_tokens": 0},
        "output_tokens": usage.output,
        "output_tokens_details": {"reasoning_tokens": usage.thinking},
        "total_tokens": usage.prompt + usage.output,
    }


def _tool(body: Mapping[str, object], settings: Settings) -> Tool | None:
    """The tool that the model calls: the forced one, else the first, unless its result has just come in."""
    offered = [each for each in mappings(body.get("tools")) if each.get("type") == "function"]
    choice = body.get("tool_choice")
    forced = choice == "required" or isinstance(choice, dict)
    if isinstance(choice, dict):
        offered = [each for each in offered if each.get("name") == choice.get("name")]
    if not offered or choice == "none":
        return None
    asked = items(body.get("input"))
    answered = bool(asked) and mapping(asked[-1]).get("type") == "function_call_output"
    if not forced and (answered or not settings.tool_calls):
        return None
    return Tool(text(offered[0].get("name")), mapping(offered[0].get("parameters")))
