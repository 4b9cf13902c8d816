"""The most that one attempt can cost, known before it is sent."""

from __future__ import annotations

import msgspec

from keelage_api.pricing import ModelPrice, Rates
from keelage_api.proxy_config import Dialect, Provider
from keelage_sidecar.core.claim import SENT, Charge
from keelage_sidecar.core.endpoints import Kind
from keelage_sidecar.core.refusal import Refusal, quoted
from keelage_sidecar.core.request import CAP_FIELDS, Facts
from keelage_sidecar.core.routing import Candidate


class Bound(msgspec.Struct, frozen=True, gc=False):
    amount: int
    """Pico-dollars that the attempt's bill cannot exceed."""
    input_tokens: int
    output_tokens: int
    priced: bool = True
    """False: the model has no price and only budgets in tokens need a bound, so `amount` says nothing."""

    @property
    def charge(self) -> Charge:
        """The most that the attempt can use, in every unit."""
        return Charge(self.amount, self.input_tokens + self.output_tokens, self.input_tokens, self.output_tokens, 1)


class Unbounded(msgspec.Struct, frozen=True):
    """Nothing in the request limits the cost; under a hard budget it is refused."""

    field: str
    reason: str
    """Says object, value and remedy; ready for a `Refusal.message`."""
    charge = SENT
    """All that is known of it beforehand."""

    def refusal(self) -> Refusal:
        """What the application gets where a hard budget applies."""
        return Refusal(400, "NotBoundable", self.reason, self.field)


def bound_of(facts: Facts, candidate: Candidate, output_cap: int) -> Bound | Unbounded:
    """The bound of an attempt that is sent with that output cap; 0: with the request's own.

    A cap above the request's own changes nothing.
    """
    if not facts.endpoint.metered:
        return Bound(0, 0, 0)
    if candidate.price is None and candidate.needs_price:
        return Unbounded(
            "model", f"{_where(candidate)} has no price: add it to the backend's `prices`, or ask for a priced model"
        )
    open_end = _open_end(facts, candidate)
    if open_end is not None:
        field, reason = open_end
        return Unbounded(field, f"{field}: {reason}; under a hard budget leave it out")
    input_tokens = _input_tokens(facts, candidate)
    if isinstance(input_tokens, Unbounded):
        return input_tokens
    output_tokens = _output_tokens(facts, output_cap)
    if output_tokens is None:
        return Unbounded(
            CAP_FIELDS[facts.endpoint.kind][0],
            f"the request caps no output and {_where(candidate)} has no known maximum: "
            "set the cap in the request, or rules[].output.maxTokens in the LLMRoute",
        )
    if candidate.price is None:
        return Bound(0, input_tokens, output_tokens, priced=False)
    amount = _amount(facts, candidate.price, input_tokens, output_tokens)
    return Bound(amount, input_tokens, output_tokens)


def _where(candidate: Candidate) -> str:
    return f"model {candidate.model!r} at backend {candidate.backend.name}"


