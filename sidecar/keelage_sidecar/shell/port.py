"""What the connections of one listening port share: their handler, their bounds, and who they are."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from ipaddress import ip_address
from typing import Protocol

from keelage_sidecar.shell.call import Call
from keelage_sidecar.shell.known_head import KnownHeads
from keelage_sidecar.shell.limits import Limits

Handler = Callable[[Call], Coroutine[object, None, None]]


class Peer(Protocol):
    """A connection, as its port sees it."""

    deadline_s: float | None
    """When `expired` is to be called; None: never."""
    draining: bool

    def expired(self) -> None:
        """The deadline has passed."""

    def cancel(self) -> None:
        """Cancel the call that is being answered."""

    def close(self) -> None:
        """Send what is queued, then close."""


class Port:
    """One listening port."""

    def __init__(self, handler: Handler, limits: Limits) -> None:
        self.handler = handler
        self.limits = limits
        self.draining = False
        self.body_bytes = 0
        """Request bodies in memory."""
        self.heads = KnownHeads()
        self.connections: set[Peer] = set()
        self.running: dict[asyncio.Task[None], Peer] = {}
        """Calls being answered; some go on when their connection is lost."""
        self.empty = asyncio.Event()
        """Set when the last connection closes."""

    def sweep(self, now_s: float) -> None:
        """Close every connection whose deadline has passed."""
        for connection in list(self.connections):
            if connection.deadline_s is not None and connection.deadline_s <= now_s:
                connection.expired()

    def drain(self) -> None:
        """Each connection is closed after its next reply."""
        self.draining = True
        for connection in self.connections:
            connection.draining = True


def from_loopback(transport: asyncio.BaseTransport | None) -> bool:
    """Whether the connection comes from 127.0.0.1, ::1 or their like."""
    peer = transport.get_extra_info("peername") if transport is not None else None
    return peer is not None and ip_address(peer[0].removeprefix("::ffff:")).is_loopback
