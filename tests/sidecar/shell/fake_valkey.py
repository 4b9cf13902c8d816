"""A Valkey server in memory, with the faults of a real one: on a wire for virtual time, or on a port."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from keelage_sidecar.core.resp import command


@dataclass(slots=True)
class FakeValkey:
    """Answers GET, SET PX, AUTH, SELECT and PING."""

    password: str = ""
    values: dict[bytes, bytes] = field(default_factory=dict)
    ttls_ms: dict[bytes, int] = field(default_factory=dict)
    commands: list[tuple[bytes, ...]] = field(default_factory=list)
    silent: bool = False
    """It takes commands and says nothing."""
    refusing: bool = False
    """It takes no connections."""
    dials: int = 0
    wires: list[FakeWire] = field(default_factory=list)

    async def dial(self) -> FakeWire:
        self.dials += 1
        if self.refusing:
            raise ConnectionRefusedError("nobody listens")
        wire = FakeWire(self)
        self.wires.append(wire)
        return wire

    def answer(self, words: tuple[bytes, ...], trusted: bool) -> bytes:
        self.commands.append(words)
        match words:
            case (b"AUTH", *_, password):
                return b"+OK\r\n" if password.decode() == self.password else b"-WRONGPASS invalid\r\n"
            case _ if self.password and not trusted:
                return b"-NOAUTH Authentication required.\r\n"
            case (b"PING",):
                return b"+PONG\r\n"
            case (b"SELECT", _):
                return b"+OK\r\n"
            case (b"GET", name):
                value = self.values.get(name)
                return b"$-1\r\n" if value is None else b"$%d\r\n%b\r\n" % (len(value), value)
            case (b"SET", name, value, b"PX", ttl_ms):
                self.values[name], self.ttls_ms[name] = value, int(ttl_ms)
                return b"+OK\r\n"
        return b"-ERR unknown command\r\n"


class FakeWire:
    """One connection to it."""

    def __init__(self, server: FakeValkey) -> None:
        self._server = server
        self._received = asyncio.Queue[bytes]()
        self._rest = b""
        self._trusted = False
        self.closed = False
        self.buffered = 0

    async def read(self) -> bytes:
        said = await self._received.get()
        while said and not self._received.empty():
            said += self._received.get_nowait()
        return said

    def write(self, data: bytes, /) -> None:
        words, self._rest = parsed(self._rest + data)
        for each in words:
            said = self._server.answer(each, self._trusted)
            self._trusted = self._trusted or (each[0] == b"AUTH" and said == b"+OK\r\n")
            if not self._server.silent:
                self._received.put_nowait(said)

    def close(self) -> None:
        self.closed = True
        self._received.put_nowait(b"")


def parsed(data: bytes) -> tuple[list[tuple[bytes, ...]], bytes]:
    """Whole commands, and what is left."""
    found = []
    while data:
        words, at = [], data.find(b"\r\n") + 2
        for _ in range(int(data[1 : at - 2])):
            end = data.find(b"\r\n", at)
            size = int(data[at + 1 : end])
            words.append(data[end + 2 : end + 2 + size])
            at = end + 4 + size
        found.append(tuple(words))
        assert data.startswith(command(*words))
        data = data[at:]
    return found, data
