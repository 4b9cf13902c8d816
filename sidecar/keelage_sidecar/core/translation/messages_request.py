"""A chat completion's request as the body of a Messages request."""

from __future__ import annotations

import hashlib

from keelage_sidecar.core.refusal import quoted
from keelage_sidecar.core.translation.fields import Fields, Untranslatable
from keelage_sidecar.core.translation.messages_history import History, history_of
from keelage_sidecar.core.translation.model_traits import ClaudeTraits, claude_traits
from keelage_sidecar.core.translation.schema import closed_schema

THINKING_LEAST = 1024
"""Tokens, of `thinking.budget_tokens`; it must be below `max_tokens`."""
_BUDGETS = {"minimal": 1024, "low": 1024, "medium": 2048, "high": 4096, "xhigh": 4096, "max": 4096}
_EFFORTS = {"minimal": "low", "low": "low", "medium": "medium", "high": "high", "xhigh": "xhigh", "max": "max"}
_ONLY_THERE = "it has no counterpart in Anthropic's API: leave it out, or choose an OpenAI backend"


def messages_request(body: Fields, model: str, output_cap: int) -> dict[str, object]:
    """The body for that model; raises Untranslatable.

    `output_cap`: what to put in where the request names no cap, which Anthropic needs; 0: nothing is known.
    """
    traits = claude_traits(model)
    body.ignore("model")
    history = history_of(body, late_system=traits.late_system)
    sent: dict[str, object] = {"model": model, "max_tokens": _cap(body, output_cap), "messages": history.messages}
    if history.system:
        sent["system"] = history.system
    if body.flag("stream"):
        sent["stream"] = True
    body.ignore("stream_options")
    stops = _stops(body)
    if taken := [text for text in stops if text.strip()]:
        sent["stop_sequences"] = taken
    if taken != stops:
        body.losses.add("stop")  # those of blanks alone are refused there
    forced = _tools(body, traits, sent)
    _format(body, sent)
    _thinking(body, traits, history, forced, sent)
    _sampling(body, traits, sent)
    _account(body, sent)
    _refuse(body)
    body.drop(
        *("seed", "logit_bias", "presence_penalty", "frequency_penalty", "verbosity", "store", "metadata"),
        *("top_logprobs", "prompt_cache_key", "prompt_cache_retention", "prompt_cache_options", "moderation"),
    )
    body.finish()
    return sent


def _cap(body: Fields, output_cap: int) -> int:
    caps = [cap for name in ("max_completion_tokens", "max_tokens") if (cap := body.whole(name)) is not None]
    cap = max(caps, default=output_cap)
    if cap < 1:
        raise Untranslatable(
            "max_completion_tokens",
            "Anthropic needs a cap on the output: set it in the request, or rules[].output.maxTokens in the LLMRoute",
        )
    return cap


def _stops(body: Fields) -> list[str]:
    value = body.take("stop")
    stops = value if isinstance(value, list) else [] if value is None else [value]
    texts = [stop for stop in stops if isinstance(stop, str)]
    if len(texts) != len(stops):
        raise Untranslatable("stop", "a string or a list of strings is needed")
    return texts


def _tools(body: Fields, traits: ClaudeTraits, sent: dict[str, object]) -> bool:
    """Whether the model is made to call a tool."""
    tools: list[dict[str, object]] = []
    for tool in body.objects("tools"):
        if (kind := tool.text("type")) not in ("", "function"):
            raise Untranslatable(tool.at("type"), f"tool {quoted(kind)} has no counterpart at Anthropic: use functions")
        function = tool.inner("function")
        if function is None:
            raise Untranslatable(tool.at("function"), "an object is needed")
        tools.append(_tool(function))
        tool.finish()
    legacy = [_tool(function) for function in body.objects("functions")]
    tools += legacy
    choice = body.take("tool_choice")
    if (function_choice := body.take("function_call")) is not None:
        named = isinstance(function_choice, dict)
        choice = {"type": "function", "function": function_choice} if named else function_choice
    alone = body.take("parallel_tool_calls") is False or bool(legacy)
    if not tools:
        return False
    wanted, tools = _choice(choice, tools, body)
    forced = wanted["type"] in ("any", "tool")
    if forced and not traits.forced_tools:
        raise Untranslatable("tool_choice", f"model {sent['model']!r} cannot be made to call a tool: use auto")
    if alone and wanted["type"] != "none":
        wanted["disable_parallel_tool_use"] = True
    sent["tools"] = tools
    if choice is not None or alone:
        sent["tool_choice"] = wanted
    return forced


def _tool(function: Fields) -> dict[str, object]:
    tool: dict[str, object] = {"name": function.text("name")}
    if description := function.text("description"):
        tool["description"] = description
    tool["input_schema"] = function.take("parameters") or {"type": "object", "properties": {}}
    if function.flag("strict"):
        tool["strict"] = True
    function.finish()
    return tool


