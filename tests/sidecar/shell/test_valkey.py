"""A server of shared answers that dies, hangs and comes back costs hits, and a call its timeout once. Virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.sidecar.shell.fake_valkey import FakeValkey
from tests.simulation.virtual_time import run

from keelage_sidecar.core.resp import command
from keelage_sidecar.shell.valkey import CONNECT_S, VALUE_MAX, ValkeyLink

TIMEOUT_S = 0.05
Scene = Callable[[ValkeyLink], Awaitable[None]]


def played(server: FakeValkey, scene: Scene, greeting: tuple[bytes, ...] = ()) -> None:
    """The scene with a link to the server, in virtual time."""

    async def play() -> None:
        clock = asyncio.get_running_loop().time
        link = ValkeyLink(server.dial, lambda: greeting, TIMEOUT_S, clock, lambda: 0.0)
        keeping = asyncio.ensure_future(link.run())
        await asyncio.sleep(0.001)
        await scene(link)
        keeping.cancel()
        await asyncio.wait((keeping,))

    run(play())


async def took_s(question: Awaitable[object]) -> float:
    clock = asyncio.get_running_loop().time
    began_s = clock()
    await question
    return clock() - began_s


def test_a_value_is_kept_and_found() -> None:
    server = FakeValkey()

    async def scene(link: ValkeyLink) -> None:
        assert await link.get(b"a") is None
        assert link.set(b"a", b"1\r\n", 5_000)
        assert await link.get(b"a") == b"1\r\n"
        assert await asyncio.gather(*(link.get(name) for name in (b"a", b"b", b"a"))) == [b"1\r\n", None, b"1\r\n"]

    played(server, scene)
    assert server.ttls_ms == {b"a": 5_000}
    assert server.dials == 1


def test_it_logs_in_before_it_asks() -> None:
    server = FakeValkey(password="pw")

    async def scene(link: ValkeyLink) -> None:
        assert link.up

    played(server, scene, (command(b"AUTH", b"keelage", b"pw"), command(b"SELECT", b"3")))
    assert server.commands == [(b"AUTH", b"keelage", b"pw"), (b"SELECT", b"3"), (b"PING",)]


def test_a_server_that_refuses_the_password_is_not_used_and_says_why() -> None:
    server = FakeValkey(password="pw")

    async def scene(link: ValkeyLink) -> None:
        assert not link.up
        assert link.error == "WRONGPASS invalid"
        assert await link.get(b"a") is None

    played(server, scene, (command(b"AUTH", b"wrong"),))
    assert all(wire.closed for wire in server.wires)


def test_a_server_that_falls_silent_costs_the_timeout_once() -> None:
    server = FakeValkey()

    async def scene(link: ValkeyLink) -> None:
        server.silent = True
        together = [took_s(link.get(b"%d" % number)) for number in range(20)]
        assert max(await asyncio.gather(*together)) == pytest.approx(TIMEOUT_S)
        for _ in range(1_000):
            assert await took_s(link.get(b"a")) == 0.0
            await asyncio.sleep(0.1)
        assert link.error == f"no answer within {CONNECT_S:.0f} s"

    played(server, scene)
    assert server.dials < 12, "asked less and less often"


def test_a_server_that_comes_back_is_used_again() -> None:
    server = FakeValkey(values={b"a": b"1"})

    async def scene(link: ValkeyLink) -> None:
        server.refusing = True
        server.wires[0].close()
        await asyncio.sleep(0.001)
        assert await link.get(b"a") is None
        await asyncio.sleep(20)
        server.refusing = False
        await asyncio.sleep(60)
        assert await link.get(b"a") == b"1"
        assert (link.error, link.failures > 2) == ("", True)

    played(server, scene)


def test_who_waits_when_the_connection_is_lost_goes_on_at_once() -> None:
    server = FakeValkey()

    async def scene(link: ValkeyLink) -> None:
        server.silent = True
        waiting = asyncio.ensure_future(took_s(link.get(b"a")))
        await asyncio.sleep(0.01)
        server.wires[0].close()
        assert await waiting == pytest.approx(0.01)

    played(server, scene)


def test_a_call_that_leaves_while_it_waits_does_not_mix_up_the_replies() -> None:
    server = FakeValkey(values={b"a": b"1", b"b": b"2"})

    async def scene(link: ValkeyLink) -> None:
        first = asyncio.ensure_future(link.get(b"a"))
        await asyncio.sleep(0)
        first.cancel()
        assert await link.get(b"b") == b"2"

    played(server, scene)


def test_what_is_too_large_or_comes_too_fast_is_not_sent() -> None:
    server = FakeValkey()

    async def scene(link: ValkeyLink) -> None:
        assert not link.set(b"a", bytes(VALUE_MAX + 1), 1)
        server.wires[0].buffered = 1 << 30
        assert not link.set(b"a", b"1", 1)

    played(server, scene)
    assert not server.values


@settings(max_examples=50)
@given(st.lists(st.sampled_from(["silent", "refusing", "lost", "well"]), min_size=1, max_size=8))
def test_whatever_becomes_of_the_server_no_call_waits_longer_than_the_timeout_and_few_wait_at_all(
    fates: list[str],
) -> None:
    server = FakeValkey()

    async def scene(link: ValkeyLink) -> None:
        waited = 0
        for fate in fates:
            server.silent, server.refusing = fate == "silent", fate == "refusing"
            if fate == "lost":
                server.wires[-1].close()
            for _ in range(200):
                spent_s = await took_s(link.get(b"a"))
                assert spent_s <= TIMEOUT_S + 1e-9
                waited += spent_s > 0
                await asyncio.sleep(0.05)
        assert waited <= fates.count("silent")

    played(server, scene)
