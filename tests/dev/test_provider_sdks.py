"""The official SDKs take the fake provider for the real one."""

from __future__ import annotations

from collections.abc import AsyncIterator
from decimal import Decimal

import anthropic
import openai
import pytest

from keelage_dev.provider import FakeProvider, ThreadedProvider

KEY = "sk-test"
HAIKU = "claude-haiku-4-5"
TOOL_SCHEMA: dict[str, object] = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
}


@pytest.fixture
async def provider() -> AsyncIterator[FakeProvider]:
    async with FakeProvider({KEY: "app"}) as running:
        yield running


@pytest.fixture
async def claude(provider: FakeProvider) -> AsyncIterator[anthropic.AsyncAnthropic]:
    async with anthropic.AsyncAnthropic(
        api_key=KEY, base_url=provider.url, max_retries=0, _strict_response_validation=True
    ) as client:
        yield client


@pytest.fixture
async def gpt(provider: FakeProvider) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(
        api_key=KEY, base_url=f"{provider.url}/v1", max_retries=0, _strict_response_validation=True
    ) as client:
        yield client


async def test_anthropic_gets_a_whole_message(claude: anthropic.AsyncAnthropic) -> None:
    message = await claude.messages.create(model=HAIKU, max_tokens=5, messages=[{"role": "user", "content": "hi"}])
    assert message.content[0].type == "text"
    assert message.content[0].text == "The budget holds and every "
    assert (message.stop_reason, message.usage.output_tokens) == ("max_tokens", 5)


async def test_anthropics_stream_helper_collects_thinking_and_text(
    provider: FakeProvider, claude: anthropic.AsyncAnthropic
) -> None:
    async with claude.messages.stream(
        model=HAIKU,
        max_tokens=2000,
        thinking={"type": "enabled", "budget_tokens": 1024},
        messages=[{"role": "user", "content": "hi"}],
    ) as stream:
        text = "".join([part async for part in stream.text_stream])
        message = await stream.get_final_message()
    assert text.startswith("The budget holds")
    assert [block.type for block in message.content] == ["thinking", "text"]
    usage = message.usage
    assert usage.output_tokens == 16
    assert provider.bill().usd == Decimal(usage.input_tokens + 5 * usage.output_tokens) / 1_000_000


async def test_anthropics_stream_helper_collects_a_tool_call(claude: anthropic.AsyncAnthropic) -> None:
    async with claude.messages.stream(
        model=HAIKU,
        max_tokens=100,
        tools=[{"name": "weather", "input_schema": TOOL_SCHEMA}],
        messages=[{"role": "user", "content": "hi"}],
    ) as stream:
        message = await stream.get_final_message()
    block = message.content[0]
    assert block.type == "tool_use"
    assert (block.name, block.input, message.stop_reason) == ("weather", {"city": "value", "days": 1}, "tool_use")


async def test_anthropic_reads_cache_counts(provider: FakeProvider, claude: anthropic.AsyncAnthropic) -> None:
    provider.config(cache_min_tokens=1)
    reads = []
    for _ in range(2):
        message = await claude.messages.create(
            model=HAIKU,
            max_tokens=5,
            system=[{"type": "text", "text": "long " * 100, "cache_control": {"type": "ephemeral"}}],
            messages=[{"role": "user", "content": "hi"}],
        )
        reads.append((message.usage.cache_creation_input_tokens, message.usage.cache_read_input_tokens))
    written = reads[0][0]
    assert written
    assert reads == [(written, 0), (0, written)]


async def test_anthropic_counts_tokens_and_lists_models(claude: anthropic.AsyncAnthropic) -> None:
    counted = await claude.messages.count_tokens(model=HAIKU, messages=[{"role": "user", "content": "hi"}])
    message = await claude.messages.create(model=HAIKU, max_tokens=5, messages=[{"role": "user", "content": "hi"}])
    assert counted.input_tokens == message.usage.input_tokens
    assert HAIKU in [model.id async for model in claude.models.list()]
    assert (await claude.models.retrieve(HAIKU)).id == HAIKU


