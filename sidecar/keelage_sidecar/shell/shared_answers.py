"""Kept answers that sidecars share: looked for where a sidecar has none of its own, sent there when it has made one."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable

import msgspec

from keelage_api.proxy_config import ProxyConfig
from keelage_api.response_cache import SharedCache
from keelage_sidecar.core.resp import command
from keelage_sidecar.core.response_cache import KeptAnswer
from keelage_sidecar.core.sealed_answer import KEY_CHARACTERS_MIN, NONCE_BYTES, Seal
from keelage_sidecar.shell.credentials import Credentials
from keelage_sidecar.shell.trust import Trust
from keelage_sidecar.shell.valkey import READ_BYTES, ValkeyError, ValkeyLink, Wire


class StreamWire:
    """A `Wire` of asyncio's streams."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @property
    def buffered(self) -> int:
        return self._writer.transport.get_write_buffer_size()

    async def read(self) -> bytes:
        return await self._reader.read(READ_BYTES)

    def write(self, data: bytes) -> None:
        self._writer.write(data)

    def close(self) -> None:
        self._writer.transport.abort()


class SharedFigures(msgspec.Struct, frozen=True):
    """One server, as it is now."""

    server: str
    """`host:port`."""
    up: bool
    failures: int


class SharedAnswers:
    """All servers that the configuration names; a link to each while `run` runs."""

    def __init__(
        self,
        credentials: Credentials,
        trust: Trust,
        clock: Callable[[], float],
        unix: Callable[[], float],
        pick: Callable[[], float],
        dial: Callable[[SharedCache, Trust], Awaitable[Wire]] | None = None,
    ) -> None:
        """`dial` connects to a server; None: by TCP."""
        self._credentials = credentials
        self._trust = trust
        self._clock = clock
        self._unix = unix
        self._pick = pick
        self._dial = dial or _dial
        self._links: dict[SharedCache, ValkeyLink] = {}
        self._seals: dict[SharedCache, tuple[str, Seal]] = {}
        """With the secret that each was made of."""
        self._changed = asyncio.Event()

    def obey(self, config: ProxyConfig) -> None:
        """Link the servers that it names, and no other."""
        caches = [rule.response_cache for rule in config.rules if rule.response_cache is not None]
        wanted = {cache.shared for cache in caches if cache.shared is not None}
        for gone in self._links.keys() - wanted:
            del self._links[gone]
            self._seals.pop(gone, None)
        for new in wanted - self._links.keys():
            self._links[new] = self._link(new)
        self._changed.set()

    async def run(self) -> None:
        """Keep the links until cancelled."""
        running: dict[ValkeyLink, asyncio.Task[None]] = {}
        async with asyncio.TaskGroup() as group:
            while True:
                self._changed.clear()
                wanted = set(self._links.values())
                for link in running.keys() - wanted:
                    running.pop(link).cancel()
                for link in wanted - running.keys():
                    running[link] = group.create_task(link.run())
                await self._changed.wait()

    async def find(self, server: SharedCache, key: bytes) -> KeptAnswer | None:
        """The answer to the call with that key, in the server's own time or not at all."""
        link, seal = self._links.get(server), self._seal(server)
        if link is None or seal is None or not link.up:
            return None
        name = seal.name(key)
        value = await link.get(name)
        return None if value is None else seal.opened(name, value, self._clock(), self._unix())

    def keep(self, server: SharedCache, key: bytes, answer: KeptAnswer, ttl_ms: int) -> None:
        """Send it there; it may be lost."""
        link, seal = self._links.get(server), self._seal(server)
        if link is not None and seal is not None and link.up:
            name = seal.name(key)
            nonce = os.urandom(NONCE_BYTES)
            link.set(name, seal.sealed(name, answer, self._clock(), self._unix(), nonce), ttl_ms)

    def figures(self) -> tuple[SharedFigures, ...]:
        return tuple(
            SharedFigures(f"{server.host}:{server.port}", link.up, link.failures)
            for server, link in self._links.items()
        )

    def errors(self) -> tuple[str, ...]:
        """Why servers cannot be used now, for people."""
        return tuple(
            f"shared cache {server.host}:{server.port}: {link.error}"
            for server, link in self._links.items()
            if link.error and not link.up
        )

    def _link(self, server: SharedCache) -> ValkeyLink:
        return ValkeyLink(
            lambda: self._dialled(server),
            lambda: self._greeting(server),
            server.timeout_ms / 1000,
            self._clock,
            self._pick,
        )

    async def _dialled(self, server: SharedCache) -> Wire:
        if self._seal(server) is None:
            secret, _, key = server.encryption_key.partition("/")
            raise ValkeyError(
                f"Secret {secret}, key {key} (sharedCache.encryptionKey) does not hold {KEY_CHARACTERS_MIN} characters:"
                " write as many random ones, as `openssl rand -base64 32` prints"
            )
        return await self._dial(server, self._trust)

    def _greeting(self, server: SharedCache) -> tuple[bytes, ...]:
        commands = []
        if server.password:
            password = (self._credentials.get(server.password) or "").encode("latin-1")
            user = (server.username.encode(),) if server.username else ()
            commands.append(command(b"AUTH", *user, password))
        if server.database:
            commands.append(command(b"SELECT", b"%d" % server.database))
        return tuple(commands)

    def _seal(self, server: SharedCache) -> Seal | None:
        secret = self._credentials.get(server.encryption_key) or ""
        known = self._seals.get(server)
        if known is not None and known[0] == secret:
            return known[1]
        if len(secret) < KEY_CHARACTERS_MIN:
            return None
        seal = Seal(secret, server.namespace)
        self._seals[server] = secret, seal
        return seal


async def _dial(server: SharedCache, trust: Trust) -> Wire:
    """By TCP, with TLS where the route says so."""
    if not server.secure:
        return StreamWire(*await asyncio.open_connection(server.host, server.port))
    return StreamWire(
        *await asyncio.open_connection(
            server.host,
            server.port,
            ssl=trust.context(server.authorities),
            server_hostname=server.hostname or server.host,
        )
    )
