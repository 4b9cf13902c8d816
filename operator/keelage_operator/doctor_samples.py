"""Our bound and our estimate of a prompt's tokens beside the provider's own count, over texts of several kinds."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from keelage_api.pricing import ModelPrice
from keelage_api.proxy_config import Backend
from keelage_sidecar.core.bound import Bound, bound_of
from keelage_sidecar.core.endpoints import endpoint_of
from keelage_sidecar.core.expectation import Expectations
from keelage_sidecar.core.refusal import Refusal
from keelage_sidecar.core.request import read_request
from keelage_sidecar.core.routing import Candidate

MAX_TOKENS = 1024
PATH = "/v1/messages"

_TOOL = {
    "name": "get_weather",
    "description": "The weather at a place.",
    "input_schema": {"type": "object", "properties": {"place": {"type": "string"}}, "required": ["place"]},
}
_TEXTS = {
    "a word": "Hello",
    "English": (
        "The harbour master keeps a ledger of every vessel that lies at the quay, notes how long it has stayed, and"
        " sends its owner a bill at the end of the month. "
    )
    * 8,
    "German": (
        "Die Hafenmeisterei verzeichnet jedes Schiff am Kai, vermerkt die Liegedauer und stellt dem Eigner am"
        " Monatsende eine Rechnung über die fälligen Hafengebühren. "
    )
    * 8,
    "Chinese": "港务长记录停靠在码头的每一艘船只，记下停泊的时间，并在月底向船主寄出账单。" * 8,
    "code": "def total(items: list[int]) -> int:\n    return sum(item for item in items if item % 2 == 0)\n" * 12,
    "JSON": json.dumps([{"id": number, "price": f"{number * 37 % 101}.99", "sold": True} for number in range(40)]),
    "emoji": "🚢⚓🌊🧭 👩‍🔬👨‍👩‍👧‍👦 " * 20,
}
"""Tokens per character differ most between these."""


@dataclass(frozen=True, slots=True)
class Comparison:
    bounds: Mapping[str, float]
    """By sample: the bound as a multiple of the provider's count."""
    estimates: Mapping[str, float]
    below: tuple[str, int, int] | None
    """Sample, bound and count of the first whose bound is too low; there must be none."""

    @property
    def bound_text(self) -> str:
        """`1.21 (Chinese) to 4.80 (English) times`."""
        return _range(self.bounds)

    @property
    def estimate_text(self) -> str:
        return _range(self.estimates)


def samples() -> dict[str, dict[str, object]]:
    """Messages calls without a model, by what they are."""
    found: dict[str, dict[str, object]] = {
        name: {"messages": [{"role": "user", "content": text}]} for name, text in _TEXTS.items()
    }
    found["a tool"] = {
        "system": _TEXTS["English"],
        "tools": [_TOOL],
        "messages": [{"role": "user", "content": "What is the weather in Tokyo?"}],
    }
    return found


def compared(
    backend: Backend,
    model: str,
    price: ModelPrice | None,
    count: Callable[[str, Mapping[str, object]], int | None],
) -> Comparison | None:
    """`count` asks the provider about a model and a call; None where it has no answer to that."""
    bounds: dict[str, float] = {}
    estimates: dict[str, float] = {}
    below: tuple[str, int, int] | None = None
    candidate = Candidate(backend, model, price, needs_price=False)
    for name, sample in samples().items():
        counted = count(model, sample)
        if counted is None:
            return None
        body = json.dumps({**sample, "model": model, "max_tokens": MAX_TOKENS}, ensure_ascii=False).encode()
        endpoint = endpoint_of("POST", PATH, ())
        assert not isinstance(endpoint, Refusal)
        facts = read_request(endpoint, (), body)
        assert not isinstance(facts, Refusal)
        bound = bound_of(facts, candidate, 0)
        assert isinstance(bound, Bound)
        expected = Expectations().of(model, len(body), bound)
        bounds[name] = bound.input_tokens / max(1, counted)
        estimates[name] = expected.input_tokens / max(1, counted)
        if below is None and bound.input_tokens < counted:
            below = name, bound.input_tokens, counted
    return Comparison(bounds, estimates, below)


def _range(ratios: Mapping[str, float]) -> str:
    least, most = min(ratios, key=ratios.__getitem__), max(ratios, key=ratios.__getitem__)
    return f"{ratios[least]:.2f} ({least}) to {ratios[most]:.2f} ({most}) times"
