"""How much a budget allows: dollars or tokens."""

from __future__ import annotations

import enum
from decimal import Decimal
from typing import Annotated

from pydantic import Field, StringConstraints

from keelage_api.v1alpha1.constraint import Constraint, constrained, pattern
from keelage_api.v1alpha1.metadata import Part

AMOUNT_MAX = 9_000_000
"""USD. In pico-dollars the largest round sum that fits a signed 64-bit integer, as journals and JSON hold."""

TOKENS_MAX = 1_000_000_000_000
"""In a window. Ten thousand dollars' worth of the cheapest model; as a number of JSON it is exact everywhere."""


class Currency(enum.StrEnum):
    USD = "USD"


_AMOUNT = pattern(
    r"[0-9]{1,7}([.][0-9]{1,6})?",
    'must be an amount in USD from 0 to 9000000 as a decimal string with at most 6 decimals, as in "500.00"',
)

Amount = Annotated[
    str,
    StringConstraints(min_length=1, max_length=16),
    Constraint[str](
        cel=f"{_AMOUNT.cel} && double(self) <= {AMOUNT_MAX}.0",
        message=_AMOUNT.message,
        holds=lambda text: _AMOUNT.holds(text) and Decimal(text) <= AMOUNT_MAX,
    ),
]


Tokens = Annotated[int, Field(ge=0, le=TOKENS_MAX, json_schema_extra={"format": "int64"})]


@constrained(
    Constraint["Limit"](
        cel="has(self.amount) != has(self.tokens)",
        message='write either amount, as in {amount: "500.00"}, or tokens, as in {tokens: 20000000}: a budget counts'
        " in one unit",
        holds=lambda part: (part.amount is None) != (part.tokens is None),
    ),
    Constraint["Limit"](
        cel="!(has(self.tokens) && has(self.currency))",
        message="currency belongs to amount: leave it out beside tokens",
        holds=lambda part: part.tokens is None or part.currency is None,
        field=".currency",
    ),
)
class Limit(Part):
    """The most that may be used in one window: dollars or tokens."""

    amount: Amount | None = None
    """A decimal string, as in "500.00"; "0" lets nothing through."""
    currency: Currency | None = None
    """Of the amount; prices are known in USD only, which is also meant when it is left out."""
    tokens: Tokens | None = None
    """Input and output together, cached ones too; 0 lets nothing through."""


@constrained(
    Constraint["Overdraft"](
        cel="has(self.amount) != has(self.tokens)",
        message='write either amount, as in {amount: "50.00"}, or tokens, as in {tokens: 2000000}: the one that'
        " spec.limit has",
        holds=lambda part: (part.amount is None) != (part.tokens is None),
    ),
)
class Overdraft(Part):
    """How far a Soft limit may be passed, in the limit's own unit."""

    amount: Amount | None = None
    """USD, a decimal string, as in "50.00"."""
    tokens: Tokens | None = None
    """Input and output together."""
