"""A fake provider on a port: inside a test's own loop, or in a thread for programs that block."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import TypeVar

from keelage_dev.provider.bill import BillReport
from keelage_dev.provider.connection import Connection
from keelage_dev.provider.record import Record
from keelage_dev.provider.service import Service
from keelage_dev.provider.settings import Settings, changed

__all__ = ["FakeProvider", "ThreadedProvider"]

T = TypeVar("T")
BACKLOG = 4096
"""Connections that a load generator opens at once."""


class FakeProvider:
    """`async with FakeProvider() as provider:` serves at `provider.url` until the block ends.

    `keys` maps accepted keys to their names on the bill (empty: any key), `port` 0 takes a free one,
    further arguments are fields of `Settings`.
    """

    def __init__(
        self, keys: Mapping[str, str] | None = None, *, host: str = "127.0.0.1", port: int = 0, **settings: object
    ) -> None:
        self._service = Service(keys or {}, changed(Settings(), settings))
        self._host, self._port = host, port
        self._open: set[Connection] = set()
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        """Listen. Raises OSError if the port is taken."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(
            lambda: Connection(self._service, self._open), self._host, self._port, backlog=BACKLOG
        )
        address: tuple[str, int] = self._server.sockets[0].getsockname()[:2]
        self._port = address[1]

    async def stop(self) -> None:
        """Listen no more and reset all connections."""
        if self._server is None:
            return
        self._server.close()
        for connection in tuple(self._open):
            connection.drop()
            await connection.lost.wait()
        await self._server.wait_closed()
        self._server = None

    async def __aenter__(self) -> FakeProvider:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, raised: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    @property
    def port(self) -> int:
        """Known once started."""
        return self._port

    @property
    def url(self) -> str:
        """The base URL of the Anthropic SDK; OpenAI's wants `/v1` behind it."""
        return f"http://{self._host}:{self._port}"

    @property
    def connections(self) -> int:
        """How many are open."""
        return len(self._open)

    def bill(self) -> BillReport:
        """What is owed for what was served so far."""
        return self._service.bill.report()

    def requests(self) -> list[Record]:
        """The last requests, oldest first."""
        return list(self._service.record)

    def config(self, **changes: object) -> None:
        """Change settings. Raises BadSetting or BadFault."""
        self._service.configure(changes)

    def reset(self) -> None:
        """Forget everything but open connections."""
        self._service.reset()


class ThreadedProvider:
    """The same with `with`, in a thread of its own, for clients that block."""

    def __init__(self, keys: Mapping[str, str] | None = None, **settings: object) -> None:
        self._provider = FakeProvider(keys, **settings)  # type: ignore[arg-type]  # host and port may be among them
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="fake-provider", daemon=True)

    def __enter__(self) -> ThreadedProvider:
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._provider.start(), self._loop).result()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, raised: BaseException | None, trace: TracebackType | None
    ) -> None:
        asyncio.run_coroutine_threadsafe(self._provider.stop(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    @property
    def url(self) -> str:
        """As `FakeProvider.url`."""
        return self._provider.url

    def bill(self) -> BillReport:
        """As `FakeProvider.bill`."""
        return self._asked(self._provider.bill)

    def requests(self) -> list[Record]:
        """As `FakeProvider.requests`."""
        return self._asked(self._provider.requests)

    def config(self, **changes: object) -> None:
        """As `FakeProvider.config`."""
        self._asked(lambda: self._provider.config(**changes))

    def reset(self) -> None:
        """As `FakeProvider.reset`."""
        self._asked(self._provider.reset)

    def _asked(self, question: Callable[[], T]) -> T:
        """Ask in the provider's own thread: its state is not locked."""

        async def ask() -> T:
            return question()

        return asyncio.run_coroutine_threadsafe(ask(), self._loop).result()
