from __future__ import annotations

import asyncio

from tests.operator.shell.shop import budget, pod, route
from tests.operator.shell.virtual_time import VirtualTime

from keelage_api.mounted import MountedKey
from keelage_operator.core.ledger import Checkpoint
from keelage_operator.core.price_book import price_book
from keelage_operator.shell.catalog import Catalog, Kind, Seen
from keelage_operator.shell.cluster import Json, member


def seen(kind: Kind, name: str, body: Json, version: int, generation: int = 1) -> Seen:
    meta: Json = {"uid": f"uid-{name}", "creationTimestamp": "2026-11-01T00:00:00Z", **member(body, "metadata")}
    meta.update(name=name, namespace="shop", resourceVersion=str(version), generation=generation)
    return Seen.of(kind, {**body, "metadata": meta})


def catalog_with(*objects: Seen) -> Catalog:
    catalog = Catalog(price_book())
    for each in objects:
        catalog.observe(each)
    return catalog


def test_an_older_version_does_not_replace_a_newer_one() -> None:
    catalog = catalog_with(seen(Kind.BUDGET, "month", budget("5.00"), version=9))

    assert not catalog.observe(seen(Kind.BUDGET, "month", budget("3.00"), version=8))
    assert catalog.budgets_in_force()["shop/month"].limit == 5 * 10**12


def test_a_list_begun_before_a_deletion_does_not_bring_the_object_back() -> None:
    month = seen(Kind.BUDGET, "month", budget(), version=9)
    catalog = catalog_with(month)
    before = catalog.versions(Kind.BUDGET)
    catalog.gone(month)
    catalog.correct(Kind.BUDGET, [month], before)

    assert catalog.budgets_in_force() == {}


def test_an_object_created_after_a_list_began_is_not_taken_for_deleted() -> None:
    catalog = catalog_with()
    before = catalog.versions(Kind.BUDGET)
    catalog.observe(seen(Kind.BUDGET, "month", budget(), version=9))

    assert catalog.correct(Kind.BUDGET, [], before) == 0
    assert "shop/month" in catalog.budgets_in_force()


def test_a_list_tells_what_the_watch_missed() -> None:
    gone: list[str] = []
    catalog = catalog_with(
        seen(Kind.POD, "web-1", pod("pod-1"), version=1), seen(Kind.POD, "web-2", pod("pod-2"), version=2)
    )
    catalog.on_pod_gone = gone.append
    before = catalog.versions(Kind.POD)
    listed = [seen(Kind.POD, "web-2", pod("pod-2"), version=2), seen(Kind.POD, "web-3", pod("pod-3"), version=3)]

    assert catalog.correct(Kind.POD, listed, before) == 2
    assert gone == ["pod-1"]
    assert catalog.pod_uids() == {"pod-2", "pod-3"}


def test_a_pod_of_the_same_name_is_another_pod() -> None:
    gone: list[str] = []
    catalog = catalog_with(seen(Kind.POD, "web-0", pod("old"), version=1))
    catalog.on_pod_gone = gone.append
    catalog.observe(seen(Kind.POD, "web-0", pod("new"), version=5))

    assert gone == ["old"]
    assert catalog.labels_of("shop", "web-0", "old") is None
    assert catalog.labels_of("shop", "web-0", "new") == {"app": "web", "keelage.dev/injected": "true"}
    assert not catalog.gone(seen(Kind.POD, "web-0", pod("old"), version=1))
    assert catalog.pod_uids() == {"new"}


def test_it_is_synced_when_every_kind_was_listed() -> None:
    catalog = Catalog(price_book())
    for kind in Kind:
        assert not catalog.synced()
        catalog.correct(kind, [], {})
    assert catalog.synced()


def test_figures_in_a_status_change_no_configuration_and_wake_nobody() -> None:
    catalog = catalog_with(
        seen(Kind.ROUTE, "assistant", route(), version=1), seen(Kind.BUDGET, "month", budget(), version=2)
    )
    compiled, revision = catalog.compiled("shop"), catalog.revision("shop", "web")
    catalog.observe(seen(Kind.BUDGET, "month", {**budget(), "status": {"spent": "1.00"}}, version=3))

    assert catalog.revision("shop", "web") == revision
    assert catalog.compiled("shop") is compiled


async def test_a_waiting_poll_wakes_for_a_change_of_its_own_namespace() -> None:
    time = VirtualTime()
    catalog = catalog_with(seen(Kind.ROUTE, "assistant", route(), version=1))
    waiting = asyncio.create_task(catalog.changed("shop", "web", catalog.revision("shop", "web")))
    elsewhere = asyncio.create_task(catalog.changed("bank", "web", catalog.revision("bank", "web")))
    await time.settle()
    assert not waiting.done()
    catalog.observe(seen(Kind.ROUTE, "assistant", route(model="claude-opus-4-5"), version=2, generation=2))
    await time.settle()

    assert waiting.done()
    assert not elsewhere.done()
    elsewhere.cancel()


async def test_a_poll_in_an_unknown_namespace_wakes_for_its_first_object() -> None:
    time = VirtualTime()
    catalog = Catalog(price_book())
    waiting = asyncio.create_task(catalog.changed("shop", "web", catalog.revision("shop", "web")))
    await time.settle()
    catalog.observe(seen(Kind.ROUTE, "assistant", route(), version=1))
    await time.settle()

    assert waiting.done()


