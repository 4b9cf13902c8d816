"""The provider's own bill: what it would charge for what it served.

Deliberately shares nothing with the product's prices, which it is there to check: decimals instead of
integers, and figures typed in from the vendors' price pages.
"""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass, field
from decimal import Decimal

from keelage_dev.provider.usage import Usage

__all__ = ["Bill", "BillReport", "PriceList", "Rates"]

MILLION = Decimal(1_000_000)
DATED = re.compile(r"-(\d{8}|\d{4}-\d{2}-\d{2})$")


@dataclass(frozen=True, slots=True)
class Rates:
    """USD per million tokens."""

    input: Decimal
    output: Decimal
    cache_read: Decimal
    cache_write_5m: Decimal
    cache_write_1h: Decimal

    def usd(self, usage: Usage) -> Decimal:
        """The price of `usage`, exact."""
        return (
            usage.input * self.input
            + usage.output * self.output
            + usage.cache_read * self.cache_read
            + usage.cache_write_5m * self.cache_write_5m
            + usage.cache_write_1h * self.cache_write_1h
        ) / MILLION


def _rates(*figures: str) -> Rates:
    return Rates(*(Decimal(figure) for figure in figures))


KNOWN = {
    "claude-haiku-4-5": _rates("1", "5", "0.10", "1.25", "2"),
    "claude-opus-4-5": _rates("5", "25", "0.50", "6.25", "10"),
    "claude-sonnet-4-5": _rates("3", "15", "0.30", "3.75", "6"),
    "gpt-4o": _rates("2.50", "10", "1.25", "2.50", "2.50"),
    "gpt-4o-mini": _rates("0.15", "0.60", "0.075", "0.15", "0.15"),
    "gpt-5-mini": _rates("0.25", "2", "0.025", "0.25", "0.25"),
    "text-embedding-3-small": _rates("0.02", "0", "0.02", "0.02", "0.02"),
    "text-embedding-3-large": _rates("0.13", "0", "0.13", "0.13", "0.13"),
}
DEAREST = KNOWN["claude-opus-4-5"]


@dataclass(frozen=True, slots=True)
class PriceList:
    """Rates by model; a dated name costs what its family costs."""

    more: dict[str, list[str]] = field(default_factory=dict)

    def rates(self, model: str) -> Rates | None:
        """None for a model that is not on the list."""
        for name in (model, DATED.sub("", model)):
            if name in self.more:
                return _rates(*self.more[name])
            if name in KNOWN:
                return KNOWN[name]
        return None

    def models(self) -> list[str]:
        """Every model on the list."""
        return [*KNOWN, *self.more]


@dataclass(frozen=True, slots=True)
class BillReport:
    """A bill as it stands: USD and billed calls; by model and by key `(usd, calls)`."""

    usd: Decimal
    calls: int
    by_model: dict[str, tuple[Decimal, int]]
    by_key: dict[str, tuple[Decimal, int]]

    def as_json(self) -> dict[str, object]:
        """With money as decimal strings."""
        return {
            "usd": _plain(self.usd),
            "calls": self.calls,
            "by_model": {name: {"usd": _plain(usd), "calls": n} for name, (usd, n) in self.by_model.items()},
            "by_key": {name: {"usd": _plain(usd), "calls": n} for name, (usd, n) in self.by_key.items()},
        }


def _plain(usd: Decimal) -> str:
    return f"{usd.normalize():f}"


@dataclass(slots=True)
class Bill:
    """Running sums. A call counts once, its tokens as they are generated."""

    _by_model: defaultdict[str, Decimal] = field(default_factory=lambda: defaultdict(Decimal))
    _by_key: defaultdict[str, Decimal] = field(default_factory=lambda: defaultdict(Decimal))
    _model_calls: defaultdict[str, int] = field(default_factory=lambda: defaultdict(int))
    _key_calls: defaultdict[str, int] = field(default_factory=lambda: defaultdict(int))

    def charge(self, key: str, model: str, usd: Decimal, *, new_call: bool) -> None:
        """Add `usd` to what the key and the model owe."""
        self._by_model[model] += usd
        self._by_key[key] += usd
        if new_call:
            self._model_calls[model] += 1
            self._key_calls[key] += 1

    def report(self) -> BillReport:
        """The sums so far."""
        return BillReport(
            usd=sum(self._by_model.values(), Decimal(0)),
            calls=sum(self._model_calls.values()),
            by_model={name: (usd, self._model_calls[name]) for name, usd in self._by_model.items()},
            by_key={name: (usd, self._key_calls[name]) for name, usd in self._by_key.items()},
        )
