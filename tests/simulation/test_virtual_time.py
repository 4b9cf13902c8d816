"""The loop of the simulations: time jumps, processes stop and go on, clocks drift."""

from __future__ import annotations

import asyncio

import pytest
from tests.simulation.virtual_time import Process, run, running


async def _tick(log: list[float]) -> None:
    while True:
        await asyncio.sleep(1)
        log.append(running().true_s)


def test_a_stopped_process_does_nothing_and_then_all_that_came_due() -> None:
    async def scene() -> list[float]:
        log: list[float] = []
        process = Process()
        process.create_task(_tick(log))
        await asyncio.sleep(2.5)
        process.stop()
        await asyncio.sleep(5)
        process.go_on()
        await asyncio.sleep(1.5)
        return log

    assert run(scene()) == [1.0, 2.0, 7.5, 8.5]


def test_a_process_sleeps_by_its_own_clock() -> None:
    async def scene() -> tuple[list[float], float]:
        log: list[float] = []
        process = Process(rate=0.5, began_s=100.0)
        process.create_task(_tick(log))
        told = process.create_task(_clock())
        await asyncio.sleep(6.5)
        return log, await told

    log, began_s = run(scene())
    assert log == [2.0, 4.0, 6.0]
    assert began_s == 100.0


async def _clock() -> float:
    return running().time()


def test_timers_of_one_instant_fire_in_the_order_in_which_they_were_set() -> None:
    async def scene() -> list[int]:
        log: list[int] = []
        for number in range(5):
            running().call_later(1.0, log.append, number)
        await asyncio.sleep(1.0)
        return log

    assert run(scene()) == [0, 1, 2, 3, 4]


def test_waiting_for_ever_is_an_error() -> None:
    with pytest.raises(AssertionError, match="no timer runs"):
        run(_for_ever())


async def _for_ever() -> None:
    await asyncio.Event().wait()
