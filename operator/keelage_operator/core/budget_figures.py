"""The figures of an LLMBudget's status: what its ledgers hold, as strings for people and as numbers for programs."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from keelage_api.amount import measured, plain, plain_floor, unit_name
from keelage_api.proxy_config import Unit
from keelage_api.sync import By
from keelage_api.v1alpha1.llmbudget import LABEL_MAX, TOP_MAX
from keelage_operator.core.burn import Outlook
from keelage_operator.core.ledger_figures import LedgerFigures
from keelage_operator.core.terms import BudgetInForce

INT64_MAX = 2**63 - 1
"""The API server takes no greater integer, and would refuse the whole status; a forecast may well be greater."""

OTHER = "(other)"
"""All that is not in a list of the greatest."""


def shown_figures(figures: LedgerFigures, terms: BudgetInForce, ahead: Outlook) -> dict[str, object]:
    """The part of the status that the ledgers fill.

    Spending is rounded up, what remains is rounded down: neither looks better than it is.
    """
    unit = terms.unit
    free = figures.limit - figures.spent - figures.forfeited - figures.leased
    shown: dict[str, object] = {
        "window": {
            "id": figures.window.id,
            "startsAt": instant(figures.window.starts_at),
            "endsAt": instant(figures.window.ends_at),
        },
        "limit": shown_limit(terms),
        "spent": plain(figures.spent, unit),
        "leased": plain(figures.leased, unit),
        "remaining": "" if terms.valued else plain_floor(max(free, 0), unit),
        "overdrawn": plain(figures.overdrawn, unit) if terms.soft else "",
        "pendingRecall": plain(figures.pending_recall, unit) if figures.pending_recall else "",
        "used": f"{used_percent(figures, terms)}%",
        "percent": used_percent(figures, terms),
        "burnRate": f"{plain(ahead.rate, unit)} {unit_name(unit)}/h",
        "forecast": plain(ahead.forecast, unit),
        "exhaustedAt": instant(ahead.exhausted_at) if ahead.exhausted_at is not None else "",
        "resetsAt": instant(figures.window.ends_at),
        "reserved": plain(figures.reserved, unit),
        "forfeited": plain(figures.forfeited, unit),
        "uncertain": plain(figures.uncertain, unit),
        "unheard": plain(figures.unheard, unit),
        "sidecars": {"reporting": figures.reporting, "silent": figures.silent},
        "top": {
            "models": _names(figures, By.MODEL, unit),
            "features": _names(figures, By.FEATURE, unit),
            "users": _names(figures, By.USER, unit),
        },
        "amounts": _amounts(figures, unit, ahead),
    }
    if terms.valued:
        shown["values"] = {
            "count": figures.values,
            "exhausted": figures.values_exhausted,
            "top": [
                {"value": _label(value), "spent": plain(spent, unit), "used": f"{used(spent, figures.limit)}%"}
                for value, spent in figures.top[:TOP_MAX]
            ],
        }
    return shown


def shown_limit(terms: BudgetInForce) -> str:
    """`500.00 USD`, `20000000 tokens`, `5.00 USD/User`."""
    return "/".join((measured(terms.limit, terms.unit), *terms.per))


def used_percent(figures: LedgerFigures, terms: BudgetInForce) -> int:
    """Of the limit; of the fullest value's where there are values."""
    return figures.fullest if terms.valued else used(figures.spent + figures.forfeited, figures.limit)


def used(counted: int, limit: int) -> int:
    """Percent of the limit, rounded down below 100 and never above the truth of 100: 42."""
    return counted * 100 // limit if limit > 0 else 100


def instant(at: datetime) -> str:
    """RFC 3339 in UTC, whole seconds, as Kubernetes writes it."""
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _amounts(figures: LedgerFigures, unit: Unit, ahead: Outlook) -> dict[str, object]:
    whole = {
        "limit": figures.limit,
        "overdraft": figures.overdraft,
        "spent": figures.spent,
        "uncertain": figures.uncertain,
        "granted": figures.granted,
        "forfeited": figures.forfeited,
        "committed": figures.committed,
        "burn": ahead.rate,
        "forecast": ahead.forecast,
    }
    return {
        "unit": unit.value,
        **{name: min(amount, INT64_MAX) for name, amount in whole.items()},
        "shards": [min(amount, INT64_MAX) for amount in figures.shards],
    }


def _names(figures: LedgerFigures, by: By, unit: Unit) -> list[dict[str, str]]:
    """At most TOP_MAX and `(other)`, which bears what nobody was told the name of: the list adds up to `spent`."""
    told: Sequence[tuple[str, int]] = figures.shares.get(by, ())
    if not told:
        return []
    named = [(name, spent) for name, spent in told if name != OTHER][:TOP_MAX]
    rest = figures.spent - sum(spent for _, spent in named)
    if rest > 0:
        named.append((OTHER, rest))
    return [{"name": _label(name), "spent": plain(spent, unit)} for name, spent in named]


def _label(text: str) -> str:
    return text if len(text) <= LABEL_MAX else f"{text[: LABEL_MAX - 1]}…"
