"""What is shown of the ledgers that this replica leads; computed from what is in memory, and seldom."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping

from keelage_api.window import Window
from keelage_operator.core.attribution import Attribution
from keelage_operator.core.burn import Burn, burned, rate_of
from keelage_operator.core.ledger import LedgerRecord, rebuild
from keelage_operator.core.ledger_figures import Bounds, LedgerFigures, Tally, figures, tally
from keelage_operator.core.terms import BudgetInForce
from keelage_operator.shell.ledger_page import LedgerPage
from keelage_operator.shell.ledger_store import LedgerKey

SHOWN_S = 4.0
"""Figures over many ledgers are not added up more often: a status is written every five seconds."""


class LedgerView:
    def __init__(
        self,
        pages: Mapping[LedgerKey, LedgerPage],
        attribution: Attribution,
        known_of: Callable[[LedgerKey], int],
        clock: Callable[[], float],
        now_s: Callable[[], int],
    ) -> None:
        """`known_of`: what the status says was committed in a ledger; `clock`: monotonic seconds; `now_s`: unix."""
        self._pages = pages
        self._attribution = attribution
        self._known_of = known_of
        self._clock = clock
        self._now_s = now_s
        self._burns: dict[str, Burn] = {}
        """Of budgets whose figures were asked for."""
        self._shown: dict[str, tuple[float, BudgetInForce, LedgerFigures]] = {}
        """Of budgets with many ledgers, and when they were added up."""
        self._owed: set[str] = set()
        """Budgets of which figures were asked for and given as they had been a moment before."""

    def forget(self, name: str) -> None:
        """The budget is not in force any more."""
        self._burns.pop(name, None)
        self._shown.pop(name, None)
        self._owed.discard(name)

    def forget_all(self) -> None:
        """Another replica leads: what was added up is old when this one does again."""
        self._shown.clear()
        self._owed.clear()

    def owed(self) -> list[str]:
        """Budgets that are to be looked at again: newer figures can be had now than those that were given last."""
        due_s = self._clock() - SHOWN_S
        return [name for name in self._owed if name not in self._shown or self._shown[name][0] <= due_s]

    def of(self, terms: BudgetInForce, window: Window) -> LedgerFigures:
        """Of the budget's current window."""
        shown = self._shown.get(terms.name)
        fresh = shown is not None and self._clock() < shown[0] + SHOWN_S
        if fresh and shown is not None and shown[1] == terms and shown[2].window == window:
            self._owed.add(terms.name)
            return shown[2]
        self._owed.discard(terms.name)
        found = self._added_up(terms, window)
        if terms.valued:
            self._shown[terms.name] = (self._clock(), terms, found)
        return found

    def _added_up(self, terms: BudgetInForce, window: Window) -> LedgerFigures:
        bounds = Bounds(terms.limit, terms.overdraft, terms.hard, terms.thresholds)
        records: list[LedgerRecord] = []
        tallies: list[Tally] = []
        guessed = False
        for shard in range(terms.shards):
            key = LedgerKey(terms.name, window.id, shard)
            page = self._pages.get(key)
            found = page.tally(bounds) if page is not None else None
            if page is not None and page.record is not None and found is not None:
                records.append(page.record)
                tallies.append(found)
                continue
            made_up = tally(rebuild(window, self._known_of(key), self._now_s(), valued=terms.valued), bounds)
            guessed = guessed or made_up.spent > 0
            tallies.append(made_up)
        # The record keeps the bounds that it was opened with; another time zone moves them.
        total = figures(window, bounds, tallies, self._now_s())
        if not guessed:  # a checkpoint counts what is leased as spent: not for the rate
            self._burns[terms.name] = burned(self._burns.get(terms.name), window, total.spent, self._clock())
        burn = self._burns.get(terms.name)
        kept = [record.shares for record in records if record.shares]
        return dataclasses.replace(
            total,
            burn=rate_of(burn) if burn is not None else 0,
            shards=tuple(each.committed for each in tallies) if terms.valued else (),
            shares=self._attribution.shown(terms.name, window.id, kept, total.spent),
        )
