"""Runs in an environment with one official SDK: does what standard input says, prints what came of it.

Input, one JSON object: `{"sdk", "base_url", "api_key", "strict", "scenarios": [{"name", "call", "fault"}, …]}`.
Output, one JSON object per scenario and line; see `Outcome`. Imports nothing but the SDK.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass

READ_TIMEOUT_S = 20.0
"""Longer than any scenario takes but the one that hangs."""
IMPATIENT_S = 0.5
"""For that one."""
TOOL_SCHEMA: dict[str, object] = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
CLAUDE = "claude-haiku-4-5"
GPT = "gpt-4o"
EMBEDDER = "text-embedding-3-small"


@dataclass(frozen=True, slots=True)
class Seen:
    """What an application sees of a success."""

    text: str = ""
    stop: str | None = None
    tool: str = ""
    output_tokens: int | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a scenario; `error` is the class of the exception, empty for none."""

    name: str
    requests: int
    """Sent by the SDK, its retries included."""
    error: str = ""
    status: int | None = None
    type: str | None = None
    code: str | None = None
    seen: Seen = Seen()


class Counter:
    """Counts requests as they leave."""

    def __init__(self) -> None:
        self.requests = 0

    def count(self, request: object) -> None:
        """An event hook of the SDK's HTTP client."""
        self.requests += 1


def main() -> None:
    """Do every scenario, whatever the others came to."""
    order = json.load(sys.stdin)
    calls = {"anthropic": anthropic_calls, "openai": openai_calls}[order["sdk"]]
    counter = Counter()
    known = calls(order["base_url"], order["api_key"], counter, order["strict"])
    for scenario in order["scenarios"]:
        counter.requests = 0
        headers = {"x-scenario": scenario["name"]}
        if scenario["fault"]:
            headers["x-fake-fault"] = scenario["fault"]
        outcome = perform(scenario["name"], known[scenario["call"]], headers, counter)
        print(json.dumps(asdict(outcome)), flush=True)


def perform(
    name: str, call: Callable[[Mapping[str, str]], Seen], headers: Mapping[str, str], counter: Counter
) -> Outcome:
    """One call and its outcome."""
    try:
        seen = call(headers)
    except Exception as raised:  # noqa: BLE001  # which class it is, is the question
        status = getattr(raised, "status_code", None)
        body = getattr(raised, "body", None)
        error = body.get("error", body) if isinstance(body, dict) else {}
        details = error.get("details") if isinstance(error, dict) else None
        code = details.get("error_code") if isinstance(details, dict) else getattr(raised, "code", None)
        kind = getattr(raised, "type", None) or (error.get("type") if isinstance(error, dict) else None)
        return Outcome(name, counter.requests, type(raised).__name__, status, kind, code)
    return Outcome(name, counter.requests, seen=seen)


