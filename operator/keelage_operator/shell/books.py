"""Both books of a leader as one: budgets, which are stored, and quotas, which are not.

Sidecars and the loop over the cluster need not know which is which; a statement's name tells it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from msgspec.structs import replace

from keelage_api.account import is_quota
from keelage_api.proxy_config import Quota
from keelage_api.sync import Right, SyncRequest
from keelage_operator.core.identity import PodIdentity
from keelage_operator.core.ledger import Checkpoint
from keelage_operator.core.terms import BudgetInForce
from keelage_operator.shell.ledger_book import LedgerBook, LedgerUnavailable
from keelage_operator.shell.quota_book import QuotaBook
from keelage_operator.shell.refusals import Refusals


class Books:
    def __init__(self, ledgers: LedgerBook, refusals: Refusals, quotas: QuotaBook) -> None:
        """`refusals` stands before `ledgers`."""
        self._ledgers = ledgers
        self._refusals = refusals
        self._quotas = quotas

    @property
    def leading(self) -> bool:
        return self._ledgers.leading

    async def lead(self, after_nobody: bool = False) -> None:
        """`after_nobody`: there is no other replica that may have led before. LedgerUnavailable: try again."""
        await self._ledgers.lead(after_nobody)
        self._quotas.lead(after_nobody)

    async def stop_leading(self) -> None:
        self._quotas.stop_leading()
        await self._ledgers.stop_leading()

    def set_budgets(self, budgets: Mapping[str, BudgetInForce], checkpoints: Mapping[str, Checkpoint]) -> None:
        self._ledgers.set_budgets(budgets, checkpoints)

    def set_quotas(self, quotas: Mapping[str, Quota]) -> None:
        self._quotas.set_quotas(quotas)

    def change_budgets(self, changed: Mapping[str, BudgetInForce | None]) -> None:
        self._ledgers.change_budgets(changed)

    def note_checkpoint(self, name: str, checkpoint: Checkpoint | None) -> None:
        self._ledgers.note_checkpoint(name, checkpoint)

    def change_quotas(self, changed: Mapping[str, Quota | None]) -> None:
        self._quotas.change_quotas(changed)

    async def sync(self, pod: PodIdentity, request: SyncRequest) -> tuple[Right, ...]:
        """Rights for all statements of one pod.

        What a ledger could not store has no right in the answer and does not hold up the others; LedgerUnavailable
        if there is none at all, or if this replica does not lead.
        """
        rates = [statement for statement in request.statements if is_quota(statement.budget)]
        money = replace(request, statements=tuple(each for each in request.statements if not is_quota(each.budget)))
        of_money, of_rates = await asyncio.gather(
            self._refusals.sync(pod, money),
            self._quotas.sync(pod, request.incarnation, rates),
            return_exceptions=True,
        )
        if isinstance(of_rates, BaseException):
            raise of_rates
        if isinstance(of_money, LedgerUnavailable) and of_rates:
            return of_rates
        if isinstance(of_money, BaseException):
            raise of_money
        return (*of_money, *of_rates)

    def attribute(self, pod: PodIdentity, request: SyncRequest) -> bool:
        """Note for whom a pod spent; whether it should tell all of that."""
        return self._ledgers.attribute(pod, request)

    async def pod_gone(self, uid: str, message: str = "") -> None:
        """`message`: what its sidecar's container left as termination message."""
        self._quotas.pod_gone(uid)
        await self._ledgers.pod_gone(uid, message)

    def pods(self) -> frozenset[str]:
        """Uids of all pods that hold anything."""
        return self._ledgers.pods() | self._quotas.pods()
