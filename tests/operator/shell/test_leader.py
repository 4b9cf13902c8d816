from __future__ import annotations

import asyncio
from collections.abc import Mapping

from tests.operator.shell.fake_cluster import FakeCluster
from tests.operator.shell.virtual_time import VirtualTime

from keelage_operator.core.election import LEASE_S, RENEW_DEADLINE_S
from keelage_operator.shell.cluster import Json, member
from keelage_operator.shell.leader import LEASE_NAME, Leader

PATH = f"/apis/coordination.k8s.io/v1/namespaces/keelage-system/leases/{LEASE_NAME}"


class Replica:
    def __init__(self, cluster: FakeCluster, time: VirtualTime, name: str) -> None:
        self.leader = Leader(cluster, "keelage-system", f"{name}_{name}:8443", time.clock, time.wall, time.sleep)
        self.led = 0
        self.task = asyncio.create_task(self.leader.run(self._lead))

    async def _lead(self) -> None:
        self.led += 1


async def stop(*replicas: Replica) -> None:
    for replica in replicas:
        replica.task.cancel()
    await asyncio.gather(*(replica.task for replica in replicas), return_exceptions=True)


async def test_one_of_two_replicas_leads_and_the_other_knows_its_address() -> None:
    time, cluster = VirtualTime(), FakeCluster()
    one, two = Replica(cluster, time, "one"), Replica(cluster, time, "two")
    await time.advance(60)

    assert (one.leader.leading, one.led) == (True, 1)
    assert (two.leader.leading, two.led) == (False, 0)
    assert two.leader.address == "one:8443"
    await stop(one, two)


async def test_a_released_lease_is_taken_at_once() -> None:
    time, cluster = VirtualTime(), FakeCluster()
    one = Replica(cluster, time, "one")
    await time.advance(10)
    two = Replica(cluster, time, "two")
    await time.advance(1)
    await stop(one)
    await one.leader.release()
    await time.advance(2.1)

    assert two.leader.leading
    assert member(cluster.objects[PATH], "spec")["leaseTransitions"] == 1
    await stop(two)


async def test_a_silent_leader_is_succeeded_after_the_leases_duration_and_not_before() -> None:
    time, cluster = VirtualTime(), FakeCluster()
    one = Replica(cluster, time, "one")
    await time.advance(10)
    two = Replica(cluster, time, "two")
    await time.advance(0)
    await stop(one)  # as if killed

    await time.advance(LEASE_S - 1)
    assert not two.leader.leading
    await time.advance(4)
    assert two.leader.leading
    await stop(two)


async def test_a_leader_that_cannot_renew_ends_before_its_lease_does() -> None:
    time, cluster = VirtualTime(), FakeCluster()
    one = Replica(cluster, time, "one")
    await time.advance(10)
    cluster.down = True

    await time.advance(RENEW_DEADLINE_S - 3)
    assert one.leader.leading
    await time.advance(5)
    assert not one.leader.leading
    assert one.task.done()
    assert one.task.exception() is None


async def test_a_short_outage_does_not_cost_the_lease() -> None:
    time, cluster = VirtualTime(), FakeCluster()
    one = Replica(cluster, time, "one")
    await time.advance(10)
    cluster.down = True
    await time.advance(6)
    cluster.down = False
    await time.advance(30)

    assert one.leader.leading
    await stop(one)


async def test_a_leader_whose_lease_was_taken_ends() -> None:
    time, cluster = VirtualTime(), FakeCluster()
    one = Replica(cluster, time, "one")
    await time.advance(10)
    lease = cluster.objects[PATH]
    await cluster.replace(PATH, {**lease, "spec": {**member(lease, "spec"), "holderIdentity": "two_two:8443"}})
    await time.advance(3)

    assert one.task.done()
    assert one.leader.address == "two:8443"


async def test_renewals_go_on_while_leading_begins_slowly() -> None:
    time, cluster = VirtualTime(), FakeCluster()

    async def slowly() -> None:
        await time.sleep(100)

    leader = Leader(cluster, "keelage-system", "one_one:8443", time.clock, time.wall, time.sleep)
    task = asyncio.create_task(leader.run(slowly))
    await time.advance(90)

    assert leader.leading
    assert len([call for call in cluster.calls if call.startswith("PUT")]) >= 40
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


class Hanging(FakeCluster):
    """Answers nothing any more once told so."""

    hangs = False

    async def get(self, path: str, query: Mapping[str, str] | None = None) -> Json:
        if self.hangs:
            await asyncio.Event().wait()
        return await super().get(path, query)


async def test_a_request_that_hangs_does_not_outlive_the_renew_deadline() -> None:
    """On real time, with a deadline that is nearly over: the attempt gets only what is left of it."""
    time, cluster = VirtualTime(), Hanging()
    one = Replica(cluster, time, "one")
    await time.advance(10)
    cluster.hangs = True
    time.now_s += RENEW_DEADLINE_S - 0.05
    await time.advance(0)
    time.now_s += 1

    await asyncio.wait_for(one.task, 2)
    assert not one.leader.leading
