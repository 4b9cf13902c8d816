"""The price book: genai-prices, pinned, compiled once to integer records by provider and model.

Prices are those in force on PRICED_ON, never those of today: under a budget a price
must not move while its window runs. A newer release of keelage brings newer prices.
Names are matched exactly; the data's own prefixes would price models that nobody knows.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from functools import cache

from genai_prices.data import providers as published_providers
from genai_prices.types import ClauseEquals, ClauseOr, ModelInfo, TieredPrices
from genai_prices.types import ModelPrice as PublishedPrice
from genai_prices.types import Provider as PublishedProvider

from keelage_api.errors import ManifestError
from keelage_api.money import parse_usd
from keelage_api.pricing import ModelPrice, Rates
from keelage_api.proxy_config import Provider
from keelage_api.v1alpha1.backend import Backend, PriceOverride
from keelage_operator.core.model_names import (
    ANTHROPIC_DATED,
    MAX_OUTPUT_TOKENS,
    NOT_BOUNDED_BY_TOKENS,
    ONE_PLACE,
    OPENAI_DATED,
)

PRICED_ON = datetime(2026, 11, 1, tzinfo=UTC)
"""The date of this release's prices."""

PICO_PER_USD_PER_MTOK = 10**6
PICO_PER_USD_PER_THOUSAND = 10**9
TOKENS_PER_MTOK = 10**6

ANTHROPIC_WEB_SEARCH = 10 * PICO_PER_USD_PER_THOUSAND
"""10 USD per thousand, for each model alike (Anthropic's price list); the data leaves it out for some."""
US_PERCENT = 110
BATCH_PERCENT = 50
"""Where the data has no batch rates: Anthropic's price page has half for every model."""

_TOKEN_UNITS = frozenset({"input_mtok", "cache_read_mtok", "cache_write_mtok", "cache_write_1h_mtok", "output_mtok"})
_OTHER_UNITS = frozenset({"web_searches_kcount", "storage_searches_kcount"})
"""Charged by web_search, or by a tool that the sidecar does not let through under a budget."""

Book = Mapping[Provider, Mapping[str, ModelPrice]]


@cache
def price_book() -> dict[Provider, dict[str, ModelPrice]]:
    """Every model with a price by text tokens, by each of its exact names."""
    return {
        Provider.ANTHROPIC: _compiled("anthropic", ANTHROPIC_DATED),
        Provider.OPENAI: _compiled("openai", OPENAI_DATED),
    }


def _compiled(provider_id: str, dated: tuple[str, ...]) -> dict[str, ModelPrice]:
    published = next(provider for provider in published_providers if provider.id == provider_id)
    book: dict[str, ModelPrice] = {}
    for model in published.models:
        price = _model_price(provider_id, model)
        if price is not None:
            for name in _names(published, model, dated):
                book.setdefault(name, price)
    return book


def _names(provider: PublishedProvider, model: ModelInfo, dated: tuple[str, ...]) -> Iterator[str]:
    """The exact names by which the provider knows the model."""
    clauses = model.match.or_ if isinstance(model.match, ClauseOr) else [model.match]
    listed = [clause.equals for clause in clauses if isinstance(clause, ClauseEquals)]
    for name in (model.id, *listed, *dated):
        if _priced_by_text(name) and provider.find_model(name) is model:
            yield name


def _priced_by_text(name: str) -> bool:
    words = name.replace(".", "-")
    return ":" not in name and not any(f"-{part}-" in f"-{words}-" for part in NOT_BOUNDED_BY_TOKENS)


def _model_price(provider_id: str, model: ModelInfo) -> ModelPrice | None:
    """The record of one model; None if it bills anything that the record has no place for."""
    prices = _units(model.get_prices(PRICED_ON))
    if "input_mtok" not in prices or prices.keys() - _TOKEN_UNITS - _OTHER_UNITS:
        return None
    anthropic = provider_id == "anthropic"
    search = prices.get("web_searches_kcount")
    fast = _units(model.get_prices(PRICED_ON, {"speed": "fast"}))
    # Only Anthropic's batches are served: OpenAI's read their requests from a file.
    batch = _units(model.get_prices(PRICED_ON, {"processing": "batch"})) if anthropic else prices
    tiers = _tiers(prices)
    window = model.context_window or 0
    return ModelPrice(
        tiers=tiers,
        # A rate for prompts beyond the window says that some are let in: then it bounds nothing.
        context_window=window if tiers[-1].above < window else 0,
        max_output_tokens=MAX_OUTPUT_TOKENS.get(model.id, 0),
        fast_percent=_percent(_tiers(fast), tiers) if fast != prices else 0,
        us_percent=US_PERCENT if anthropic and model.id not in ONE_PLACE else 100,
        batch_percent=_percent(_tiers(batch), tiers) if batch != prices else BATCH_PERCENT,
        web_search=(
            math.ceil(search * PICO_PER_USD_PER_THOUSAND)
            if isinstance(search, Decimal)
            else ANTHROPIC_WEB_SEARCH
            if anthropic
            else 0
        ),
    )


def _units(price: PublishedPrice) -> dict[str, Decimal | TieredPrices]:
    return {key: value for key, value in vars(price).items() if value is not None and not key.startswith("_")}


