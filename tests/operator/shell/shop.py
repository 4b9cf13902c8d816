"""A namespace with routes, budgets and pods, and a controller over a fake API server."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TypeVar

from tests.operator.shell.fake_cluster import FakeCluster
from tests.operator.shell.virtual_time import VirtualTime

from keelage_api.money import parse_usd
from keelage_api.proxy_config import Quota
from keelage_api.sync import Right, SyncRequest
from keelage_api.window import Window
from keelage_operator.core.identity import PodIdentity
from keelage_operator.core.ledger import Checkpoint
from keelage_operator.core.ledger_figures import LedgerFigures
from keelage_operator.core.price_book import price_book
from keelage_operator.core.speakers import Speakers
from keelage_operator.core.terms import BudgetInForce
from keelage_operator.shell.apply import Applier
from keelage_operator.shell.catalog import Catalog
from keelage_operator.shell.cluster import Json
from keelage_operator.shell.controller import Controller
from keelage_operator.shell.gather import Gatherer
from keelage_operator.shell.ledger_store import StoreUnavailable
from keelage_operator.shell.measures import Measures
from keelage_operator.shell.refusals import Refusals
from keelage_operator.shell.work_queue import WorkQueue

T = TypeVar("T")
API = "/apis/keelage.dev/v1alpha1/namespaces/shop"
PODS = "/api/v1/namespaces/shop/pods"
WINDOW = Window("2026-11", datetime(2026, 11, 1, tzinfo=UTC), datetime(2026, 12, 1, tzinfo=UTC))


def route(tier: str = "fast", model: str = "claude-haiku-4-5") -> Json:
    return {
        "apiVersion": "keelage.dev/v1alpha1",
        "kind": "LLMRoute",
        "spec": {
            "backends": [
                {
                    "name": "anthropic",
                    "provider": "Anthropic",
                    "credentials": {"secretKeyRef": {"name": "keys", "key": "anthropic"}},
                }
            ],
            "tiers": [{"name": "fast", "models": [{"backend": "anthropic", "model": model}]}],
            "rules": [{"name": "all", "select": [{"tier": tier}]}],
        },
    }


def budget(amount: str = "5.00", zone: str = "UTC") -> Json:
    return {
        "apiVersion": "keelage.dev/v1alpha1",
        "kind": "LLMBudget",
        "spec": {"limit": {"amount": amount}, "window": {"every": "Month", "timeZone": zone}},
    }


def pod(uid: str, phase: str = "Running", injected: bool = True) -> Json:
    labels = {"app": "web", "keelage.dev/injected": "true" if injected else "false"}
    return {"metadata": {"uid": uid, "labels": labels}, "status": {"phase": phase}}


def figures(limit: int, spent: str = "0", reporting: int = 0) -> LedgerFigures:
    return LedgerFigures(
        window=WINDOW,
        limit=limit,
        spent=parse_usd(spent),
        reserved=0,
        leased=0,
        forfeited=0,
        uncertain=0,
        unheard=0,
        granted=parse_usd(spent),
        committed=parse_usd(spent),
        reporting=reporting,
        silent=0,
    )


def _with(known: Mapping[str, T], changed: Mapping[str, T | None]) -> dict[str, T]:
    return {name: each for name, each in {**known, **changed}.items() if each is not None}


class FakeAccounts:
    """The ledger book as the controller knows it."""

    def __init__(self) -> None:
        self.leading = True
        self.budgets: dict[str, BudgetInForce] = {}
        self.told: list[list[str]] = []
        """Names of the budgets, each time that any were told."""
        self.asked: list[str] = []
        """Names of the budgets whose figures were asked for."""
        self.quotas: dict[str, Quota] = {}
        self.checkpoints: dict[str, Checkpoint] = {}
        self.spent: dict[str, str] = {}
        self.holders: set[str] = set()
        self.gone: list[str] = []
        self.too_many: set[str] = set()
        self.messages: list[str] = []
        self.unavailable = False

    def change_budgets(self, changed: Mapping[str, BudgetInForce | None]) -> None:
        self.told.append(sorted(changed))
        self.budgets = _with(self.budgets, changed)

    def note_checkpoint(self, name: str, checkpoint: Checkpoint | None) -> None:
        self.checkpoints = _with(self.checkpoints, {name: checkpoint})

    def change_quotas(self, changed: Mapping[str, Quota | None]) -> None:
        self.quotas = _with(self.quotas, changed)

    async def pod_gone(self, uid: str, message: str = "") -> None:
        if self.unavailable:
            raise StoreUnavailable("no answer")
        self.gone.append(uid)
        self.messages.append(message)
        self.holders.discard(uid)

    def pods(self) -> frozenset[str]:
        return frozenset(self.holders)

    async def sync(self, pod: PodIdentity, request: SyncRequest) -> tuple[Right, ...]:
        """Every statement is told that nothing is left."""
        return tuple(
            Right(each.budget, WINDOW.id, each.seq, 0, exhausted=True, limit=self.budgets[each.budget].limit)
            for each in request.statements
        )

    def crowded(self) -> frozenset[str]:
        return frozenset(self.too_many)

    def figures(self, name: str) -> LedgerFigures | None:
        self.asked.append(name)
        terms = self.budgets.get(name)
        return figures(terms.limit, self.spent.get(name, "0")) if terms is not None else None


class Shop:
    """One replica's loop; a second Shop over the same cluster is the replica after a crash."""

    def __init__(self, cluster: FakeCluster, time: VirtualTime, accounts: FakeAccounts | None = None) -> None:
        self.cluster = cluster
        self.time = time
        self.accounts = accounts or FakeAccounts()
        self.catalog = Catalog(price_book())
        self.speakers = Speakers()
        self.applier = Applier(cluster, self.catalog, time.clock, time.wall)
        self.measures = Measures()
        self.queue = WorkQueue(time.clock, time.sleep)
        self.refusals = Refusals(self.accounts, lambda budget: self.controller.budget_changed(budget))
        self.controller = Controller(
            cluster,
            self.catalog,
            Gatherer(self.catalog, self.speakers, self.accounts, self.refusals, self.accounts, time.clock, time.wall),
            self.applier,
            self.accounts,
            self.speakers,
            self.queue,
            self.measures,
            time.clock,
            time.sleep,
        )

    async def run_once(self) -> float | None:
        await self.controller.list_once()
        return await self.controller.reconcile("shop")

    def status(self, plural: str, name: str) -> Json:
        status = self.cluster.objects[f"{API}/{plural}/{name}"].get("status")
        assert isinstance(status, dict)
        return status

    def condition(self, plural: str, name: str, kind: str) -> tuple[str, str]:
        """Status and reason."""
        conditions = self.status(plural, name)["conditions"]
        assert isinstance(conditions, list)
        return next((each["status"], each["reason"]) for each in conditions if each["type"] == kind)

    def events(self) -> list[tuple[str, str]]:
        """Object and reason, in the order of their posting."""
        return [
            (str(event["involvedObject"]["name"]), str(event["reason"]))  # type: ignore[index]
            for path, event in self.cluster.objects.items()
            if "/events/" in path
        ]


def stocked() -> FakeCluster:
    """Two routes, one of them wrong, two budgets, one of them wrong, and two pods."""
    cluster = FakeCluster()
    cluster.add(f"{API}/llmroutes/assistant", route())
    cluster.add(f"{API}/llmroutes/broken", route(tier="deep"))
    cluster.add(f"{API}/llmbudgets/month", budget())
    cluster.add(f"{API}/llmbudgets/nowhere", budget(zone="Mars/Olympus"))
    cluster.add(f"{PODS}/web-1", pod("pod-1"))
    cluster.add(f"{PODS}/web-2", pod("pod-2"))
    return cluster
