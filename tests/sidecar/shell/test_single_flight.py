"""Those who ask for the same: one asks, the others wait, whatever becomes of it."""

from __future__ import annotations

import asyncio

import pytest

from keelage_sidecar.shell.single_flight import SingleFlights

KEY = b"k"


class Desk:
    """Callers who hear, or ask and are answered when the test says so."""

    def __init__(self) -> None:
        self.flights = SingleFlights[str](asyncio.get_running_loop().time)
        self.asked: list[asyncio.Future[str | None]] = []

    async def call(self, patience_s: float = 3600.0) -> str | None:
        until_s = asyncio.get_running_loop().time() + patience_s
        heard = await self.flights.hear(KEY, until_s)
        if heard is not None:
            return heard
        with self.flights.lead(KEY) as flight:
            answer: asyncio.Future[str | None] = asyncio.get_running_loop().create_future()
            self.asked.append(answer)
            found = await answer
            flight.land(found)
            return found

    async def callers(self, count: int) -> list[asyncio.Task[str | None]]:
        tasks = [asyncio.ensure_future(self.call()) for _ in range(count)]
        await turn()
        return tasks


async def turn() -> None:
    """Everybody who can go on does."""
    for _ in range(10):
        await asyncio.sleep(0)


async def test_one_asks_for_all() -> None:
    desk = Desk()
    callers = await desk.callers(5)
    assert len(desk.asked) == 1
    desk.asked[0].set_result("yes")
    assert await asyncio.gather(*callers) == ["yes"] * 5
    late = (await desk.callers(1))[0]
    assert len(desk.asked) == 2, "who comes later asks"
    late.cancel()


@pytest.mark.parametrize("leaves", ["is cancelled", "fails"])
async def test_when_the_one_that_asks_leaves_the_next_one_asks_and_the_others_wait_on(leaves: str) -> None:
    desk = Desk()
    first, *others = await desk.callers(5)
    if leaves == "fails":
        desk.asked[0].set_exception(ValueError)
    else:
        first.cancel()
    await turn()
    assert len(desk.asked) == 2
    desk.asked[1].set_result("yes")
    assert await asyncio.gather(*others) == ["yes"] * 4
    with pytest.raises((ValueError, asyncio.CancelledError)):
        await first


async def test_who_waited_for_nothing_asks() -> None:
    desk = Desk()
    callers = await desk.callers(3)
    desk.asked[0].set_result(None)
    await turn()
    assert len(desk.asked) == 3
    for answer in desk.asked[1:]:
        answer.set_result("yes")
    assert await asyncio.gather(*callers) == [None, "yes", "yes"]


async def test_who_has_no_more_patience_asks_and_the_first_one_still_serves_the_others() -> None:
    desk = Desk()
    first, second = await desk.callers(2)
    hasty = asyncio.ensure_future(desk.call(patience_s=0.0))
    while len(desk.asked) < 2:  # noqa: ASYNC110 -- no event says that a timer has run out
        await asyncio.sleep(0)
    desk.asked[1].set_result("mine")
    assert await hasty == "mine"
    assert not second.done()
    desk.asked[0].set_result("yes")
    assert list(await asyncio.gather(first, second)) == ["yes", "yes"]


async def test_one_who_waits_and_leaves_disturbs_nobody() -> None:
    desk = Desk()
    first, second, third = await desk.callers(3)
    second.cancel()
    await turn()
    desk.asked[0].set_result("yes")
    assert list(await asyncio.gather(first, third)) == ["yes", "yes"]
