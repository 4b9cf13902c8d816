"""The whole loop over a fake API server: what is written, how often, and after which faults."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import pytest
from tests.operator.shell.fake_cluster import FakeCluster, Fault
from tests.operator.shell.shop import API, PODS, FakeAccounts, Shop, budget, pod, route, stocked
from tests.operator.shell.virtual_time import VirtualTime

from keelage_api.sync import Statement, SyncRequest
from keelage_operator.core.identity import PodIdentity
from keelage_operator.core.speakers import Speaker
from keelage_operator.core.terms import BudgetInForce
from keelage_operator.shell.apply import FIGURES_BURST_S, FIGURES_PER_S, STATUS_EVERY_S
from keelage_operator.shell.catalog import Kind, Seen
from keelage_operator.shell.cluster import Json, PatchKind, Refused, Unreachable, member
from keelage_operator.shell.controller import HEARING_S, RESYNC_S, SECOND_LOOK_S, SETTLE_S


def writes(cluster: FakeCluster) -> list[str]:
    return [call for call in cluster.calls if not call.startswith("GET")]


async def test_statuses_and_events_tell_what_is_in_force_and_what_is_not() -> None:
    shop = Shop(stocked(), VirtualTime())
    await shop.run_once()

    assert shop.condition("llmroutes", "assistant", "Accepted") == ("True", "Accepted")
    assert shop.condition("llmroutes", "assistant", "Programmed") == ("False", "Pending")
    assert shop.status("llmroutes", "assistant")["sidecars"] == "0/2"
    assert shop.condition("llmroutes", "broken", "Accepted") == ("False", "Invalid")
    assert shop.status("llmbudgets", "month")["state"] == "Active"
    assert shop.condition("llmbudgets", "nowhere", "Accepted") == ("False", "TimeZoneUnknown")
    assert sorted(shop.events()) == [
        ("assistant", "Accepted"),
        ("broken", "Invalid"),
        ("month", "Accepted"),
        ("nowhere", "TimeZoneUnknown"),
    ]
    assert list(shop.accounts.budgets) == ["shop/month"]


async def test_rates_are_told_to_the_books_and_a_change_of_them_too() -> None:
    cluster = stocked()
    shop = Shop(cluster, VirtualTime())
    await shop.run_once()
    assert shop.accounts.quotas == {}

    limited = route()
    limited["spec"]["rules"][0]["rateLimits"] = [{"per": "User", "requests": 20, "window": "60s"}]  # type: ignore[index]
    cluster.add(f"{API}/llmroutes/assistant", limited)
    await shop.run_once()

    (quota,) = shop.accounts.quotas.values()
    assert (quota.name, quota.limit, quota.window_ms) == ("shop/rate:assistant/all:r60s.u", 20, 60_000)


async def test_a_rate_with_more_values_than_are_kept_is_told_at_its_route() -> None:
    cluster = stocked()
    limited = route()
    limited["spec"]["rules"][0]["rateLimits"] = [{"per": "User", "requests": 20, "window": "60s"}]  # type: ignore[index]
    cluster.add(f"{API}/llmroutes/assistant", limited)
    shop = Shop(cluster, VirtualTime())
    await shop.run_once()
    version = shop.catalog.config_for("shop", {"app": "web"}).version
    for uid, name in (("pod-1", "web-1"), ("pod-2", "web-2")):
        shop.speakers.heard(Speaker(uid, name, "shop", version, "", (), shop.time.now_s))
    shop.accounts.too_many.add("shop/rate:assistant/all:r60s.u")
    await shop.time.advance(STATUS_EVERY_S)
    await shop.run_once()
    assert shop.condition("llmroutes", "assistant", "Programmed") == ("False", "TooManyValues")
    shop.accounts.too_many.clear()
    await shop.time.advance(STATUS_EVERY_S)
    await shop.run_once()
    assert shop.condition("llmroutes", "assistant", "Programmed") == ("True", "Programmed")


async def test_a_second_run_writes_nothing_even_by_another_replica_later() -> None:
    cluster, time = stocked(), VirtualTime()
    await Shop(cluster, time).run_once()
    before = len(writes(cluster))
    await time.advance(3600)
    await Shop(cluster, time).run_once()

    assert len(writes(cluster)) == before


async def test_a_write_is_known_before_the_watch_tells_of_it() -> None:
    cluster = stocked()
    shop = Shop(cluster, VirtualTime())
    await shop.run_once()
    before = len(writes(cluster))
    await shop.controller.reconcile("shop")

    assert len(writes(cluster)) == before


async def test_one_budget_that_changed_is_told_and_the_others_are_not() -> None:
    cluster = stocked()
    for number in range(20):
        cluster.add(f"{API}/llmbudgets/month-{number}", budget())
    shop = Shop(cluster, VirtualTime())
    await shop.run_once()
    told = len(shop.accounts.told)
    cluster.add(f"{API}/llmbudgets/month-7", budget("9.00"))
    await shop.run_once()
    await shop.run_once()
    assert shop.accounts.told[told:] == [["shop/month-7"]]
    assert shop.accounts.budgets["shop/month-7"].limit == 9 * 10**12

    await cluster.delete(f"{API}/llmbudgets/month-7")
    await shop.run_once()
    assert shop.accounts.told[told + 1 :] == [["shop/month-7"]]
    assert "shop/month-7" not in shop.accounts.budgets


async def test_a_bug_that_one_namespace_brings_out_keeps_no_other_from_being_told() -> None:
    class Picky(FakeAccounts):
        def change_budgets(self, changed: Mapping[str, BudgetInForce | None]) -> None:
            if "ill/month" in changed:
                raise RuntimeError("a bug")
            super().change_budgets(changed)

    cluster, time = stocked(), VirtualTime()
    cluster.add("/apis/keelage.dev/v1alpha1/namespaces/ill/llmbudgets/month", budget())
    shop = Shop(cluster, time, Picky())
    await shop.controller.list_once()
    running = asyncio.create_task(shop.controller.run())
    await time.advance(1.0)
    assert list(shop.accounts.budgets) == ["shop/month"]
    shop.catalog.observe(Seen.of(Kind.BUDGET, cluster.add(f"{API}/llmbudgets/month", budget("1.00"))))
    await time.advance(1.0)
    assert shop.accounts.budgets["shop/month"].limit == 10**12
    assert not running.done()
    running.cancel()


async def test_only_the_budget_that_was_spent_from_is_looked_at_and_nothing_after_its_status_was_written() -> None:
    cluster, time = stocked(), VirtualTime()
    for number in range(20):
        cluster.add(f"{API}/llmbudgets/month-{number}", budget())
    shop = Shop(cluster, time)
    await shop.run_once()
    running = asyncio.create_task(shop.controller.run())
    await time.advance(10.0)
    shop.accounts.asked.clear()
    shop.accounts.spent["shop/month-7"] = "1.00"
    shop.controller.budget_changed("shop/month-7")
    await time.advance(5.0)
    assert set(shop.accounts.asked) == {"shop/month-7"}
    assert len(shop.accounts.asked) <= 2  # put off for its rate, and written
    assert shop.status("llmbudgets", "month-7")["spent"] == "1.00"
    running.cancel()


async def test_what_is_put_off_is_looked_at_again_when_it_is_due_and_not_with_each_event_before() -> None:
    cluster, time = stocked(), VirtualTime()
    cluster.add(f"{API}/llmbudgets/week", budget())
    shop = Shop(cluster, time)
    await shop.run_once()
    running = asyncio.create_task(shop.controller.run())
    await time.advance(60.0)
    shop.accounts.asked.clear()
    shop.accounts.spent["shop/month"] = "1.00"
    shop.controller.budget_changed("shop/month")
    for _ in range(4):
        await time.advance(0.2)
        shop.controller.budget_changed("shop/week")
    await time.advance(2.0)
    assert shop.accounts.asked.count("shop/month") == 2
    assert shop.status("llmbudgets", "month")["spent"] == "1.00"
    running.cancel()


async def test_a_lowered_limit_is_told_while_the_queue_is_full() -> None:
    cluster, time = stocked(), VirtualTime()
    shop = Shop(cluster, time)
    await shop.run_once()
    running = asyncio.create_task(shop.controller.run())
    await time.advance(10.0)
    for number in range(400):
        shop.queue.add(f"space-{number}")
    await time.advance(1.0)
    lowered = cluster.add(f"{API}/llmbudgets/month", budget("1.00"))
    shop.catalog.observe(Seen.of(Kind.BUDGET, lowered))
    await time.advance(SETTLE_S)
    assert shop.accounts.budgets["shop/month"].limit == 10**12
    running.cancel()


async def test_a_replica_that_does_not_lead_knows_the_budgets_and_writes_nothing() -> None:
    cluster = stocked()
    shop = Shop(cluster, VirtualTime())
    shop.accounts.leading = False
    await shop.run_once()

    assert list(shop.accounts.budgets) == ["shop/month"]
    assert writes(cluster) == []


async def test_figures_are_written_at_most_every_five_seconds() -> None:
    cluster, time = stocked(), VirtualTime()
    shop = Shop(cluster, time)
    await shop.run_once()
    before = len(writes(cluster))
    for cents in range(1, 38):
        shop.accounts.spent["shop/month"] = f"1.{cents:02d}"
        await shop.controller.reconcile("shop")
        await time.advance(0.5)

    assert len(writes(cluster)) - before == 3
    shop.accounts.spent["shop/month"] = "1.99"
    again_s = await shop.controller.reconcile("shop")
    assert again_s is not None
    assert 0 < again_s <= STATUS_EVERY_S
    await time.advance(again_s)
    assert await shop.controller.reconcile("shop") is None
    assert shop.status("llmbudgets", "month")["spent"] == "1.99"


async def test_figures_of_many_budgets_are_written_at_the_rate_of_the_whole_cluster() -> None:
    cluster, time, names = FakeCluster(), VirtualTime(), [f"month-{number}" for number in range(80)]
    for name in names:
        cluster.add(f"{API}/llmbudgets/{name}", budget())
    shop = Shop(cluster, time)
    await shop.run_once()
    await time.advance(60)
    before = len(writes(cluster))
    for name in names:
        shop.accounts.spent[f"shop/{name}"] = "1.50"
    elapsed_s = 0.0
    while (again_s := await shop.controller.reconcile("shop")) is not None:
        assert len(writes(cluster)) - before <= FIGURES_PER_S * (elapsed_s + FIGURES_BURST_S) + 1
        await time.advance(again_s)
        elapsed_s += again_s

    assert len(writes(cluster)) - before == len(names)
    assert {shop.status("llmbudgets", name)["spent"] for name in names} == {"1.50"}
    assert len(names) / FIGURES_PER_S - FIGURES_BURST_S - 1 <= elapsed_s <= len(names) / FIGURES_PER_S


async def test_a_budget_that_runs_out_says_so_at_once() -> None:
    cluster, time = stocked(), VirtualTime()
    shop = Shop(cluster, time)
    await shop.run_once()
    await time.advance(10)
    shop.accounts.spent["shop/month"] = "5.00"
    await shop.controller.reconcile("shop")

    assert shop.status("llmbudgets", "month")["state"] == "Exhausted"
    assert ("month", "LimitReached") in shop.events()


@pytest.mark.parametrize(("spent", "state"), [("4.90", "Exhausted"), ("3.00", "Active")])
async def test_a_budget_that_refuses_calls_is_exhausted_before_its_last_cent(spent: str, state: str) -> None:
    cluster, time = stocked(), VirtualTime()
    shop = Shop(cluster, time)
    task = await running(shop)
    await time.advance(10)
    shop.accounts.spent["shop/month"] = spent
    asked = SyncRequest("journal", statements=(Statement("shop/month", "", 1, min_want=10**12),))
    await shop.refusals.sync(PodIdentity("shop", "web-1", "pod-1"), asked)
    await time.advance(2)
    assert shop.status("llmbudgets", "month")["state"] == state
    await stop(task)

    accounts = FakeAccounts()
    accounts.spent["shop/month"] = spent
    await time.advance(10)
    await Shop(cluster, time, accounts).run_once()
    assert shop.status("llmbudgets", "month")["state"] == state, "another leader forgot it"


async def test_a_deleted_object_is_left_alone() -> None:
    cluster, time = stocked(), VirtualTime()
    shop = Shop(cluster, time)
    await shop.controller.list_once()
    del cluster.objects[f"{API}/llmbudgets/month"]
    cluster.add(f"{API}/llmbudgets/month", budget("9.00"))  # another one of the same name
    await shop.controller.reconcile("shop")

    assert "status" not in cluster.objects[f"{API}/llmbudgets/month"]


def outcome(cluster: FakeCluster) -> dict[str, object]:
    """Everything that users see, without versions."""
    seen: dict[str, object] = {}
    for path, stored in sorted(cluster.objects.items()):
        if "/events/" in path:
            seen[path] = (stored["reason"], stored["message"], stored["type"])
        else:
            seen[path] = stored.get("status")
    return seen


async def final_state(fail_at: int, fault: Fault) -> tuple[dict[str, object], int]:
    """Run with one fault; each failure is a crash: another replica begins from nothing. Calls made in all."""
    cluster, time = stocked(), VirtualTime()
    cluster.fail_at, cluster.fault = fail_at, fault
    for _ in range(3):
        try:
            await Shop(cluster, time).run_once()
        except Unreachable:
            continue
        return outcome(cluster), len(cluster.calls)
    raise AssertionError("one fault stopped it three times")


@pytest.mark.parametrize("fault", list(Fault))
async def test_a_crash_at_any_call_ends_in_the_same_state(fault: Fault) -> None:
    wanted, calls = await final_state(-1, fault)
    assert calls > 10

    for fail_at in range(calls):
        found, _ = await final_state(fail_at, fault)
        assert found == wanted, f"call {fail_at} failed {fault.value} its effect"


async def running(shop: Shop) -> asyncio.Task[None]:
    await shop.controller.list_once()
    task = asyncio.create_task(shop.controller.run())
    await shop.time.advance(1)
    return task


async def stop(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_an_outage_is_sat_out_and_then_everything_is_written() -> None:
    cluster, time = stocked(), VirtualTime()
    shop = Shop(cluster, time)
    await shop.controller.list_once()
    cluster.down = True
    task = asyncio.create_task(shop.controller.run())
    await time.advance(30)
    tried = len(writes(cluster))
    cluster.down = False
    await time.advance(70)

    assert 3 <= tried <= 12
    assert shop.condition("llmroutes", "assistant", "Accepted") == ("True", "Accepted")
    await stop(task)


async def test_what_the_watch_missed_is_mended_by_the_next_list() -> None:
    cluster, time = stocked(), VirtualTime()
    shop = Shop(cluster, time)
    task = await running(shop)
    await time.advance(SECOND_LOOK_S)
    cluster.add(f"{API}/llmroutes/later", route())
    del cluster.objects[f"{PODS}/web-1"]
    await time.advance(RESYNC_S + 10)

    assert shop.condition("llmroutes", "later", "Accepted")[0] == "True"
    assert shop.accounts.gone == ["pod-1"]
    assert shop.measures.registry.get_sample_value("keelage_watch_missed_total") == 2
    await stop(task)


async def test_rows_of_a_deleted_pod_are_closed_as_soon_as_the_book_can() -> None:
    cluster, time = stocked(), VirtualTime()
    shop = Shop(cluster, time)
    task = await running(shop)
    shop.accounts.unavailable = True
    shop.catalog.gone(shop.catalog.objects(Kind.POD, "shop")[0])
    await time.advance(5)
    assert shop.accounts.gone == []

    shop.accounts.unavailable = False
    await time.advance(5)
    assert shop.accounts.gone == ["pod-1"]
    await stop(task)


async def test_a_new_leader_closes_rows_of_pods_that_do_not_exist_and_of_no_others() -> None:
    cluster, time = stocked(), VirtualTime()
    shop = Shop(cluster, time)
    task = await running(shop)
    cluster.add(f"{PODS}/web-3", pod("pod-3"))  # the watch has not told of it yet
    shop.accounts.holders = {"pod-1", "pod-3", "long-gone"}
    await shop.controller.led()
    await time.advance(1)

    assert shop.accounts.gone == ["long-gone"]
    await stop(task)


async def test_a_finished_pods_rows_are_closed_while_its_object_stays() -> None:
    cluster, time = stocked(), VirtualTime()
    shop = Shop(cluster, time)
    task = await running(shop)
    cluster.objects[f"{PODS}/web-2"]["status"] = {"phase": "Succeeded"}
    await cluster.replace(f"{PODS}/web-2", cluster.objects[f"{PODS}/web-2"])
    await shop.controller.list_once()
    await time.advance(10)

    assert shop.accounts.gone == ["pod-2"]
    assert shop.status("llmroutes", "assistant")["sidecars"] == "0/1"
    await stop(task)


async def test_a_new_leader_hears_the_sidecars_before_it_says_who_obeys() -> None:
    cluster, time = stocked(), VirtualTime()
    shop = Shop(cluster, time)
    await shop.controller.list_once()
    await shop.controller.led()
    again_s = await shop.controller.reconcile("shop")
    assert again_s == HEARING_S
    assert writes(cluster) == []

    version = shop.catalog.config_for("shop", {"app": "web"}).version
    for uid, name in (("pod-1", "web-1"), ("pod-2", "web-2")):
        shop.speakers.heard(Speaker(uid, name, "shop", version, "", (), time.now_s))
    await time.advance(HEARING_S)
    await shop.controller.reconcile("shop")
    assert shop.condition("llmroutes", "assistant", "Programmed") == ("True", "Programmed")


async def test_a_silent_sidecar_is_noticed_without_any_event() -> None:
    cluster, time = stocked(), VirtualTime()
    shop = Shop(cluster, time)
    await shop.controller.list_once()
    version = shop.catalog.config_for("shop", {"app": "web"}).version
    shop.speakers.heard(Speaker("pod-1", "web-1", "shop", version, "", (), time.now_s))
    task = await running(shop)
    assert shop.status("llmroutes", "assistant")["sidecars"] == "1/2"

    await time.advance(70)
    assert shop.status("llmroutes", "assistant")["sidecars"] == "0/2"
    await stop(task)


async def test_the_last_accepted_budget_stays_in_force_when_a_newer_one_is_wrong() -> None:
    cluster, time = stocked(), VirtualTime()
    await Shop(cluster, time).run_once()
    path = f"{API}/llmbudgets/month"
    stored = cluster.objects[path]
    wrong: Json = {**stored, **budget("7.00", zone="Nowhere/City")}
    wrong["metadata"] = {**member(stored, "metadata"), "generation": 2}
    await cluster.replace(path, wrong)
    accounts = FakeAccounts()
    await time.advance(10)
    shop = Shop(cluster, time, accounts)
    await shop.run_once()

    assert accounts.budgets["shop/month"].limit == 5 * 10**12
    assert shop.condition("llmbudgets", "month", "Accepted") == ("False", "TimeZoneUnknown")
    assert shop.status("llmbudgets", "month")["limit"] == "5.00 USD"


async def test_a_status_that_the_schema_refuses_does_not_hold_up_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    class OldSchema(FakeCluster):
        """The CRD of budgets is of another version."""

        async def patch(
            self, path: str, body: Json | list[Json], kind: PatchKind, query: Mapping[str, str] | None = None
        ) -> Json:
            if "llmroutes" in path:
                raise Refused(422, "Invalid", "status.conditions: Invalid value")
            return await super().patch(path, body, kind, query)

    cluster, time = OldSchema(objects=stocked().objects), VirtualTime()
    shop = Shop(cluster, time)
    await shop.run_once()
    assert shop.status("llmbudgets", "month")["state"] == "Active"
    assert shop.applier.status_refusals > 0


async def test_a_threshold_is_posted_and_counted_once_by_whoever_wrote_the_status() -> None:
    cluster, time = stocked(), VirtualTime()
    warned = budget()
    warned["spec"]["thresholds"] = [{"percent": 50}]  # type: ignore[index] # a spec is an object
    cluster.add(f"{API}/llmbudgets/month", warned)
    shop = Shop(cluster, time)
    shop.accounts.spent["shop/month"] = "3"
    shop.measures.budgets(lambda: shop.accounts.budgets, shop.accounts.figures)
    await shop.run_once()
    await time.advance(60)
    await shop.run_once()

    labels = {"namespace": "shop", "budget": "month", "percent": "50", "do": "Warn"}
    assert shop.measures.registry.get_sample_value("keelage_budget_threshold_total", labels) == 1
    assert shop.events().count(("month", "BudgetThreshold")) == 1

    successor = Shop(cluster, time, shop.accounts)
    successor.measures.budgets(lambda: shop.accounts.budgets, shop.accounts.figures)
    await successor.run_once()
    assert successor.measures.registry.get_sample_value("keelage_budget_threshold_total", labels) is None
