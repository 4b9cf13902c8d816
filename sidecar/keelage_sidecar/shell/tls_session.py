"""TLS sessions that outlive their connections: a new one to the same host costs half the CPU and no certificates."""

from __future__ import annotations

import ssl


class ResumingContext(ssl.SSLContext):
    """A client's context. It verifies whom it talks to, and resumes the last session with the same host.

    A session was verified when it began, with this context's authorities and for that host's name. A server that
    does not know it any more answers with a whole handshake.
    """

    def __init__(self, protocol: int) -> None:
        super().__init__()
        assert protocol == ssl.PROTOCOL_TLS_CLIENT, "which verifies certificates and host names"
        self._sessions: dict[str, ssl.SSLSession] = {}
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
        known = self._sessions.get(str(server_hostname)) if session is None else session
        return super().wrap_bio(incoming, outgoing, server_side, server_hostname, known)


def remember(connection: ssl.SSLObject) -> None:
    """Keep the connection's session for the next one; after the first reply, with which TLS 1.3 sends it."""
    context, session = connection.context, connection.session
    if isinstance(context, ResumingContext) and session is not None:
        context._sessions[str(connection.server_hostname)] = session