@pytest.mark.parametrize(
    ("fault", "kind", "name"),
    [
        ("400", anthropic.BadRequestError, "invalid_request_error"),
        ("400-spend", anthropic.BadRequestError, "invalid_request_error"),
        ("401", anthropic.AuthenticationError, "authentication_error"),
        ("402", anthropic.PaymentRequiredError, "billing_error"),
        ("403", anthropic.PermissionDeniedError, "permission_error"),
        ("404", anthropic.NotFoundError, "not_found_error"),
        ("409", anthropic.ConflictError, "conflict_error"),
        ("413", anthropic.ContentTooLargeError, "request_too_large"),
        ("422", anthropic.UnprocessableEntityError, "invalid_request_error"),
        ("429", anthropic.RateLimitError, "rate_limit_error"),
        ("429-spend", anthropic.EnforcedSpendLimitReachedError, "rate_limit_error"),
        ("500", anthropic.InternalServerError, "api_error"),
        ("503", anthropic.ServiceUnavailableError, "api_error"),
        ("504", anthropic.GatewayTimeoutError, "timeout_error"),
        ("529", anthropic.OverloadedError, "overloaded_error"),
    ],
)
async def test_anthropic_raises_its_class_for_each_refusal(
    claude: anthropic.AsyncAnthropic, fault: str, kind: type[anthropic.APIStatusError], name: str
) -> None:
    with pytest.raises(anthropic.APIStatusError) as caught:
        await claude.messages.create(
            model=HAIKU,
            max_tokens=5,
            messages=[{"role": "user", "content": "hi"}],
            extra_headers={"x-fake-fault": fault},
        )
    assert (type(caught.value), caught.value.type) == (kind, name)
    assert caught.value.request_id


async def test_anthropic_raises_for_an_error_inside_a_stream(claude: anthropic.AsyncAnthropic) -> None:
    with pytest.raises(anthropic.APIStatusError) as caught:
        async with claude.messages.stream(
            model=HAIKU,
            max_tokens=50,
            messages=[{"role": "user", "content": "hi"}],
            extra_headers={"x-fake-fault": "error-event:5"},
        ) as stream:
            await stream.get_final_message()
    assert (caught.value.status_code, caught.value.type) == (200, "overloaded_error")


async def test_a_batch_ends_and_costs_half(provider: FakeProvider, claude: anthropic.AsyncAnthropic) -> None:
    whole = await claude.messages.create(model=HAIKU, max_tokens=5, messages=[{"role": "user", "content": "hi"}])
    single = provider.bill().usd
    batch = await claude.messages.batches.create(
        requests=[
            {
                "custom_id": name,
                "params": {"model": HAIKU, "max_tokens": 5, "messages": [{"role": "user", "content": "hi"}]},
            }
            for name in ("a", "b")
        ]
    )
    statuses = [(await claude.messages.batches.retrieve(batch.id)).processing_status for _ in range(2)]
    assert statuses == ["in_progress", "ended"]
    assert provider.bill().usd == 2 * single
    results = [line async for line in await claude.messages.batches.results(batch.id)]
    assert [line.custom_id for line in results] == ["a", "b"]
    for line in results:
        assert line.result.type == "succeeded"
        assert line.result.message.content == whole.content
    assert [each.id async for each in claude.messages.batches.list()] == [batch.id]


async def test_a_cancelled_batch_costs_nothing(provider: FakeProvider, claude: anthropic.AsyncAnthropic) -> None:
    provider.config(batch_polls=0)
    batch = await claude.messages.batches.create(
        requests=[{"custom_id": "a", "params": {"model": HAIKU, "max_tokens": 5, "messages": []}}]
    )
    assert (await claude.messages.batches.cancel(batch.id)).processing_status == "canceling"
    ended = await claude.messages.batches.retrieve(batch.id)
    assert (ended.processing_status, ended.request_counts.canceled) == ("ended", 1)
    assert provider.bill().calls == 0
    await claude.messages.batches.delete(batch.id)
    with pytest.raises(anthropic.NotFoundError):
        await claude.messages.batches.retrieve(batch.id)


async def test_openai_gets_a_whole_completion(provider: FakeProvider, gpt: openai.AsyncOpenAI) -> None:
    provider.config(thinking_tokens=7)
    reply = await gpt.chat.completions.create(model="gpt-5-mini", messages=[{"role": "user", "content": "hi"}])
    assert reply.choices[0].message.content
    assert reply.choices[0].message.content.startswith("The budget holds")
    assert reply.usage is not None
    assert reply.usage.completion_tokens_details is not None
    assert (reply.usage.completion_tokens, reply.usage.completion_tokens_details.reasoning_tokens) == (19, 7)
    expected = Decimal("0.25") * reply.usage.prompt_tokens + 2 * reply.usage.completion_tokens
    assert provider.bill().usd == expected / 1_000_000


async def test_openais_stream_helper_collects_text_usage_and_tool_calls(gpt: openai.AsyncOpenAI) -> None:
    async with gpt.chat.completions.stream(
        model="gpt-4o",
        messages=[{"role": "user", "content": "hi"}],
        tools=[{"type": "function", "function": {"name": "weather", "strict": True, "parameters": TOOL_SCHEMA}}],
        stream_options={"include_usage": True},
    ) as stream:
        reply = await stream.get_final_completion()
    calls = reply.choices[0].message.tool_calls
    assert calls
    assert (calls[0].function.name, calls[0].function.arguments) == ("weather", '{"city":"value","days":1}')
    assert reply.usage is not None
    assert reply.usage.completion_tokens == 7


