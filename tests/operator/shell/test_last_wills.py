"""From the status of a dead pod to the ledger: whose last will is believed, and what then returns."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from datetime import UTC, datetime

import pytest
from tests.operator.shell.fake_cluster import FakeCluster
from tests.operator.shell.shop import FakeAccounts, Shop, pod
from tests.operator.shell.virtual_time import VirtualTime
from tests.simulation.virtual_time import run

from keelage_api.sync import Statement, SyncRequest
from keelage_api.will import Promise, Will, account_of, write_will
from keelage_api.window import Every
from keelage_dev.memory_store import MemoryStore
from keelage_operator.core.identity import PodIdentity
from keelage_operator.core.ledger import LedgerRecord
from keelage_operator.core.terms import BudgetInForce
from keelage_operator.core.will_keys import WillKeys
from keelage_operator.shell.catalog import Catalog, Kind, Seen, last_message
from keelage_operator.shell.cluster import Json
from keelage_operator.shell.ledger_book import LedgerBook
from keelage_operator.shell.ledger_store import LedgerKey

BUDGET = BudgetInForce("shop/day", uid="u", limit=1000, every=Every.DAY, zone="UTC", hard=True)
WINDOW = "2026-11-21"
KEYS = WillKeys(lambda: ("secret", "the one before it"))


def dead(message: str, phase: str = "Failed", state: str = "terminated", reason: str = "") -> Json:
    return {
        "metadata": {"namespace": "shop", "name": "web-1", "uid": "a", "resourceVersion": "5"},
        "status": {
            "phase": phase,
            "conditions": [{"type": "DisruptionTarget", "status": "True", "reason": reason}] if reason else [],
            "initContainerStatuses": [
                {"name": "other", "state": {"terminated": {"message": "not ours"}}},
                {"name": "keelage", "state": {state: {"message": message}}},
            ],
        },
    }


def will(promised: int, seq: int = 1, holder: str = "a.1", keys: WillKeys = KEYS) -> str:
    record = Will(holder.partition(".")[2], seq, {account_of(BUDGET.name, WINDOW): Promise(0, promised)})
    return write_will(record, bytes.fromhex(keys.key_of(holder))).decode()


def test_the_message_counts_once_the_kubelet_ended_the_pod() -> None:
    assert last_message(dead("will")) == "will"
    assert last_message(dead("will", phase="Succeeded")) == "will"


@pytest.mark.parametrize(
    "status",
    [
        dead("will", phase="Running"),
        dead("will", state="running"),
        dead("will", state="waiting"),
        dead("will", reason="DeletionByPodGC"),
        {"status": {"phase": "Failed"}},
        {},
    ],
)
def test_a_sidecar_that_may_still_run_somewhere_leaves_nothing(status: Json) -> None:
    assert last_message(status) == ""


def test_an_eviction_by_the_kubelet_is_an_end_as_any_other() -> None:
    assert last_message(dead("will", reason="TerminationByKubelet")) == "will"


def test_the_catalog_remembers_the_message_of_a_pod_that_is_gone() -> None:
    catalog = Catalog({})
    told: list[tuple[str, str]] = []
    catalog.on_pod_gone = lambda uid: told.append((uid, catalog.message_of(uid)))
    alive = dead("", phase="Running", state="running")
    catalog.observe(Seen.of(Kind.POD, {**alive, "metadata": {**alive["metadata"], "resourceVersion": "4"}}))  # type: ignore[dict-item]
    catalog.gone(Seen.of(Kind.POD, dead("will")))
    assert told == [("a", "will")]
    assert catalog.message_of("b") == ""


async def test_the_controller_hands_it_to_the_book() -> None:
    cluster, accounts, time = FakeCluster(), FakeAccounts(), VirtualTime()
    shop = Shop(cluster, time, accounts)
    assert shop.catalog.message_of("a") == ""
    running = pod("a", "Running")
    ended = dead("will")
    ended["metadata"] = {**ended["metadata"], "labels": running["metadata"]["labels"]}  # type: ignore[dict-item,index]
    working = asyncio.create_task(shop.controller.run())
    shop.catalog.observe(Seen.of(Kind.POD, ended))
    await time.settle()
    assert (accounts.gone, accounts.messages) == (["a"], ["will"])
    working.cancel()
    await asyncio.wait([working])


async def settled(message: str) -> LedgerRecord:
    """The ledger after pod a, which was granted 400 and has told of 30, is gone with that message."""
    store = MemoryStore()
    book = LedgerBook(store, lambda: datetime(2026, 11, 21, 12, tzinfo=UTC), lambda: 0.0)
    book.read_will = KEYS.read
    book.set_budgets({BUDGET.name: BUDGET}, {})
    await book.lead()
    for statement in (
        Statement(BUDGET.name, "", 1, want=400, min_want=1),
        Statement(BUDGET.name, WINDOW, 2, granted=400, spent=30, reserved=20),
    ):
        await book.sync(PodIdentity("shop", "web-1", "a"), SyncRequest("1", statements=(statement,)))
    await book.pod_gone("a", message)
    stored = await store.load(LedgerKey(BUDGET.name, WINDOW))
    await book.stop_leading()
    assert stored is not None
    return stored.record


def ledger_after(message: str) -> tuple[int, int]:
    """(settled, forfeited)."""

    async def scene() -> LedgerRecord:
        return await settled(message)

    scenes: Coroutine[object, object, LedgerRecord] = scene()
    account = run(scenes).account()
    assert account.rows == {}
    return account.settled, account.forfeited


def test_a_last_will_returns_what_it_does_not_promise() -> None:
    assert ledger_after(will(120, seq=2)) == (120, 0)
    assert ledger_after("OOM killed: " + will(120, seq=9) + "\n") == (120, 0)


def test_a_will_made_with_the_older_secret_still_counts() -> None:
    assert ledger_after(will(120, seq=2, keys=WillKeys(lambda: ("the one before it",)))) == (120, 0)


def test_a_will_never_takes_back_what_was_told() -> None:
    assert ledger_after(will(10, seq=2)) == (30, 0)


@pytest.mark.parametrize(
    "message",
    [
        "",
        "exit 137",
        will(120, seq=1),
        will(120, seq=2)[:-2],
        will(120, seq=2).replace(":78 ", ":3c "),
        will(120, seq=2, holder="b.1"),
        will(120, seq=2, holder="a.2"),
        will(120, seq=2, keys=WillKeys(lambda: ("guessed",))),
    ],
    ids=["none", "text", "outdated", "torn", "forged", "another pod's", "another holder's", "another secret's"],
)
def test_without_a_will_that_can_be_believed_the_rest_is_forfeited(message: str) -> None:
    assert ledger_after(message) == (30, 370)


def test_a_will_that_does_not_name_the_account_says_nothing_about_it() -> None:
    record = write_will(Will("1", 2), bytes.fromhex(KEYS.key_of("a.1"))).decode()
    assert ledger_after(record) == (30, 370)


def test_there_is_no_key_before_there_is_a_secret() -> None:
    keys = WillKeys(lambda: ())
    assert keys.key_of("a.1") == ""
    assert keys.read("a", will(1)) is None


def test_every_holder_has_a_key_of_its_own() -> None:
    assert len({KEYS.key_of(holder) for holder in ("a.1", "a.2", "b.1")}) == 3