def anthropic_calls(
    base_url: str, api_key: str, counter: Counter, strict: bool
) -> dict[str, Callable[[Mapping[str, str]], Seen]]:
    """What can be done with the Anthropic SDK; `strict`: it validates what it gets."""
    import anthropic

    transport = anthropic.DefaultHttpxClient(event_hooks={"request": [counter.count]})
    client = anthropic.Anthropic(
        base_url=base_url,
        api_key=api_key,
        http_client=transport,
        timeout=READ_TIMEOUT_S,
        max_retries=2,
        _strict_response_validation=strict,
    )
    ask: anthropic.types.MessageParam = {"role": "user", "content": "hi"}

    def seen(message: anthropic.types.Message) -> Seen:
        text = "".join(block.text for block in message.content if block.type == "text")
        tool = "".join(f"{each.name} {json.dumps(each.input)}" for each in message.content if each.type == "tool_use")
        return Seen(text, message.stop_reason, tool, message.usage.output_tokens)

    def plain(headers: Mapping[str, str]) -> Seen:
        return seen(client.messages.create(model=CLAUDE, max_tokens=50, messages=[ask], extra_headers=headers))

    def impatient(headers: Mapping[str, str]) -> Seen:
        hasty = client.with_options(timeout=IMPATIENT_S, max_retries=0)
        return seen(hasty.messages.create(model=CLAUDE, max_tokens=50, messages=[ask], extra_headers=headers))

    def stream(headers: Mapping[str, str]) -> Seen:
        with client.messages.stream(model=CLAUDE, max_tokens=50, messages=[ask], extra_headers=headers) as events:
            text = "".join(events.text_stream)
            found = seen(events.get_final_message())
        assert text == found.text
        return found

    def raw_stream(headers: Mapping[str, str]) -> Seen:
        text, names = "", []
        events = client.messages.create(model=CLAUDE, max_tokens=50, messages=[ask], stream=True, extra_headers=headers)
        for event in events:
            names.append(event.type)
            if event.type == "content_block_delta" and event.delta.type == "text_delta":
                text += event.delta.text
        return Seen(text, " ".join(names))

    def tool(headers: Mapping[str, str]) -> Seen:
        return seen(
            client.messages.create(
                model=CLAUDE,
                max_tokens=50,
                messages=[ask],
                tools=[{"name": "weather", "input_schema": TOOL_SCHEMA}],
                extra_headers=headers,
            )
        )

    def tool_stream(headers: Mapping[str, str]) -> Seen:
        with client.messages.stream(
            model=CLAUDE,
            max_tokens=50,
            messages=[ask],
            tools=[{"name": "weather", "input_schema": TOOL_SCHEMA}],
            extra_headers=headers,
        ) as events:
            return seen(events.get_final_message())

    def count_tokens(headers: Mapping[str, str]) -> Seen:
        counted = client.messages.count_tokens(model=CLAUDE, messages=[ask], extra_headers=headers)
        return Seen(str(counted.input_tokens))

    def models(headers: Mapping[str, str]) -> Seen:
        return Seen(" ".join(model.id for model in client.models.list(extra_headers=headers)))

    def batch(headers: Mapping[str, str]) -> Seen:
        batches = client.with_options(default_headers=headers).messages.batches
        made = batches.create(
            requests=[
                {"custom_id": name, "params": {"model": CLAUDE, "max_tokens": 50, "messages": [ask]}}
                for name in ("a", "b")
            ]
        )
        while batches.retrieve(made.id).processing_status != "ended":
            pass
        assert made.id in [each.id for each in batches.list(limit=1)]
        replies = [each.result for each in batches.results(made.id)]
        seens = [seen(each.message) for each in replies if each.type == "succeeded"]
        return Seen(" ".join(each.text for each in seens), str(len(replies)), output_tokens=seens[0].output_tokens)

    return {
        "plain": plain,
        "impatient": impatient,
        "stream": stream,
        "raw stream": raw_stream,
        "tool": tool,
        "tool stream": tool_stream,
        "count tokens": count_tokens,
        "batch": batch,
        "models": models,
    }