def _tiers(prices: Mapping[str, Decimal | TieredPrices]) -> tuple[Rates, ...]:
    """The rates by prompt size. A cache rate that is not published falls back to the next dearer kind of input."""
    starts = sorted(
        {tier.start for price in prices.values() if isinstance(price, TieredPrices) for tier in price.tiers}
    )

    def rate(above: int, *units: str) -> int:
        price = next((prices[unit] for unit in units if unit in prices), Decimal(0))
        if isinstance(price, TieredPrices):
            price = next((tier.price for tier in reversed(price.tiers) if tier.start <= above), price.base)
        return math.ceil(price * PICO_PER_USD_PER_MTOK)

    return tuple(
        Rates(
            above=above,
            input=rate(above, "input_mtok"),
            cache_read=rate(above, "cache_read_mtok", "input_mtok"),
            cache_write_5m=rate(above, "cache_write_mtok", "input_mtok"),
            cache_write_1h=rate(above, "cache_write_1h_mtok", "cache_write_mtok", "input_mtok"),
            output=rate(above, "output_mtok"),
        )
        for above in (0, *starts)
    )


def _percent(dear: tuple[Rates, ...], plain: tuple[Rates, ...]) -> int:
    """The least whole percentage by which the plain rates reach every dear one."""
    return max(
        math.ceil(Decimal(rate) * 100 / base)
        for high, low in zip(dear, plain, strict=True)
        for rate, base in zip(_amounts(high), _amounts(low), strict=True)
        if base
    )


def _amounts(rates: Rates) -> tuple[int, int, int, int, int]:
    return rates.input, rates.cache_read, rates.cache_write_5m, rates.cache_write_1h, rates.output


def pico_per_token(usd_per_mtok: str) -> int:
    """Exact: the schema allows six decimals, and 0.000001 USD per million tokens is one pico-dollar per token."""
    return parse_usd(usd_per_mtok) // TOKENS_PER_MTOK


@dataclass(frozen=True, slots=True)
class _Given:
    """What an override says, in pico-dollars per token."""

    input: int | None
    cache_read: int | None
    cache_write_5m: int | None
    cache_write_1h: int | None
    output: int | None

    def over(self, rates: Rates) -> Rates:
        return Rates(
            above=rates.above,
            input=rates.input if self.input is None else self.input,
            cache_read=rates.cache_read if self.cache_read is None else self.cache_read,
            cache_write_5m=rates.cache_write_5m if self.cache_write_5m is None else self.cache_write_5m,
            cache_write_1h=rates.cache_write_1h if self.cache_write_1h is None else self.cache_write_1h,
            output=rates.output if self.output is None else self.output,
        )


def _optional(price: str | None) -> int | None:
    return None if price is None else pico_per_token(price)


def overridden(provider: Provider, override: PriceOverride, base: ModelPrice | None) -> ModelPrice:
    """The price of a model with the user's figures over the book's.

    A figure holds for every prompt size. ManifestError: figures are missing for a
    model that the book does not have, or one is below the book and not `negotiated`.
    """
    given = _Given(
        input=_optional(override.input_per_m_tok),
        cache_read=_optional(override.cache_read_per_m_tok),
        cache_write_5m=_optional(override.cache_write_5m_per_m_tok),
        cache_write_1h=_optional(override.cache_write_1h_per_m_tok),
        output=_optional(override.output_per_m_tok),
    )
    if base is None:
        if given.input is None or given.output is None:
            raise ManifestError(
                f"prices of model {override.model}: the price book does not have it: give both inputPerMTok and"
                " outputPerMTok"
            )
        anthropic = provider is Provider.ANTHROPIC
        plain = Rates(
            above=0,
            input=given.input,
            cache_read=given.input,
            cache_write_5m=-(-given.input * 125 // 100),
            cache_write_1h=given.input * 2,
            output=given.output,
        )
        return ModelPrice(
            tiers=(given.over(plain),),
            context_window=override.context_window or 0,
            max_output_tokens=override.max_output_tokens or 0,
            us_percent=US_PERCENT if anthropic else 100,
            web_search=ANTHROPIC_WEB_SEARCH if anthropic else 0,
        )
    price = ModelPrice(
        tiers=tuple(given.over(rates) for rates in base.tiers),
        context_window=override.context_window or base.context_window,
        max_output_tokens=override.max_output_tokens or base.max_output_tokens,
        fast_percent=base.fast_percent,
        us_percent=base.us_percent,
        batch_percent=base.batch_percent,
        web_search=base.web_search,
    )
    if not override.negotiated and _below(price, base):
        raise ManifestError(
            f"prices of model {override.model}: a figure is below the price book's, which would let more be spent than"
            " the limit: correct it, or set negotiated: true if that is what you pay"
        )
    return price


def _below(price: ModelPrice, base: ModelPrice) -> bool:
    """Whether some bound by `price` is lower than by `base`."""
    return (
        any(
            rate < least
            for mine, books in zip(price.tiers, base.tiers, strict=True)
            for rate, least in zip(_amounts(mine), _amounts(books), strict=True)
        )
        or price.context_window < base.context_window
        or price.max_output_tokens < base.max_output_tokens
    )


def price_of(backend: Backend, model: str, book: Book) -> ModelPrice | None:
    """What the model costs at that backend; None if nobody knows. ManifestError as for `overridden`."""
    base = book.get(backend.provider, {}).get(model)
    for override in backend.prices:
        if override.model == model:
            return overridden(backend.provider, override, base)
    return base
