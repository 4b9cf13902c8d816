"""kopf itself against a server that lists and watches: what arrives, and that nothing is ever written."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from itertools import islice
from pathlib import Path

import pytest
from tests.operator.shell.shop import budget, pod, route
from tests.operator.shell.virtual_time import VirtualTime
from tests.operator.shell.watched_server import WatchedServer

from keelage_operator.shell.catalog import Kind, Seen
from keelage_operator.shell.cluster import Json, member
from keelage_operator.shell.watch import Patience, Watch

PATIENCE_S = 20.0
"""For kopf to come up on a busy machine; nothing waits for it to pass."""


def stored(body: Json, name: str, version: int) -> Json:
    meta: Json = {"uid": f"uid-{name}", **member(body, "metadata")}
    return {**body, "metadata": {**meta, "name": name, "namespace": "shop", "resourceVersion": str(version)}}


class Told:
    """What the watch has told, in order."""

    def __init__(self) -> None:
        self._queue: asyncio.Queue[tuple[str, Kind, str]] = asyncio.Queue()
        self.watch = Watch(self._observe, self._gone)

    def _observe(self, seen: Seen) -> None:
        self._queue.put_nowait(("seen", seen.kind, seen.name))

    def _gone(self, seen: Seen) -> None:
        self._queue.put_nowait(("gone", seen.kind, seen.name))

    async def next(self, count: int) -> list[tuple[str, Kind, str]]:
        async with asyncio.timeout(PATIENCE_S):
            return [await self._queue.get() for _ in range(count)]


@pytest.fixture
async def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[WatchedServer]:
    served = WatchedServer()
    async with served as address:
        config = {
            "current-context": "test",
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
            "clusters": [{"name": "test", "cluster": {"server": address}}],
            "users": [{"name": "test", "user": {"token": "none"}}],
        }
        path = tmp_path / "kubeconfig"
        path.write_text(json.dumps(config))
        monkeypatch.setenv("KUBECONFIG", str(path))
        yield served


async def test_objects_arrive_as_they_are_listed_changed_and_deleted_and_nothing_is_written(
    server: WatchedServer,
) -> None:
    server.listed["llmroutes"] = [stored(route(), "assistant", 1)]
    server.listed["pods"] = [stored(pod("pod-1"), "web-1", 2)]
    told = Told()
    running = asyncio.create_task(told.watch.run())
    assert sorted(await told.next(2)) == [("seen", Kind.ROUTE, "assistant"), ("seen", Kind.POD, "web-1")]

    async with asyncio.timeout(PATIENCE_S):
        for watched in server.watching.values():
            await watched.wait()
    server.tell("llmbudgets", "ADDED", stored(budget(), "month", 101))
    assert await told.next(1) == [("seen", Kind.BUDGET, "month")]
    server.tell("pods", "DELETED", stored(pod("pod-1"), "web-1", 102))
    assert await told.next(1) == [("gone", Kind.POD, "web-1")]

    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert not told.watch.alive
    assert {method for method, _ in server.requests} == {"GET"}
    pods = [path for _, path in server.requests if path.startswith("/api/v1/pods")]
    assert pods
    assert all("labelSelector=keelage.dev/injected%3Dtrue" in path for path in pods)
    assert all("timeoutSeconds=300" in path.split("&") for path in pods if "watch=true" in path)


async def test_a_watch_that_fails_for_good_ends_it(server: WatchedServer) -> None:
    told = Told()
    running = asyncio.create_task(told.watch.run())
    async with asyncio.timeout(PATIENCE_S):
        await server.watching["llmroutes"].wait()
    server.tell("llmroutes", "ERROR", {"kind": "Status", "code": 500, "message": "etcd is on fire"})

    with pytest.raises(Exception, match="etcd is on fire"):
        await asyncio.wait_for(running, PATIENCE_S)


def test_patience_never_ends_and_begins_anew_with_each_request() -> None:
    patience = Patience()

    assert list(islice(patience, 8)) == [1.0, 1.0, 2.0, 3.0, 5.0, 10.0, 10.0, 10.0]
    assert next(iter(patience)) == 1.0


async def test_a_watch_that_misses_things_twice_without_a_word_is_not_well() -> None:
    clock = VirtualTime()
    watch = Watch(lambda _: None, lambda _: None, clock.clock)
    await clock.advance(300)
    watch.missed()
    assert watch.well()
    await clock.advance(300)
    watch.missed()
    assert not watch.well()


async def test_a_watch_that_tells_something_between_two_misses_is_well(server: WatchedServer) -> None:
    time, told = VirtualTime(), Told()
    watch = told.watch = Watch(told._observe, told._gone, time.clock)
    running = asyncio.create_task(watch.run())
    async with asyncio.timeout(PATIENCE_S):
        await server.watching["llmbudgets"].wait()
    watch.missed()
    await time.advance(300)
    server.tell("llmbudgets", "ADDED", stored(budget(), "month", 101))
    await told.next(1)
    watch.missed()
    assert watch.well()
    await time.advance(59)
    watch.missed()
    assert watch.well()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
