"""A Messages request as the body of a chat completion."""

from __future__ import annotations

import hashlib

from keelage_api.proxy_config import Provider
from keelage_sidecar.core.refusal import quoted
from keelage_sidecar.core.translation.chat_history import chat_messages
from keelage_sidecar.core.translation.fields import Fields, Untranslatable
from keelage_sidecar.core.translation.model_traits import ChatTraits, chat_traits
from keelage_sidecar.core.translation.schema import is_strict

STOPS_MAX = 4
"""Stop sequences that OpenAI takes."""
_USER_MAX = 64
"""Characters of `safety_identifier`."""
_SCHEMA_NAME = "answer"
_BEYOND_HIGH = ("xhigh", "max")
"""Efforts that not every model of OpenAI's knows."""
_ONLY_THERE = "it has no counterpart in OpenAI's API: leave it out, or choose an Anthropic backend"


def chat_request(body: Fields, model: str, provider: Provider) -> dict[str, object]:
    """The body for that model; raises Untranslatable."""
    traits = chat_traits(model, provider)
    body.ignore("model")
    sent: dict[str, object] = {"model": model, "messages": chat_messages(body, traits)}
    if not sent["messages"]:
        raise Untranslatable("messages", "at least one message is needed")
    _cap(body, traits, sent)
    if body.flag("stream"):
        sent |= {"stream": True, "stream_options": {"include_usage": True}}
    _tools(body, sent)
    stops = body.array("stop_sequences")
    if stops and not traits.stop:
        raise Untranslatable("stop_sequences", f"model {model!r} takes none: leave them out, or choose another model")
    if len(stops) > STOPS_MAX:
        raise Untranslatable("stop_sequences", f"OpenAI takes {STOPS_MAX}, not {len(stops)}: send fewer")
    if stops:
        sent["stop"] = stops
    if traits.sampling:
        sent |= {name: value for name in ("temperature", "top_p") if (value := body.number(name)) is not None}
    body.drop("temperature", "top_p", "top_k")
    _output(body, traits, sent)
    _account(body, provider, sent)
    body.drop("cache_control", "diagnostics")
    body.refuse(
        _ONLY_THERE,
        *("mcp_servers", "container", "thread", "compaction", "context_management", "fallbacks"),
        *("fallback_credit_token", "billing_policy", "user_profile_id", "workspace_id"),
    )
    if body.text("speed") not in ("", "standard"):
        raise Untranslatable("speed", _ONLY_THERE)
    if body.text("inference_geo") not in ("", "global", "not_available"):
        raise Untranslatable("inference_geo", "where the model runs cannot be chosen there: leave it out")
    body.finish()
    return sent


def _cap(body: Fields, traits: ChatTraits, sent: dict[str, object]) -> None:
    cap = body.whole("max_tokens")
    if cap == 0:
        raise Untranslatable("max_tokens", "0 only warms Anthropic's prompt cache: ask for at least 1")
    if cap is not None:
        sent["max_completion_tokens" if traits.newer_cap else "max_tokens"] = cap


def _tools(body: Fields, sent: dict[str, object]) -> None:
    tools: list[dict[str, object]] = []
    for tool in body.objects("tools"):
        if (kind := tool.text("type")) not in ("", "custom"):
            raise Untranslatable(tool.at("type"), f"tool {quoted(kind)} is Anthropic's own: define it as a custom one")
        function: dict[str, object] = {"name": tool.text("name")}
        if description := tool.text("description"):
            function["description"] = description
        function["parameters"] = tool.take("input_schema") or {"type": "object", "properties": {}}
        if tool.flag("strict"):
            if is_strict(function["parameters"]):
                function["strict"] = True
            else:
                tool.losses.add(tool.at("strict"))
        tool.drop("cache_control", "defer_loading", "eager_input_streaming", "input_examples", "allowed_callers")
        tool.finish()
        tools.append({"type": "function", "function": function})
    choice = body.inner("tool_choice")
    if tools:
        sent["tools"] = tools
    if choice is None:
        return
    kind = choice.text("type")
    name = choice.text("name")
    alone = choice.flag("disable_parallel_tool_use")
    choice.finish()
    if not tools:
        return  # there is nothing to choose from, and OpenAI would refuse the field
    match kind:
        case "auto" | "none":
            sent["tool_choice"] = kind
        case "any":
            sent["tool_choice"] = "required"
        case "tool":
            sent["tool_choice"] = {"type": "function", "function": {"name": name}}
        case other:
            raise Untranslatable("tool_choice.type", f"{quoted(other)} is not known: auto, any, tool or none")
    if alone:
        sent["parallel_tool_calls"] = False


def _output(body: Fields, traits: ChatTraits, sent: dict[str, object]) -> None:
    config = body.inner("output_config")
    effort = ""
    if config is not None:
        effort = config.text("effort")
        form = config.inner("format")
        config.finish()
        if form is not None:
            if (kind := form.text("type")) != "json_schema":
                raise Untranslatable(form.at("type"), f"{quoted(kind)} is not known: json_schema")
            wanted_form = form.take("schema")
            strict = is_strict(wanted_form)
            if not strict:
                body.losses.add(form.path)
            schema = {"name": _SCHEMA_NAME, "strict": strict, "schema": wanted_form}
            form.finish()
            sent["response_format"] = {"type": "json_schema", "json_schema": schema}
    thinking = body.inner("thinking")
    wanted = _effort(effort, thinking)
    if not wanted:
        return
    if traits.least_effort:
        sent["reasoning_effort"] = traits.least_effort if wanted == "none" else wanted
        if effort in _BEYOND_HIGH:
            body.losses.add("output_config.effort")
    elif wanted != "none":
        body.losses.add("thinking" if thinking is not None else "output_config.effort")


def _effort(effort: str, thinking: Fields | None) -> str:
    """As `reasoning_effort`; empty where the request says nothing."""
    if effort not in ("", "low", "medium", "high", *_BEYOND_HIGH):
        raise Untranslatable("output_config.effort", f"{quoted(effort)} is not known: low, medium or high")
    wanted = "high" if effort in _BEYOND_HIGH else effort
    if thinking is None:
        return wanted
    kind, budget = thinking.text("type"), thinking.whole("budget_tokens")
    thinking.drop("display")
    thinking.finish()
    match kind:
        case "disabled":
            return "none"
        case "enabled":
            return wanted or ("low" if (budget or 0) < 2000 else "medium" if (budget or 0) < 8000 else "high")
        case "adaptive" | "between_tools":
            return wanted or "high"  # what adaptive thinking does when no effort is named
        case other:
            raise Untranslatable("thinking.type", f"{quoted(other)} is not known: enabled, adaptive or disabled")


def _account(body: Fields, provider: Provider, sent: dict[str, object]) -> None:
    """Who asks, and at which price."""
    ours = provider is Provider.OPENAI
    if (metadata := body.inner("metadata")) is not None:
        user = metadata.text("user_id")
        metadata.finish()
        if len(user) > _USER_MAX:
            user = hashlib.sha256(user.encode()).hexdigest()
        if user:
            sent["safety_identifier" if ours else "user"] = user
    match body.text("service_tier"):
        case "standard_only" if ours:
            sent["service_tier"] = "default"
        case "" | "auto" | "standard_only":
            pass
        case _:
            body.losses.add("service_tier")