def _choice(
    choice: object, tools: list[dict[str, object]], body: Fields
) -> tuple[dict[str, object], list[dict[str, object]]]:
    """Anthropic's `tool_choice`, and the tools that may be called."""
    if choice is None or choice in ("auto", "none"):
        return {"type": choice or "auto"}, tools
    if choice == "required":
        return {"type": "any"}, tools
    named = Fields(choice, "tool_choice", body.losses)
    match named.text("type"):
        case "function" if (function := named.inner("function")) is not None:
            return {"type": "tool", "name": function.text("name")}, tools
        case "allowed_tools" if (allowed := named.inner("allowed_tools")) is not None:
            names = {
                function.text("name")
                for each in allowed.objects("tools")
                if (function := each.inner("function")) is not None
            }
            required = allowed.text("mode") == "required"
            left = [tool for tool in tools if tool["name"] in names]
            if not left:
                raise Untranslatable(allowed.at("tools"), "it names none of `tools`: name one, or use tool_choice none")
            return {"type": "any" if required else "auto"}, left
        case other:
            raise Untranslatable(
                "tool_choice.type", f"{quoted(other)} has no counterpart at Anthropic: name a function"
            )


def _format(body: Fields, sent: dict[str, object]) -> None:
    form = body.inner("response_format")
    if form is None:
        return
    match form.text("type"):
        case "text":
            pass
        case "json_schema" if (schema := form.inner("json_schema")) is not None:
            sent["output_config"] = {"format": {"type": "json_schema", "schema": closed_schema(schema.take("schema"))}}
            schema.ignore("name", "strict")
            schema.drop("description")
            schema.finish()
        case "json_object":
            raise Untranslatable("response_format.type", "json_object has no counterpart at Anthropic: use json_schema")
        case other:
            raise Untranslatable("response_format.type", f"{quoted(other)} has no counterpart at Anthropic")
    form.finish()


def _thinking(body: Fields, traits: ClaudeTraits, history: History, forced: bool, sent: dict[str, object]) -> None:
    effort = body.text("reasoning_effort")
    shown = body.flag("include_reasoning")
    if not effort:
        return
    if effort == "none":
        if traits.always_thinks:
            body.losses.add("reasoning_effort")
        elif traits.adaptive:
            sent["thinking"] = {"type": "disabled"}
        return
    if effort not in _EFFORTS:
        raise Untranslatable("reasoning_effort", f"{quoted(effort)} is not known: minimal, low, medium or high")
    if forced:
        body.losses.add("reasoning_effort")  # thinking and a forced tool exclude each other there
    elif traits.adaptive:
        sent["thinking"] = {"type": "adaptive", "display": "summarized"} if shown else {"type": "adaptive"}
        config = sent.get("output_config")
        sent["output_config"] = {**(config if isinstance(config, dict) else {}), "effort": _EFFORTS[effort]}
    else:
        cap = sent["max_tokens"]
        assert isinstance(cap, int)
        budget = min(_BUDGETS[effort], cap - 1)
        if budget < THINKING_LEAST or history.awaits_tool_results:
            body.losses.add("reasoning_effort")
        else:
            sent["thinking"] = {"type": "enabled", "budget_tokens": budget}
            if effort in ("xhigh", "max"):
                body.losses.add("reasoning_effort")  # as for high


def _sampling(body: Fields, traits: ClaudeTraits, sent: dict[str, object]) -> None:
    """One of temperature and top_p at a time, neither beside thinking: so these models have it."""
    if not traits.sampling or sent.get("thinking", {"type": "disabled"}) != {"type": "disabled"}:
        body.drop("temperature", "top_p", "top_k")
        return
    if (temperature := body.number("temperature")) is not None:
        sent["temperature"] = min(1.0, temperature)
        if temperature > 1:
            body.losses.add("temperature")
        body.drop("top_p")
    elif (top_p := body.number("top_p")) is not None:
        sent["top_p"] = top_p
    if (top_k := body.whole("top_k")) is not None:
        sent["top_k"] = top_k


def _account(body: Fields, sent: dict[str, object]) -> None:
    """Who asks, without what names a person, which Anthropic refuses; and at which price."""
    users = [body.text("safety_identifier"), body.text("user")]
    if user := next(filter(None, users), ""):
        sent["metadata"] = {"user_id": hashlib.sha256(user.encode()).hexdigest()}
    match body.text("service_tier"):
        case "default":
            sent["service_tier"] = "standard_only"
        case "" | "auto":
            pass
        case _:
            body.losses.add("service_tier")


def _refuse(body: Fields) -> None:
    if body.whole("n") not in (None, 1):
        raise Untranslatable("n", "Anthropic gives one answer per request: send several")
    if body.take("modalities") not in (None, [], ["text"]):
        raise Untranslatable("modalities", "Anthropic answers in text only")
    body.refuse(_ONLY_THERE, "logprobs", "audio", "prediction", "web_search_options")