async def test_openai_gets_a_response_whole_as_a_stream_and_again_by_its_id(
    provider: FakeProvider, gpt: openai.AsyncOpenAI
) -> None:
    reply = await gpt.responses.create(model="gpt-5-mini", input="hi", max_output_tokens=16)
    assert (reply.status, reply.output_text[:18]) == ("completed", "The budget holds a")
    async with gpt.responses.stream(model="gpt-5-mini", input="hi") as stream:
        kinds = [event.type async for event in stream]
        streamed = await stream.get_final_response()
    assert (kinds[0], kinds[-1], streamed.output_text) == ("response.created", "response.completed", reply.output_text)
    assert reply.usage is not None
    assert streamed.usage == reply.usage
    expected = 2 * (Decimal("0.25") * reply.usage.input_tokens + 2 * reply.usage.output_tokens)
    assert provider.bill().usd == expected / 1_000_000
    assert (await gpt.responses.retrieve(reply.id)).output_text == reply.output_text
    assert [item.type async for item in gpt.responses.input_items.list(reply.id)] == ["message"]
    await gpt.responses.delete(reply.id)
    with pytest.raises(openai.NotFoundError):
        await gpt.responses.retrieve(reply.id)


async def test_openais_responses_call_tools_and_say_when_they_are_cut_short(gpt: openai.AsyncOpenAI) -> None:
    async with gpt.responses.stream(
        model="gpt-4o",
        input="hi",
        tools=[{"type": "function", "name": "weather", "strict": True, "parameters": TOOL_SCHEMA}],
    ) as stream:
        reply = await stream.get_final_response()
    (call,) = reply.output
    assert call.type == "function_call"
    assert (call.name, call.arguments) == ("weather", '{"city":"value","days":1}')


async def test_openai_reads_embeddings_and_models(provider: FakeProvider) -> None:
    # Not strict: the SDK itself asks for base64 and decodes it only after it has validated the reply.
    gpt = openai.AsyncOpenAI(api_key=KEY, base_url=f"{provider.url}/v1")
    reply = await gpt.embeddings.create(model="text-embedding-3-small", input=["a", "b"])
    assert [len(each.embedding) for each in reply.data] == [1536, 1536]
    assert "gpt-4o" in [model.id async for model in gpt.models.list()]
    await gpt.close()


@pytest.mark.parametrize(
    ("fault", "kind", "code"),
    [
        ("400", openai.BadRequestError, None),
        ("401", openai.AuthenticationError, "invalid_api_key"),
        ("402", openai.APIStatusError, "billing_not_active"),
        ("403", openai.PermissionDeniedError, "model_not_allowed"),
        ("404", openai.NotFoundError, "model_not_found"),
        ("409", openai.ConflictError, None),
        ("413", openai.APIStatusError, "request_too_large"),
        ("422", openai.UnprocessableEntityError, None),
        ("429", openai.RateLimitError, "rate_limit_exceeded"),
        ("429-quota", openai.RateLimitError, "insufficient_quota"),
        ("500", openai.InternalServerError, None),
        ("503", openai.InternalServerError, None),
        ("504", openai.InternalServerError, None),
    ],
)
async def test_openai_raises_its_class_for_each_refusal(
    gpt: openai.AsyncOpenAI, fault: str, kind: type[openai.APIStatusError], code: str | None
) -> None:
    with pytest.raises(openai.APIStatusError) as caught:
        await gpt.chat.completions.create(
            model="gpt-4o", messages=[{"role": "user", "content": "hi"}], extra_headers={"x-fake-fault": fault}
        )
    assert (type(caught.value), caught.value.code) == (kind, code)
    assert caught.value.request_id


async def test_openai_raises_for_an_error_inside_a_stream(gpt: openai.AsyncOpenAI) -> None:
    stream = await gpt.chat.completions.create(
        model="gpt-4o",
        messages=[{"role": "user", "content": "hi"}],
        stream=True,
        extra_headers={"x-fake-fault": "error-event:5"},
    )
    with pytest.raises(openai.APIError, match="had an error"):
        async for _ in stream:
            pass


def test_blocking_clients_use_the_provider_in_a_thread() -> None:
    with ThreadedProvider({KEY: "app"}, output_tokens=3) as provider:
        provider.config(output_tokens=4)
        with anthropic.Anthropic(api_key=KEY, base_url=provider.url) as client:
            message = client.messages.create(model=HAIKU, max_tokens=9, messages=[{"role": "user", "content": "hi"}])
        assert message.usage.output_tokens == 4
        assert provider.bill().calls == 1
        assert provider.requests()[0].key == "app"
        provider.reset()
        assert provider.bill().calls == 0
