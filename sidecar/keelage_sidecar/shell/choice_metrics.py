"""What rules and budgets chose for calls, and what those in shadow would have, for the scrape."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

import msgspec

from keelage_api.money import PICO_PER_USD
from keelage_sidecar.core.log_line import CallRecord
from keelage_sidecar.shell.exposition import CounterFamily, Family, GaugeFamily


class ChoiceMetrics:
    """Names of routes, rules, tiers and budgets: as many as the configuration has."""

    def __init__(self) -> None:
        self._selections: defaultdict[tuple[str, str, str, str], int] = defaultdict(int)
        self._rules: defaultdict[tuple[str, str], int] = defaultdict(int)
        self._differences: defaultdict[tuple[str, str], int] = defaultdict(int)
        self._budgets: defaultdict[tuple[str, str], int] = defaultdict(int)

    def tell(self, record: CallRecord) -> None:
        """Count a call that has ended."""
        if record.selected_by:
            self._selections[record.route, record.rule, record.tier, record.selected_by] += 1
        if (rule := record.shadow_rule) is not msgspec.UNSET:
            self._rules[rule.route, rule.rule] += 1
            self._differences[rule.route, rule.rule] += rule.difference_picodollars or 0
        if (budgets := record.shadow_budgets) is not msgspec.UNSET:
            for each in budgets:
                self._budgets[each.budget, each.would] += 1

    def families(self) -> Iterator[Family]:
        selections = CounterFamily(
            "keelage_selections",
            "Calls by the tier that their rule selected, and why",
            labels=("route", "rule", "tier", "by"),
        )
        for labels, count in self._selections.items():
            selections.add(labels, count)
        rules = CounterFamily(
            "keelage_shadow_rule_calls", "Calls that a rule in shadow would have taken", labels=("route", "rule")
        )
        for rule, count in self._rules.items():
            rules.add(rule, count)
        # A gauge: it may fall.
        difference = GaugeFamily(
            "keelage_shadow_rule_difference_usd",
            "What these would have cost more, an estimate; below zero: less",
            labels=("route", "rule"),
        )
        for rule, pico in self._differences.items():
            difference.add(rule, pico / PICO_PER_USD)
        budgets = CounterFamily(
            "keelage_shadow_budget_calls",
            "Calls that a budget in shadow would have refused or changed",
            labels=("budget", "would"),
        )
        for budget, count in self._budgets.items():
            budgets.add(budget, count)
        yield from (selections, rules, difference, budgets)
