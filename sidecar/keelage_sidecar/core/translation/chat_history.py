"""The conversation of a Messages request as `messages` of a chat completion."""

from __future__ import annotations

import orjson

from keelage_sidecar.core.refusal import quoted
from keelage_sidecar.core.translation.fields import Fields, Untranslatable
from keelage_sidecar.core.translation.model_traits import ChatTraits
from keelage_sidecar.core.translation.picture import document_part, picture_part

Message = dict[str, object]
_AT_ANTHROPIC = "it belongs to a tool that runs at Anthropic, so another provider cannot go on from it"


def chat_messages(request: Fields, traits: ChatTraits) -> list[Message]:
    """`system` and `messages`, which are taken from the request."""
    said: list[Message] = []
    system = _texts(request, "system")
    if system:
        said.append({"role": traits.system_role, "content": _content(system)})
    messages = request.objects("messages")
    for number, message in enumerate(messages):
        match message.text("role"):
            case "user":
                said += _user(message, traits)
            case "assistant" if number == len(messages) - 1:
                raise Untranslatable(
                    message.path,
                    "an answer that was begun for the model cannot be gone on with at OpenAI: end with a user turn",
                )
            case "assistant":
                said += _assistant(message)
            case "system":
                said.append({"role": traits.system_role, "content": _content(_texts(message, "content"))})
            case other:
                raise Untranslatable(message.at("role"), f"{quoted(other)} is no role: user, assistant or system")
        message.finish()
    return said


def _user(message: Fields, traits: ChatTraits) -> list[Message]:
    """Tools' results must follow the calls at once; pictures in them have no place there and come after."""
    results: list[Message] = []
    shown: list[Message] = []
    parts: list[Message] = []
    for block in _blocks(message):
        match block.text("type"):
            case "text":
                parts.append(_text_part(block))
            case "image":
                parts.append(picture_part(block))
            case "document":
                parts.append(document_part(block, files=traits.files))
            case "tool_result":
                result, pictures = _result(block, traits)
                results.append(result)
                shown += pictures
            case other:
                raise Untranslatable(block.path, f"a block of type {quoted(other)} has no counterpart in OpenAI's API")
    parts = [*shown, *parts]
    return [*results, {"role": "user", "content": _content(parts)}] if parts else results


def _result(block: Fields, traits: ChatTraits) -> tuple[Message, list[Message]]:
    name = block.text("tool_use_id")
    failed = block.flag("is_error")
    block.drop("cache_control")
    texts: list[str] = []
    pictures: list[Message] = []
    for part in _blocks(block):
        match part.text("type"):
            case "text":
                texts.append(str(_text_part(part)["text"]))
            case "image":
                pictures.append(picture_part(part))
            case "document":
                document = document_part(part, files=traits.files)
                if document["type"] == "text":
                    texts.append(str(document["text"]))
                else:
                    pictures.append(document)
            case other:
                raise Untranslatable(part.path, f"a result of type {quoted(other)} has no counterpart in OpenAI's API")
    block.finish()
    if pictures:
        pictures.insert(0, {"type": "text", "text": f"Returned by tool call {name}:"})
    said = "\n".join(texts)
    return {"role": "tool", "tool_call_id": name, "content": f"Error: {said}" if failed else said}, pictures


def _assistant(message: Fields) -> list[Message]:
    texts: list[str] = []
    calls: list[Message] = []
    for block in _blocks(message):
        match block.text("type"):
            case "text":
                texts.append(str(_text_part(block)["text"]))
            case "tool_use":
                arguments = block.take("input")
                function = {
                    "name": block.text("name"),
                    "arguments": orjson.dumps({} if arguments is None else arguments).decode(),
                }
                calls.append({"id": block.text("id"), "type": "function", "function": function})
                block.drop("cache_control")
                block.ignore("caller")
                block.finish()
            case "thinking" | "redacted_thinking":
                message.losses.add(f"{message.path}.content.thinking")  # a signature is only valid where it was made
            case str() as name if name == "server_tool_use" or name.endswith("_tool_result"):
                raise Untranslatable(block.path, _AT_ANTHROPIC)
            case other:
                raise Untranslatable(block.path, f"a block of type {quoted(other)} has no counterpart in OpenAI's API")
    spoken = "".join(texts)
    if not spoken and not calls:
        return []
    said: Message = {"role": "assistant", "content": spoken or None}
    if calls:
        said["tool_calls"] = calls
    return [said]


def _blocks(holder: Fields) -> list[Fields]:
    """The content; a string is one block of text."""
    content = holder.take("content")
    if content is None:
        return []
    if isinstance(content, str):
        content = [{"type": "text", "text": content}]
    if not isinstance(content, list):
        raise Untranslatable(holder.at("content"), "a string or a list of blocks is needed")
    return [Fields(each, f"{holder.path}.content[{at}]", holder.losses) for at, each in enumerate(content)]


def _text_part(block: Fields) -> Message:
    text = block.text("text")
    block.drop("cache_control", "citations")
    block.finish()
    return {"type": "text", "text": text}


def _texts(holder: Fields, name: str) -> list[Message]:
    value = holder.take(name)
    if value is None:
        return []
    if isinstance(value, str):
        return [{"type": "text", "text": value}]
    if not isinstance(value, list):
        raise Untranslatable(holder.at(name), "a string or a list of text blocks is needed")
    parts: list[Message] = []
    for at, each in enumerate(value):
        block = Fields(each, f"{holder.at(name)}[{at}]", holder.losses)
        if (kind := block.text("type")) != "text":
            raise Untranslatable(block.path, f"only text can be an instruction, not {quoted(kind)}")
        parts.append(_text_part(block))
    return parts


def _content(parts: list[Message]) -> object:
    """A single text as a string, which every compatible server takes."""
    return parts[0]["text"] if len(parts) == 1 and parts[0]["type"] == "text" else parts