def test_checkpoints_are_what_statuses_say_told_when_they_change() -> None:
    told: list[tuple[str, Checkpoint | None]] = []
    catalog = Catalog(price_book())
    catalog.on_checkpoint = lambda name, checkpoint: told.append((name, checkpoint))
    status = {"window": {"id": "2026-11"}, "amounts": {"committed": 7}}
    month = seen(Kind.BUDGET, "month", {**budget(), "status": status}, version=1)
    catalog.observe(month)
    catalog.observe(seen(Kind.BUDGET, "new", budget(), version=2))
    catalog.observe(seen(Kind.BUDGET, "month", {**budget("9.00"), "status": status}, version=3, generation=2))
    assert told == [("shop/month", Checkpoint("2026-11", 7))]
    catalog.gone(month)
    assert told[1:] == [("shop/month", None)]


def test_a_checkpoint_of_values_names_each_shard() -> None:
    status = {"window": {"id": "2026-11.u"}, "amounts": {"committed": 7, "shards": [3, 0, 4]}}
    assert seen(Kind.BUDGET, "user", {**budget(), "status": status}, version=1).checkpoint == Checkpoint(
        "2026-11.u", 7, (3, 0, 4)
    )


def test_what_we_wrote_is_looked_at_by_nobody_and_what_others_wrote_is() -> None:
    told: list[tuple[str, bool]] = []
    catalog = catalog_with(seen(Kind.BUDGET, "month", budget(), version=1))
    catalog.on_change = lambda changed, obeyed: told.append((changed.name, obeyed))
    catalog.compiled("shop")
    accepted = {"spent": "1.00", "lastAccepted": budget()["spec"]}
    catalog.observe(seen(Kind.BUDGET, "month", {**budget(), "status": accepted}, version=2), ours=True)
    assert told == []
    catalog.observe(seen(Kind.BUDGET, "month", {**budget(), "status": {"spent": "2.00"}}, version=3))
    assert told == [("month", False)]
    catalog.observe(seen(Kind.BUDGET, "month", budget("9.00"), version=4, generation=2), ours=True)
    assert told[1:] == [("month", True)]


def test_the_last_accepted_spec_compiles_nothing_anew_while_the_newest_is_in_force() -> None:
    catalog = catalog_with(seen(Kind.BUDGET, "month", budget(), version=1))
    compiled, revision = catalog.compiled("shop"), catalog.revision("shop", "web")
    accepted = {"status": {"lastAccepted": budget()["spec"]}}
    catalog.observe(seen(Kind.BUDGET, "month", {**budget(), **accepted}, version=2))
    assert (catalog.compiled("shop"), catalog.revision("shop", "web")) == (compiled, revision)

    wrong = budget(zone="Mars/Olympus")
    catalog.observe(seen(Kind.BUDGET, "month", {**wrong, **accepted}, version=3, generation=2))
    assert "shop/month" in catalog.budgets_in_force()
    catalog.observe(seen(Kind.BUDGET, "month", wrong, version=4, generation=2))
    assert catalog.budgets_in_force() == {}


async def test_a_pod_wakes_its_own_poll_and_no_other() -> None:
    time = VirtualTime()
    catalog = catalog_with(seen(Kind.ROUTE, "assistant", route(), version=1))
    own, other = (
        asyncio.create_task(catalog.changed("shop", name, catalog.revision("shop", name))) for name in ("web", "mail")
    )
    await time.settle()
    catalog.observe(seen(Kind.POD, "web", pod("uid-web"), version=2))
    await time.settle()
    assert (own.done(), other.done()) == (True, False)
    catalog.gone(seen(Kind.ROUTE, "assistant", route(), version=3))
    catalog.gone(seen(Kind.POD, "web", pod("uid-web"), version=4))
    await asyncio.wait_for(other, 5)


def test_credentials_are_those_of_the_pods_routes() -> None:
    catalog = catalog_with(seen(Kind.ROUTE, "assistant", route(), version=1))

    assert catalog.credentials_for("shop", {}) == (MountedKey("keys", "anthropic"),)
    assert catalog.credentials_for("bank", {}) == ()
    assert catalog.config_for("bank", {}).rules == ()


async def test_a_namespace_that_ended_leaves_nothing_behind_and_wakes_who_waited() -> None:
    month, web = seen(Kind.BUDGET, "month", budget(), 1), seen(Kind.POD, "web", pod("uid-web"), 2)
    catalog = catalog_with(month, web)
    poll = asyncio.ensure_future(catalog.changed("shop", "web", catalog.revision("shop", "web")))
    await asyncio.sleep(0)
    catalog.gone(month)
    catalog.gone(web)
    await asyncio.wait_for(poll, 5)
    assert catalog._namespaces == {}
    again = asyncio.ensure_future(catalog.changed("shop", "web", catalog.revision("shop", "web")))
    await asyncio.sleep(0)
    catalog.observe(seen(Kind.BUDGET, "week", budget(), 3))
    await asyncio.wait_for(again, 5)
    assert list(catalog.budgets_in_force()) == ["shop/week"]
