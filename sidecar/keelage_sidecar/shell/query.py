"""One request to one backend, tried once: what is asked about batches, where the SDK's own retries suffice."""

from __future__ import annotations

import msgspec

from keelage_api.proxy_config import Backend, Timeouts
from keelage_sidecar.core.outgoing import Outgoing
from keelage_sidecar.core.retry import Failure
from keelage_sidecar.shell.answer import Answer, UpstreamError
from keelage_sidecar.shell.means import Means
from keelage_sidecar.shell.relay import Body
from keelage_sidecar.shell.upstream import Upstream

UNAUTHORIZED = 401


async def query(means: Means, backend: Backend, request: Outgoing, secret: str | None, timeouts: Timeouts) -> Answer:
    """The answer, its head arrived: read it to the end or `abort` it. Raises UpstreamError.

    Asked again once with another key if the one used, `secret`, is refused and its file has changed.
    """
    answer = await _ask(means.upstream, backend, request, timeouts)
    if answer.status == UNAUTHORIZED:
        key = means.credentials.renewed(backend.credential, secret)
        if key is not None:
            answer.abort()
            answer = await _ask(means.upstream, backend, request.with_key(backend, key), timeouts)
    return answer


async def _ask(upstream: Upstream, backend: Backend, request: Outgoing, timeouts: Timeouts) -> Answer:
    connection = await upstream.open(backend.endpoint, timeouts.connect_ms / 1000, backend.tls)
    answer = connection.send(request.method, request.target, request.headers, request.body, timeouts)
    try:
        await answer.head()
    except BaseException:
        answer.abort()  # also where the caller is cancelled
        raise
    return answer


async def whole(answer: Answer, bytes_max: int) -> bytes:
    """The body, decoded; raises UpstreamError, also for more bytes than that."""
    body, parts, size = Body(answer), list[bytes](), 0
    try:
        while piece := await body.read():
            parts.append(piece)
            size += len(piece)
            if size > bytes_max:
                raise UpstreamError(Failure.RESET, f"the answer has more than {bytes_max} bytes")
    finally:
        answer.abort()
    return b"".join(parts)


def hasty(timeouts: Timeouts, patience_s: float | None) -> Timeouts:
    """The same, but for an application that will not wait so long for a connection or a first byte."""
    if patience_s is None:
        return timeouts
    patience_ms = max(1, int(patience_s * 1000))
    if patience_ms >= timeouts.first_byte_ms and patience_ms >= timeouts.connect_ms:
        return timeouts
    return msgspec.structs.replace(
        timeouts,
        connect_ms=min(timeouts.connect_ms, patience_ms),
        first_byte_ms=min(timeouts.first_byte_ms, patience_ms),
    )
