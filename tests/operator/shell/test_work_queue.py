from __future__ import annotations

import asyncio

from tests.operator.shell.virtual_time import VirtualTime

from keelage_operator.shell.work_queue import BACKOFF_BASE_S, BACKOFF_MAX_S, TokenBucket, WorkQueue


async def taken(queue: WorkQueue, time: VirtualTime) -> list[str]:
    """All keys that are due now; none of them is done."""
    found: list[str] = []
    while True:
        getting = asyncio.ensure_future(queue.get())
        await time.settle()
        if not getting.done():
            getting.cancel()
            return found
        found.append(getting.result())


async def test_a_key_added_twice_is_worked_on_once() -> None:
    time = VirtualTime()
    queue = WorkQueue(time.clock, time.sleep)
    queue.add("shop")
    queue.add("shop")

    assert await taken(queue, time) == ["shop"]


async def test_a_key_added_while_it_is_worked_on_comes_back_afterwards_and_not_before() -> None:
    time = VirtualTime()
    queue = WorkQueue(time.clock, time.sleep)
    queue.add("shop")
    await taken(queue, time)
    queue.add("shop")

    assert await taken(queue, time) == []
    queue.done("shop")
    assert await taken(queue, time) == ["shop"]


async def test_the_earlier_of_two_times_counts() -> None:
    time = VirtualTime()
    queue = WorkQueue(time.clock, time.sleep)
    queue.add("shop", 10)
    queue.add("shop", 2)
    queue.add("shop", 5)

    await time.advance(2)
    assert await taken(queue, time) == ["shop"]
    queue.done("shop")
    await time.advance(20)
    assert await taken(queue, time) == []


async def test_a_waiting_worker_wakes_for_a_key_that_is_due_sooner() -> None:
    time = VirtualTime()
    queue = WorkQueue(time.clock, time.sleep)
    queue.add("late", 100)
    getting = asyncio.ensure_future(queue.get())
    await time.advance(1)
    queue.add("soon", 1)
    await time.advance(1)

    assert getting.done()
    assert getting.result() == "soon"


async def test_failures_of_a_key_are_ever_further_apart_until_one_succeeds() -> None:
    time = VirtualTime()
    queue = WorkQueue(time.clock, time.sleep)
    queue.add("shop")
    pauses = []
    for _ in range(10):
        assert await taken(queue, time) == ["shop"]
        pauses.append(queue.failed("shop"))
        await time.advance(pauses[-1])
    assert pauses[:3] == [BACKOFF_BASE_S, 2 * BACKOFF_BASE_S, 4 * BACKOFF_BASE_S]
    assert pauses[-1] == BACKOFF_MAX_S

    await taken(queue, time)
    queue.done("shop")
    queue.add("shop")
    await taken(queue, time)
    assert queue.failed("shop") == BACKOFF_BASE_S


async def test_many_keys_come_at_a_bounded_rate() -> None:
    bucket = TokenBucket(rate_per_s=10, burst=3)

    assert [bucket.take(100.0) for _ in range(5)] == [0.0, 0.0, 0.0, 0.1, 0.2]
    assert bucket.take(110.0) == 0.0
