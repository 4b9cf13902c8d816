"""Keeps the configuration in force: swaps whole ones, refuses bad ones loudly, remembers the last good one."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Protocol

from keelage_api.codec import decode_config, encode
from keelage_api.errors import KeelageError, MessageError
from keelage_api.proxy_config import ProxyConfig
from keelage_sidecar.core.routing import RoutingTable

FILE = "config.json"
RETRY_FIRST_S = 0.25
RETRY_MAX_S = 15.0
BAD_RETRY_S = 15.0
"""After a configuration that cannot be obeyed: the operator offers it again at once."""


class SourceUnreachable(KeelageError):
    """Nobody to ask for a configuration; mended by the cluster, or by waiting."""


class ConfigSource(Protocol):
    async def next(self, version: str) -> ProxyConfig:
        """Wait for a configuration of another version than that; empty: any.

        Raises MessageError for one that cannot be obeyed, SourceUnreachable for none.
        """


class ConfigWatch:
    """The configuration that this sidecar obeys.

    `table` is None before the first one. `error` says why a newer one was refused; the
    one before stays in force.
    """

    def __init__(
        self,
        source: ConfigSource,
        state: Path | None,
        on_change: Callable[[ProxyConfig], None],
        on_error: Callable[[], None],
        pick: Callable[[], float],
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """`pick`: uniform in [0, 1), drawn for each pause, so that a thousand sidecars do not come back at once."""
        self._source = source
        self._file = state / FILE if state is not None else None
        self._on_change = on_change
        self._on_error = on_error
        self._pick = pick
        self._sleep = sleep
        self.table: RoutingTable | None = None
        self.error = ""

    @property
    def version(self) -> str:
        return self.table.config.version if self.table is not None else ""

    def restore(self) -> None:
        """Obey what the last incarnation left; whatever is wrong with the file, start without."""
        if self._file is None:
            return
        try:
            config = decode_config(self._file.read_bytes())
        except (OSError, MessageError):
            return
        self._obey(config)

    async def run(self) -> None:
        """Follow the source until cancelled."""
        delay_s = RETRY_FIRST_S
        while True:
            try:
                config = await self._source.next(self.version)
            except MessageError as error:
                self.error = str(error)[:500]
                self._on_error()
                await self._sleep(BAD_RETRY_S)
            except SourceUnreachable:
                await self._sleep(delay_s * (0.5 + self._pick() / 2))
                delay_s = min(delay_s * 2, RETRY_MAX_S)
            else:
                delay_s = RETRY_FIRST_S
                self.error = ""
                if config.version != self.version:
                    self._obey(config)
                    self._keep(config)

    def _obey(self, config: ProxyConfig) -> None:
        self.table = RoutingTable.build(config)
        self._on_change(config)

    def _keep(self, config: ProxyConfig) -> None:
        if self._file is None:
            return
        draft = self._file.with_suffix(".new")
        try:
            draft.write_bytes(encode(config))
            os.replace(draft, self._file)
        except OSError as error:
            # Served from memory all the same; only a restart without the operator would miss it.
            self.error = f"{self._file}: {error.strerror}: the last good configuration cannot be kept"
