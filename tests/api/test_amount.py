"""Amounts as people read them."""

from __future__ import annotations

import pytest

from keelage_api.amount import measured, plain, plain_floor, unit_name
from keelage_api.proxy_config import Unit


@pytest.mark.parametrize(
    ("amount", "unit", "up", "down", "text"),
    [
        (500 * 10**12, Unit.PICODOLLARS, "500.00", "500.00", "500.00 USD"),
        (1, Unit.PICODOLLARS, "0.000001", "0.00", "0.000001 USD"),
        (20_000_000, Unit.TOKENS, "20000000", "20000000", "20000000 tokens"),
        (0, Unit.TOKENS, "0", "0", "0 tokens"),
        (3, Unit.REQUESTS, "3", "3", "3 requests"),
        (1, Unit.REQUESTS, "1", "1", "1 request"),
        (1, Unit.CONCURRENT, "1", "1", "1 concurrent request"),
    ],
)
def test_dollars_are_decimal_and_rounded_and_all_else_is_whole(
    amount: int, unit: Unit, up: str, down: str, text: str
) -> None:
    assert (plain(amount, unit), plain_floor(amount, unit), measured(amount, unit)) == (up, down, text)


def test_every_unit_has_a_name_of_its_own() -> None:
    assert len({unit_name(unit) for unit in Unit}) == len(Unit)
