"""Calls, backends and prices that the tests of the sidecar's decisions share."""

from __future__ import annotations

from typing import TypeVar

import orjson

from keelage_api.pricing import ModelPrice, Rates
from keelage_api.proxy_config import Backend, BudgetTerms, ModelChoice, Provider, ProxyConfig, Quota, Rule
from keelage_sidecar.core.endpoints import CHAT, EMBEDDINGS, MESSAGES, RESPONSES, Endpoint
from keelage_sidecar.core.refusal import Headers
from keelage_sidecar.core.request import Facts, read_request
from keelage_sidecar.core.routing import Candidate

T = TypeVar("T")

HAIKU = ModelPrice(
    (Rates(0, 1_000_000, 100_000, 1_250_000, 2_000_000, 5_000_000),),
    context_window=200_000,
    max_output_tokens=64_000,
    web_search=10_000_000_000,
)
"""claude-haiku-4-5: 1 and 5 USD per million tokens."""

GPT = ModelPrice((Rates(0, 250_000, 25_000, 250_000, 250_000, 2_000_000),), 400_000, 128_000)
"""gpt-5-mini: 0.25 and 2 USD per million tokens."""

EMBED = ModelPrice((Rates(0, 20_000, 20_000, 20_000, 20_000, 0),), 8192)

ANTHROPIC = Backend("assistant/anthropic", Provider.ANTHROPIC, "https://api.anthropic.com", "llm-keys/anthropic")
OPENAI = Backend("assistant/openai", Provider.OPENAI, "https://api.openai.com", "llm-keys/openai")
LOCAL = Backend(
    "assistant/vllm", Provider.OPENAI_COMPATIBLE, "http://vllm.models:8000/v1", prices={"qwen": ModelPrice(GPT.tiers)}
)


def config(
    *rules: Rule,
    budgets: tuple[BudgetTerms, ...] = (),
    quotas: tuple[Quota, ...] = (),
    tiers: dict[str, tuple[ModelChoice, ...]] | None = None,
) -> ProxyConfig:
    return ProxyConfig(
        "v1",
        rules=rules or (Rule("assistant", "all", (ModelChoice(ANTHROPIC.name), ModelChoice(OPENAI.name))),),
        backends={backend.name: backend for backend in (ANTHROPIC, OPENAI, LOCAL)},
        budgets=budgets,
        quotas=quotas,
        tiers=tiers or {},
        prices={
            Provider.ANTHROPIC: {"claude-haiku-4-5": HAIKU},
            Provider.OPENAI: {"gpt-5-mini": GPT, "text-embedding-3-small": EMBED},
        },
    )


def facts_of(endpoint: Endpoint, body: dict[str, object] | bytes, headers: Headers = ()) -> Facts:
    read = read_request(endpoint, headers, body if isinstance(body, bytes) else orjson.dumps(body))
    assert isinstance(read, Facts), read
    return read


def messages(**fields: object) -> Facts:
    """A small Messages call, with those fields set or, where None, as JSON null."""
    return facts_of(
        MESSAGES,
        {"model": "claude-haiku-4-5", "max_tokens": 100, "messages": [{"role": "user", "content": "Hi"}], **fields},
    )


def chat(**fields: object) -> Facts:
    return facts_of(CHAT, {"model": "gpt-5-mini", "messages": [{"role": "user", "content": "Hi"}], **fields})


def responses(**fields: object) -> Facts:
    return facts_of(RESPONSES, {"model": "gpt-5-mini", "input": "Hi", **fields})


def embeddings(texts: object) -> Facts:
    return facts_of(EMBEDDINGS, {"model": "text-embedding-3-small", "input": texts})


def claude(hard: bool = True, cap: int = 0) -> Candidate:
    return Candidate(ANTHROPIC, "claude-haiku-4-5", HAIKU, hard, cap, HAIKU)


def gpt(hard: bool = True, cap: int = 0) -> Candidate:
    return Candidate(OPENAI, "gpt-5-mini", GPT, hard, cap, GPT)


def is_a(kind: type[T], value: object) -> T:
    assert isinstance(value, kind), value
    return value
