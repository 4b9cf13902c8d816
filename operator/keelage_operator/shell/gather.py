"""Reads what reconciliation of one namespace needs; all of it from memory."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Protocol

from keelage_operator.core.budget_figures import instant
from keelage_operator.core.due import Due
from keelage_operator.core.ledger_figures import LedgerFigures
from keelage_operator.core.reconcile import SidecarPod, Snapshot, status_of_route
from keelage_operator.core.speakers import Speakers
from keelage_operator.shell.catalog import Catalog, Kind


class Figures(Protocol):
    """The part of the ledger book that is shown."""

    def figures(self, name: str) -> LedgerFigures | None:
        """By `<namespace>/<budget>`; None if not in force."""
        ...


class Refused(Protocol):
    """The part of the refusals that is shown."""

    def refused(self, budget: str, window: str, limit: int) -> bool: ...


class Rates(Protocol):
    """The part of the quotas that is shown."""

    def crowded(self) -> frozenset[str]:
        """Names of those that have more values than are kept."""
        ...


class Gatherer:
    def __init__(
        self,
        catalog: Catalog,
        speakers: Speakers,
        book: Figures,
        refusals: Refused,
        rates: Rates,
        clock: Callable[[], float],
        wall: Callable[[], datetime],
    ) -> None:
        self._catalog = catalog
        self._speakers = speakers
        self._book = book
        self._refusals = refusals
        self._rates = rates
        self._clock = clock
        self._wall = wall

    def snapshot(self, namespace: str, due: Due) -> Snapshot:
        """Of what is due in the namespace."""
        compiled = self._catalog.compiled(namespace)
        figures, budgets = {}, {}
        for name in compiled.budgets if due.all_budgets else sorted(due.budgets & compiled.budgets.keys()):
            seen = self._catalog.object(Kind.BUDGET, namespace, name)
            assert seen is not None  # it was compiled
            budgets[name] = seen.raw
            found = self._book.figures(f"{namespace}/{name}")
            if found is not None:
                figures[name] = found
        routes = self._catalog.objects(Kind.ROUTE, namespace) if due.routes else ()
        savings = self._speakers.savings
        return Snapshot(
            compiled=compiled,
            routes={seen.name: seen.raw for seen in routes},
            budgets=budgets,
            pods=tuple(
                SidecarPod(seen.name, seen.uid, seen.labels)
                for seen in (self._catalog.objects(Kind.POD, namespace) if routes else ())
                if not seen.over
            ),
            speakers={
                speaker.pod_uid: speaker
                for speaker in (self._speakers.of_namespace(namespace, self._clock()) if routes else ())
            },
            figures=figures,
            now=instant(self._wall()),
            refused=frozenset(
                name
                for name, found in figures.items()
                if self._refusals.refused(f"{namespace}/{name}", found.window.id, found.cap)
            ),
            crowded=self._rates.crowded(),
            saved={
                seen.name: savings.shown(namespace, seen.name, seen.uid, status_of_route(seen.raw)) for seen in routes
            },
        )
