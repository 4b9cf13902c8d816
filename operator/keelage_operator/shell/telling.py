"""Tells the books what is in force: namespace by namespace, and only what is another than before."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol, TypeVar

from keelage_api.proxy_config import Quota
from keelage_operator.core.compile import CompiledNamespace
from keelage_operator.core.terms import BudgetInForce
from keelage_operator.shell.catalog import Catalog

T = TypeVar("T")


class Obeying(Protocol):
    """The part of the books that is told."""

    def change_budgets(self, changed: Mapping[str, BudgetInForce | None]) -> None:
        """By `<namespace>/<budget>`; None: not in force any more."""
        ...

    def change_quotas(self, changed: Mapping[str, Quota | None]) -> None:
        """By name; None: not in force any more."""
        ...


class Telling:
    def __init__(self, catalog: Catalog, books: Obeying) -> None:
        self._catalog = catalog
        self._books = books
        self._told: dict[str, CompiledNamespace] = {}

    def tell(self, namespace: str) -> None:
        compiled, before = self._catalog.compiled(namespace), self._told.get(namespace)
        if compiled is before:
            return
        budgets = _changed(before.budgets_in_force() if before is not None else {}, compiled.budgets_in_force())
        quotas = _changed(_quotas(before) if before is not None else {}, _quotas(compiled))
        if budgets:
            self._books.change_budgets(budgets)
        if quotas:
            self._books.change_quotas(quotas)
        if compiled.routes or compiled.budgets:
            self._told[namespace] = compiled
        else:
            self._told.pop(namespace, None)


def _quotas(compiled: CompiledNamespace) -> dict[str, Quota]:
    return {quota.name: quota for quota in compiled.quotas()}


def _changed(before: Mapping[str, T], after: Mapping[str, T]) -> dict[str, T | None]:
    gone: dict[str, T | None] = dict.fromkeys(before.keys() - after.keys())
    return gone | {name: each for name, each in after.items() if name not in before or before[name] != each}
