"""TLS sessions that outlive their connections: a new one to the same host costs half the CPU and no certificates."""

from __future__ import annotations

import ssl
from collections.abc import Callable

RESUMED_S = 600.0
"""How long a session is resumed after the handshake in which the certificate was verified: one that has expired or was
replaced is noticed that much later, and a whole handshake (1 ms of CPU) in ten minutes costs nothing."""


class ResumingContext(ssl.SSLContext):
    """A client's context. It verifies whom it talks to, and resumes the session that it last verified with the host.

    A session was verified when it began, with this context's authorities and for that host's name. A server that
    does not know it any more answers with a whole handshake.
    """

    def __new__(cls, clock: Callable[[], float]) -> ResumingContext:
        # The only protocol of a client's that verifies certificates and host names.
        return super().__new__(cls, ssl.PROTOCOL_TLS_CLIENT)

    def __init__(self, clock: Callable[[], float]) -> None:
        """`clock`: seconds, monotonic."""
        super().__init__()
        self._clock = clock
        self._sessions: dict[str, tuple[ssl.SSLSession, float]] = {}
        """By host, and until when."""
        self.set_alpn_protocols(["http/1.1"])

    def wrap_bio(
        self,
        incoming: ssl.MemoryBIO,
        outgoing: ssl.MemoryBIO,
        server_side: bool = False,
        server_hostname: str | bytes | None = None,
        session: ssl.SSLSession | None = None,
    ) -> ssl.SSLObject:
        # The only way in: neither asyncio nor uvloop takes a session for a connection.
        known, until_s = self._sessions.get(str(server_hostname), (None, 0.0))
        if session is None and self._clock() < until_s:
            session = known
        return super().wrap_bio(incoming, outgoing, server_side, server_hostname, session)

    def keep(self, connection: ssl.SSLObject) -> None:
        session = connection.session
        # A resumed one proves nothing anew: remembered again and again, it would outlive the certificate.
        if session is not None and not connection.session_reused:
            self._sessions[str(connection.server_hostname)] = session, self._clock() + RESUMED_S


def remember(connection: ssl.SSLObject) -> None:
    """Keep the connection's session for the next one; after the first reply, with which TLS 1.3 sends it."""
    if isinstance(connection.context, ResumingContext):
        connection.context.keep(connection)
