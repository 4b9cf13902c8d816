"""Money: decimal strings outside, integer pico-dollars (1e-12 USD) inside.

A token price is a whole number of pico-dollars, so sums never round.
"""

from __future__ import annotations

import re

PICO_PER_USD = 10**12
PICO_PER_MICRO = 10**6

_AMOUNT = re.compile(r"(\d{1,9})(?:\.(\d{1,12}))?")


def parse_usd(text: str) -> int:
    """Pico-dollars of a decimal string such as `"500.00"`.

    Raises ValueError for anything but digits with at most nine before and twelve
    after the point: no sign, no exponent, no blank.
    """
    match = _AMOUNT.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is not an amount: write digits with an optional fraction, as in 500.00")
    whole, fraction = match.group(1), match.group(2) or ""
    return int(whole) * PICO_PER_USD + int(fraction.ljust(12, "0"))


def format_usd(pico: int, places: int = 2) -> str:
    """Decimal string with at least `places` decimals and at most six, rounded up.

    Rounded up, because what is shown is spending: it never reads less than the truth.
    Trailing zeros beyond `places` are left out: `0.003478`, `6.00`.
    """
    sign, pico = ("-", -pico) if pico < 0 else ("", pico)
    micro = -(-pico // PICO_PER_MICRO)
    whole, fraction = divmod(micro, 10**6)
    digits = f"{fraction:06d}".rstrip("0").ljust(places, "0")
    return f"{sign}{whole}.{digits}" if digits else f"{sign}{whole}"


def format_usd_floor(pico: int, places: int = 2) -> str:
    """As `format_usd`, rounded down: for what is left to spend."""
    if pico < 0:
        return format_usd(pico, places)
    return format_usd(pico - pico % PICO_PER_MICRO, places)