def openai_calls(
    base_url: str, api_key: str, counter: Counter, strict: bool
) -> dict[str, Callable[[Mapping[str, str]], Seen]]:
    """What can be done with the OpenAI SDK; `strict`: it validates what it gets."""
    import openai
    from openai.types import chat, responses

    transport = openai.DefaultHttpxClient(event_hooks={"request": [counter.count]})
    client = openai.OpenAI(
        base_url=f"{base_url}/v1",
        api_key=api_key,
        http_client=transport,
        timeout=READ_TIMEOUT_S,
        max_retries=2,
        _strict_response_validation=strict,
    )
    ask: chat.ChatCompletionUserMessageParam = {"role": "user", "content": "hi"}
    weather: chat.ChatCompletionFunctionToolParam = {
        "type": "function",
        "function": {"name": "weather", "strict": True, "parameters": TOOL_SCHEMA},
    }

    forecast: responses.FunctionToolParam = {
        "type": "function",
        "name": "weather",
        "strict": True,
        "parameters": TOOL_SCHEMA,
    }

    def seen(reply: chat.ChatCompletion) -> Seen:
        message = reply.choices[0].message
        calls = [each.function for each in message.tool_calls or () if each.type == "function"]
        tool = "".join(f"{each.name} {each.arguments}" for each in calls)
        tokens = reply.usage.completion_tokens if reply.usage else None
        return Seen(message.content or "", reply.choices[0].finish_reason, tool, tokens)

    def plain(headers: Mapping[str, str]) -> Seen:
        return seen(client.chat.completions.create(model=GPT, max_tokens=50, messages=[ask], extra_headers=headers))

    def impatient(headers: Mapping[str, str]) -> Seen:
        hasty = client.with_options(timeout=IMPATIENT_S, max_retries=0)
        return seen(hasty.chat.completions.create(model=GPT, max_tokens=50, messages=[ask], extra_headers=headers))

    def stream(headers: Mapping[str, str]) -> Seen:
        with client.chat.completions.stream(
            model=GPT, max_tokens=50, messages=[ask], extra_headers=headers, stream_options={"include_usage": True}
        ) as events:
            return seen(events.get_final_completion())

    def raw_stream(headers: Mapping[str, str]) -> Seen:
        text, reason, usages = "", None, 0
        chunks = client.chat.completions.create(
            model=GPT, max_tokens=50, messages=[ask], stream=True, extra_headers=headers
        )
        for chunk in chunks:
            text += chunk.choices[0].delta.content or ""  # an application that did not ask for usage
            reason = chunk.choices[0].finish_reason
            usages += chunk.usage is not None
        return Seen(text, reason, output_tokens=usages)

    def tool(headers: Mapping[str, str]) -> Seen:
        return seen(
            client.chat.completions.create(
                model=GPT, max_tokens=50, messages=[ask], tools=[weather], extra_headers=headers
            )
        )

    def tool_stream(headers: Mapping[str, str]) -> Seen:
        with client.chat.completions.stream(
            model=GPT, max_tokens=50, messages=[ask], tools=[weather], extra_headers=headers
        ) as events:
            return seen(events.get_final_completion())

    def answered(reply: responses.Response) -> Seen:
        calls = [each for each in reply.output if each.type == "function_call"]
        tool = "".join(f"{each.name} {each.arguments}" for each in calls)
        return Seen(reply.output_text, reply.status, tool, reply.usage.output_tokens if reply.usage else None)

    def response(headers: Mapping[str, str]) -> Seen:
        return answered(client.responses.create(model=GPT, input="hi", max_output_tokens=50, extra_headers=headers))

    def response_stream(headers: Mapping[str, str]) -> Seen:
        with client.responses.stream(model=GPT, input="hi", max_output_tokens=50, extra_headers=headers) as events:
            return answered(events.get_final_response())

    def response_tool(headers: Mapping[str, str]) -> Seen:
        return answered(
            client.responses.create(
                model=GPT, input="hi", max_output_tokens=50, tools=[forecast], extra_headers=headers
            )
        )

    def response_tool_stream(headers: Mapping[str, str]) -> Seen:
        with client.responses.stream(
            model=GPT, input="hi", max_output_tokens=50, tools=[forecast], extra_headers=headers
        ) as events:
            return answered(events.get_final_response())

    def stored_response(headers: Mapping[str, str]) -> Seen:
        made = client.responses.create(model=GPT, input="hi", max_output_tokens=50, extra_headers=headers)
        again = client.responses.retrieve(made.id, extra_headers=headers)
        items = client.responses.input_items.list(made.id, extra_headers=headers)
        client.responses.delete(made.id, extra_headers=headers)
        return Seen(again.output_text, " ".join(each.type or "" for each in items))

    def models(headers: Mapping[str, str]) -> Seen:
        return Seen(" ".join(model.id for model in client.models.list(extra_headers=headers)))

    def embeddings(headers: Mapping[str, str]) -> Seen:
        reply = client.embeddings.create(model=EMBEDDER, input=["a", "b"], extra_headers=headers)
        return Seen(" ".join(str(len(each.embedding)) for each in reply.data), output_tokens=reply.usage.prompt_tokens)

    return {
        "plain": plain,
        "impatient": impatient,
        "stream": stream,
        "raw stream": raw_stream,
        "tool": tool,
        "tool stream": tool_stream,
        "response": response,
        "response stream": response_stream,
        "response tool": response_tool,
        "response tool stream": response_tool_stream,
        "stored response": stored_response,
        "models": models,
        "embeddings": embeddings,
    }


if __name__ == "__main__":
    main()
