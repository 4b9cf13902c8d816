"""One connection to a Valkey or Redis server: used while it answers in time, left alone while it does not.

A call waits for it once, for as long as the manifest says; then the connection is given up, and only this module's own
loop finds out when the server is back. So its death costs hits, and never a call.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Protocol

from keelage_api.errors import KeelageError
from keelage_api.proxy_config import CircuitBreaker
from keelage_sidecar.core.breaker import Breaker, Verdict
from keelage_sidecar.core.resp import Failed, Reply, RespError, RespReader, command

CONNECT_S = 5.0
"""To connect, log in and hear the first answer; no call waits for that."""
PENDING_MAX = 1024
"""Replies that are still to come; beyond that nothing more is asked."""
BUFFERED_MAX = 8 * 1024 * 1024
"""Bytes that the server has not taken yet; beyond that nothing more is sent to be kept."""
VALUE_MAX = 4 * 1024 * 1024
"""Bytes of a value: larger ones would not be there in time."""
READ_BYTES = 64 * 1024
TERMS = CircuitBreaker(consecutive_failures=1, open_base_ms=1_000, open_max_ms=60_000)
"""One failure is enough: the next one would cost a call its time."""


class ValkeyError(KeelageError):
    """The server cannot be used. Mended by whoever runs it, or wrote the route's `sharedCache`."""


class Wire(Protocol):
    """A connection."""

    @property
    def buffered(self) -> int:
        """Bytes that were written and not sent yet."""

    async def read(self) -> bytes:
        """What has arrived, at least a byte; empty at the end. Raises OSError."""

    def write(self, data: bytes, /) -> None:
        """Queue bytes."""

    def close(self) -> None:
        """At once; `read` returns then."""


class ValkeyLink:
    """Keeps a connection while `run` runs; `get` and `set` use it if there is one."""

    def __init__(
        self,
        dial: Callable[[], Awaitable[Wire]],
        greeting: Callable[[], tuple[bytes, ...]],
        timeout_s: float,
        clock: Callable[[], float],
        pick: Callable[[], float],
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """`dial` connects; it may raise OSError, ValueError or KeelageError. `greeting`: commands that log in."""
        self._dial = dial
        self._greeting = greeting
        self._timeout_s = timeout_s
        self._clock = clock
        self._pick = pick
        self._sleep = sleep
        self._breaker = Breaker(TERMS, clock())
        self._wire: Wire | None = None
        self._pending: deque[asyncio.Future[Reply] | None] = deque()
        """In the order of their commands; None: nobody waits for the reply."""
        self.failures = 0
        """How often the server could not be used, ever."""
        self.error = ""
        """Why it cannot be used now."""

    @property
    def up(self) -> bool:
        return self._wire is not None

    async def run(self) -> None:
        """Connect, and connect again whenever the connection is lost, until cancelled."""
        while True:
            ticket = self._breaker.admit(self._clock())
            if ticket is None:
                await self._sleep(self._breaker.opens_in_s(self._clock()))
                continue
            try:
                async with asyncio.timeout(CONNECT_S):
                    wire, reader = await self._connected()
            except (OSError, ValueError, KeelageError, TimeoutError) as error:
                self._failed(ticket, str(error) or f"no answer within {CONNECT_S:.0f} s")
                continue
            self._breaker.ended(ticket, Verdict.OK, self._clock(), self._pick())
            self._wire, self.error = wire, ""
            why = "the server has closed the connection"
            try:
                await self._listen(wire, reader)
            except (OSError, RespError) as error:
                why = str(error)
            finally:
                self._give_up(wire, why)
            self._failed(self._breaker.ticket, self.error)

    async def get(self, name: bytes) -> bytes | None:
        """The value; None where there is none, or no server. Waits no longer than `timeout_s`."""
        wire = self._wire
        if wire is None or len(self._pending) >= PENDING_MAX:
            return None
        reply: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        self._pending.append(reply)
        wire.write(command(b"GET", name))
        await asyncio.wait((reply,), timeout=self._timeout_s)
        if not reply.done():
            self._give_up(wire, f"no answer within {self._timeout_s * 1000:.0f} ms")
            return None
        value = reply.result()
        if isinstance(value, Failed):
            self._give_up(wire, value.text)
        return value if isinstance(value, bytes) else None

    def set(self, name: bytes, value: bytes, ttl_ms: int) -> bool:
        """Send it to be kept for so long; False where there is no server, or it does not keep up."""
        wire = self._wire
        if wire is None or len(self._pending) >= PENDING_MAX or len(value) > VALUE_MAX or wire.buffered > BUFFERED_MAX:
            return False
        self._pending.append(None)
        wire.write(command(b"SET", name, value, b"PX", b"%d" % ttl_ms))
        return True

    async def _connected(self) -> tuple[Wire, RespReader]:
        """A connection that has answered."""
        wire, reader = await self._dial(), RespReader(VALUE_MAX)
        try:
            commands = (*self._greeting(), command(b"PING"))
            wire.write(b"".join(commands))
            replies: list[Reply] = []
            while len(replies) < len(commands):
                data = await wire.read()
                if not data:
                    raise ValkeyError("the server has closed the connection")
                replies += reader.feed(data)
            refused = next((each for each in replies if isinstance(each, Failed)), None)
            if refused is not None:
                raise ValkeyError(refused.text)
        except BaseException:  # whatever ends it, cancellation too: the socket must not stay open
            wire.close()
            raise
        return wire, reader

    async def _listen(self, wire: Wire, reader: RespReader) -> None:
        while self._wire is wire and (data := await wire.read()):
            for reply in reader.feed(data):
                if not self._pending:
                    raise RespError("a reply that nobody asked for")
                waiting = self._pending.popleft()
                if waiting is not None and not waiting.done():
                    waiting.set_result(reply)
                elif isinstance(reply, Failed):
                    self.failures += 1
                    self.error = reply.text

    def _give_up(self, wire: Wire, why: str) -> None:
        """Nobody waits for this connection any more."""
        if self._wire is not wire:
            return
        self._wire, self.error = None, why
        wire.close()
        while self._pending:
            waiting = self._pending.popleft()
            if waiting is not None and not waiting.done():
                waiting.set_result(None)

    def _failed(self, ticket: int, why: str) -> None:
        self.failures += 1
        self.error = why
        self._breaker.ended(ticket, Verdict.FAILED, self._clock(), self._pick())
