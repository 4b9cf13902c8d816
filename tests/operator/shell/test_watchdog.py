"""The look for pods without a sidecar, over a fake API server."""

from __future__ import annotations

import asyncio

from tests.operator.shell.fake_cluster import FakeCluster
from tests.operator.shell.virtual_time import VirtualTime

from keelage_operator.core.price_book import price_book
from keelage_operator.shell.apply import Applier
from keelage_operator.shell.catalog import Catalog
from keelage_operator.shell.cluster import Json, member
from keelage_operator.shell.watchdog import EVERY_S, FIRST_S, Watchdog


def pod(**labels: str) -> Json:
    return {"metadata": {"labels": {f"keelage.dev/{key}": value for key, value in labels.items()}}}


def stocked() -> FakeCluster:
    cluster = FakeCluster()
    cluster.add("/api/v1/namespaces/shop", pod(inject="true"))
    cluster.add("/api/v1/namespaces/own", pod(inject="true"))
    cluster.add("/api/v1/namespaces/lab", pod())
    cluster.add("/api/v1/namespaces/never", pod(inject="false"))
    for namespace in ("shop", "own", "lab", "never"):
        cluster.add(f"/api/v1/namespaces/{namespace}/pods/old", pod())
        cluster.add(f"/api/v1/namespaces/{namespace}/pods/out", pod(inject="false"))
        cluster.add(f"/api/v1/namespaces/{namespace}/pods/with", pod(injected="true"))
        cluster.add(f"/api/v1/namespaces/{namespace}/pods/single", pod(inject="true"))
    return cluster


def watchdog(cluster: FakeCluster, time: VirtualTime, leading: bool = True) -> Watchdog:
    applier = Applier(cluster, Catalog(price_book()), time.clock, time.wall)
    return Watchdog(cluster, applier, lambda: leading, frozenset({"own"}), time.sleep)


def told(cluster: FakeCluster) -> list[tuple[object, ...]]:
    events = [body for path, body in sorted(cluster.objects.items()) if "/events/" in path]
    about = [member(event, "involvedObject") for event in events]
    return [(each["apiVersion"], each["kind"], each["namespace"], each["name"]) for each in about]


async def test_each_pod_that_should_have_a_sidecar_is_told_once() -> None:
    cluster, time = stocked(), VirtualTime()
    dog = watchdog(cluster, time)
    running = asyncio.create_task(dog.run())
    await time.advance(FIRST_S)
    await time.advance(3 * EVERY_S)
    wanted = [("lab", "single"), ("shop", "old"), ("shop", "single")]
    assert told(cluster) == [("v1", "Pod", *each) for each in wanted]
    assert dog.found == 3
    cluster.down = True
    await time.advance(EVERY_S)
    assert not running.done()
    running.cancel()


async def test_only_the_leader_looks() -> None:
    cluster, time = stocked(), VirtualTime()
    running = asyncio.create_task(watchdog(cluster, time, leading=False).run())
    await time.advance(FIRST_S + EVERY_S)
    assert cluster.calls == []
    running.cancel()
