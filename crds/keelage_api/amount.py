"""Amounts of an account as people read them: dollars as decimal strings, everything else as whole numbers."""

from __future__ import annotations

from keelage_api.money import format_usd, format_usd_floor
from keelage_api.proxy_config import Unit

_NAMES = {
    Unit.PICODOLLARS: "USD",
    Unit.TOKENS: "tokens",
    Unit.INPUT_TOKENS: "input tokens",
    Unit.OUTPUT_TOKENS: "output tokens",
    Unit.REQUESTS: "requests",
    Unit.CONCURRENT: "concurrent requests",
}


def unit_name(unit: Unit) -> str:
    """As it stands behind an amount: `USD`, `tokens`."""
    return _NAMES[unit]


def plain(amount: int, unit: Unit) -> str:
    """Without its unit: `0.003478`, `20000000`. Dollars are rounded up: spending never reads less than it is."""
    return format_usd(amount) if unit is Unit.PICODOLLARS else str(amount)


def plain_floor(amount: int, unit: Unit) -> str:
    """As `plain`, rounded down: for what is left."""
    return format_usd_floor(amount) if unit is Unit.PICODOLLARS else str(amount)


def measured(amount: int, unit: Unit) -> str:
    """With its unit: `500.00 USD`, `20000000 tokens`, `1 request`."""
    return f"{plain(amount, unit)} {unit_name(unit).removesuffix('s') if amount == 1 else unit_name(unit)}"