def _amount(facts: Facts, price: ModelPrice, input_tokens: int, output_tokens: int) -> int:
    """The dearest way to bill those tokens; each step is monotone in the cost that `cost_of` would find."""
    rates = price.tiers[0]
    input_rate, output_rate = _input_rate(facts, rates), rates.output
    for rates in price.tiers[1:]:
        if input_tokens > rates.above:
            input_rate, output_rate = max(input_rate, _input_rate(facts, rates)), max(output_rate, rates.output)
    total = input_tokens * input_rate + output_tokens * output_rate
    if facts.parsed.get("speed") not in (None, "standard"):
        total = -(-total * max(price.fast_percent, 200) // 100)
    # Unset, the workspace decides where it runs.
    if facts.endpoint.dialect is Dialect.ANTHROPIC and facts.parsed.get("inference_geo") != "global":
        total = max(total, -(-total * price.us_percent // 100))
    return total


def _input_rate(facts: Facts, rates: Rates) -> int:
    """Pico-dollars of the dearest class that an input token may fall into."""
    rate = max(rates.input, rates.cache_read)
    if facts.endpoint.dialect is Dialect.OPENAI:
        # Newer models write their prompt cache unasked, and charge for it.
        rate = max(rate, rates.cache_write_5m)
        if facts.weight.cached_long:
            rate = max(rate, rates.cache_write_1h, -(-rates.input * 5 // 2))
    elif facts.weight.cached:
        rate = max(rate, rates.cache_write_5m)
        if facts.weight.cached_long:
            rate = max(rate, rates.cache_write_1h)
    return rate


_OLD_IMAGE_MODELS = ("claude-3", "claude-haiku-4-5", "claude-sonnet-4", "claude-opus-4")
_NEW_IMAGE_MODELS = ("claude-opus-4-7", "claude-opus-4-8")


def _image_tokens(candidate: Candidate) -> int:
    """Ceiling for one picture of any size, after the provider has scaled it down."""
    if candidate.backend.dialect is Dialect.OPENAI:
        return 50_000  # gpt-4o-mini bills up to 48,169
    if candidate.model.startswith(_OLD_IMAGE_MODELS) and not candidate.model.startswith(_NEW_IMAGE_MODELS):
        return 56 * 56  # 1568 pixels in patches of 28
    return 92 * 92  # 2576 pixels in patches of 28


def _input_tokens(facts: Facts, candidate: Candidate) -> int | Unbounded:
    weight, price = facts.weight, candidate.price
    window = 0 if facts.long_context or price is None else price.context_window
    if weight.unread and not window:
        return Unbounded(
            weight.unread,
            f"{weight.unread}: its size in tokens is not in the request, "
            f"and the context window of {candidate.model!r} is not known: send text, or set contextWindow in `prices`",
        )
    tokens = weight.tokens
    if weight.images:
        tokens += weight.images * _image_tokens(candidate)
    if weight.unread:
        return window
    # A prompt beyond the window is refused by the provider, and not billed; a list of texts to embed has no such end.
    return min(tokens, window) if window and facts.endpoint.kind is not Kind.EMBEDDINGS else tokens


def _output_tokens(facts: Facts, output_cap: int) -> int | None:
    if not facts.endpoint.generates:
        return 0
    if not facts.capped and not output_cap:
        return None
    cap = min(facts.max_output, output_cap or facts.max_output) if facts.capped else output_cap
    if facts.endpoint.kind is Kind.MESSAGES:
        budget = thinking_budget(facts.parsed) if "thinking" in facts.parsed else None
        assert budget is None or isinstance(budget, int)
        if budget is not None and budget > cap:
            cap += budget  # interleaved thinking may go beyond max_tokens
        return cap
    choices = facts.parsed.get("n")
    assert choices is None or isinstance(choices, int)
    return cap * max(1, choices or 1) + facts.weight.prediction


def thinking_budget(body: dict[str, object]) -> object:
    """`thinking.budget_tokens` of a Messages call, whatever is there; None where nothing is."""
    thinking = body.get("thinking")
    return thinking.get("budget_tokens") if isinstance(thinking, dict) else None


_AGENTIC = ("compound", "search-preview", "search-api", "deep-research", ":online", "sonar")
"""Models that call themselves or tools: 14,100 prompt tokens were billed for a request of 137 bytes."""

_ANTHROPIC_OPEN = {
    "mcp_servers": "tools of MCP servers run at the provider, without a limit in the request",
    "container": "code runs at the provider, without a limit in the request",
    "compaction": "compacting is a further inference, without a limit in the request",
    "fallbacks": "the provider may bill further models",
}
_ANTHROPIC_ASKED = frozenset(
    {
        *_ANTHROPIC_OPEN, "thinking", "context_management", "thread", "billing_policy", "speed", "inference_geo",
        "service_tier",
    }
)  # fmt: skip
"""All that `_open_end` looks at in a Messages call."""
_OPENAI_OPEN = {
    "web_search_options": "searches are billed, without a limit in the request",
    "audio": "audio has no bound in tokens",
    "plugins": "plug-ins are billed, without a limit in the request",
    "previous_response_id": "input kept at the provider has an unknown size",
    "conversation": "input kept at the provider has an unknown size",
    "prompt": "input kept at the provider has an unknown size",
    "background": "what runs in the background ends after its answer, so its cost is not seen",
    # of compatible servers
    "models": "the server may choose a dearer model",
    "preset": "the server may choose a dearer model",
    "search_parameters": "searches are billed, without a limit in the request",
}


def _open_end(facts: Facts, candidate: Candidate) -> tuple[str, str] | None:
    """The first field whose cost nothing in the request limits, and why."""
    if facts.weight.unbounded is not None:
        return facts.weight.unbounded
    body = facts.parsed
    anthropic = facts.endpoint.dialect is Dialect.ANTHROPIC
    if anthropic and _ANTHROPIC_ASKED.isdisjoint(body):
        return None
    for name, reason in (_ANTHROPIC_OPEN if anthropic else _OPENAI_OPEN).items():
        if body.get(name) not in (None, False, [], {}):
            return name, reason
    if anthropic:
        return _open_anthropic(body, candidate)
    if any(word in candidate.model for word in _AGENTIC):
        return "model", f"{candidate.model!r} calls tools or itself, without a limit in the request"
    if _mentions(body.get("context_management"), "compact"):
        return "context_management", "compacting is a further inference, without a limit in the request"
    reasoning = body.get("reasoning")
    mode = reasoning.get("mode") if isinstance(reasoning, dict) else None
    if mode not in (None, "standard"):
        return "reasoning.mode", f"how much {quoted(mode)} bills is not in the request: use standard"
    choices = body.get("n")
    if choices is not None and (isinstance(choices, bool) or not isinstance(choices, int)):
        return "n", "a whole number is needed"
    if body.get("best_of") not in (None, 1, choices):
        return "best_of", "more answers are generated and billed than `n` says"
    modalities = body.get("modalities")
    if modalities not in (None, ["text"], []):
        return "modalities", "only text has a bound in tokens"
    tier = body.get("service_tier")
    known = ("auto", "default", "flex", *(() if candidate.backend.provider is Provider.OPENAI else ("on_demand",)))
    if tier is not None and tier not in known:
        return "service_tier", f"{quoted(tier)} has no price here: use default"
    return None


def _open_anthropic(body: dict[str, object], candidate: Candidate) -> tuple[str, str] | None:
    budget = thinking_budget(body)
    if budget is not None and (isinstance(budget, bool) or not isinstance(budget, int)):
        return "thinking.budget_tokens", "a whole number is needed"
    if _mentions(body.get("context_management"), "compact"):
        return "context_management", "compacting is a further inference, without a limit in the request"
    thread = body.get("thread")
    if isinstance(thread, dict) and thread.get("type") != "create":
        return "thread", "input kept at the provider has an unknown size"
    if body.get("billing_policy") not in (None, "default"):
        return "billing_policy", "somebody else pays, so the cost cannot be told"
    if body.get("speed") not in (None, "standard") and not (candidate.price and candidate.price.fast_percent):
        return "speed", f"{quoted(body.get('speed'))} has no price for model {candidate.model!r}"
    geo = body.get("inference_geo")
    if geo not in (None, "us", "global"):
        return "inference_geo", f"{quoted(geo)} has no price here: use us or global"
    tier = body.get("service_tier")
    if tier not in (None, "auto", "standard_only"):
        return "service_tier", f"{quoted(tier)} has no price here: use standard_only"
    return None


def _mentions(value: object, word: str) -> bool:
    """Whether a string or key at any depth holds the word; no recursion, since bodies nest a thousand deep."""
    stack = [value]
    while stack:
        item = stack.pop()
        if isinstance(item, str) and word in item:
            return True
        if isinstance(item, dict):
            stack.extend((*item, *item.values()))
        elif isinstance(item, list):
            stack.extend(item)
    return False
