"""The control channel's client: configuration from any replica of the operator, rights from its leader."""

from __future__ import annotations

import ssl
from functools import cache
from pathlib import Path
from urllib.parse import urlsplit

from keelage_api.codec import decode, decode_config, encode
from keelage_api.errors import KeelageError, MessageError
from keelage_api.proxy_config import ProxyConfig, Timeouts
from keelage_api.sync import CONFIG_PATH, SYNC_PATH, ConfigReply, ConfigRequest, SyncReply, SyncRequest
from keelage_sidecar.shell.answer import UpstreamError
from keelage_sidecar.shell.config_watch import SourceUnreachable
from keelage_sidecar.shell.dialing import Dialing
from keelage_sidecar.shell.lease_keeper import LedgerUnreachable
from keelage_sidecar.shell.upstream import Upstream

REPLY_BYTES = 32 * 1024 * 1024
"""The price book of a namespace is some hundred KiB."""
CONFIG_TIMEOUTS = Timeouts(connect_ms=3_000, first_byte_ms=40_000, idle_ms=10_000, request_ms=60_000)
"""Above the 25 s that a poll waits at the operator."""
"""Of both, `connect_ms` is how long an exchange waits for a connection, not how long that may take (`Dialing`)."""
SYNC_TIMEOUTS = Timeouts(connect_ms=2_000, first_byte_ms=5_000, idle_ms=5_000, request_ms=8_000)


class OperatorSilent(KeelageError):
    """The operator gave no usable answer; mended by the cluster."""


class Control:
    """`ConfigSource` and `LedgerClient` over HTTPS."""

    def __init__(self, operator: str, ca_pem: str, token_file: Path) -> None:
        """`operator`: URL of the Service; `ca_pem`: the operator's own authority."""
        self._service = operator
        self._token_file = token_file
        self._leader = ""
        self._http = Upstream(cache(lambda _: ssl.create_default_context(cadata=ca_pem)))
        self._dialing = Dialing(self._http)

    async def next(self, version: str) -> ProxyConfig:
        while True:
            try:
                data = await self._post(self._service, CONFIG_PATH, encode(ConfigRequest(version)), CONFIG_TIMEOUTS)
            except OperatorSilent as error:
                raise SourceUnreachable(str(error)) from error
            reply = decode(ConfigReply, data)
            if reply.config is not None:
                return decode_config(bytes(reply.config))

    async def sync(self, request: SyncRequest) -> SyncReply:
        data = encode(request)
        asked = self._leader or self._service
        try:
            reply = await self._ask(asked, data)
            if reply.leader:
                self._leader = self._beside(reply.leader)
                if self._leader == asked:
                    raise OperatorSilent(f"{asked} names itself as the leader and does not answer as one")
                reply = await self._ask(self._leader, data)
                if reply.leader:
                    raise OperatorSilent(f"{self._leader} is not the leader any more")
        except OperatorSilent as error:
            self._leader = ""  # the Service knows a newer one, or will
            raise LedgerUnreachable(str(error)) from error
        return reply

    async def close(self) -> None:
        await self._dialing.close()
        await self._http.close()

    async def _ask(self, base: str, data: bytes) -> SyncReply:
        answer = await self._post(base, SYNC_PATH, data, SYNC_TIMEOUTS)
        try:
            return decode(SyncReply, answer)
        except MessageError as error:
            raise OperatorSilent(f"{base}: {error}") from error

    def _beside(self, leader: str) -> str:
        return f"{urlsplit(self._service).scheme}://{leader}"

    async def _post(self, base: str, path: str, body: bytes, timeouts: Timeouts) -> bytes:
        try:
            # Read each time: the kubelet replaces it before it expires.
            token = self._token_file.read_bytes().strip()
        except OSError as error:
            raise OperatorSilent(f"{self._token_file}: {error.strerror}") from error
        headers = [
            (b"host", urlsplit(base).netloc.encode()),
            (b"authorization", b"Bearer " + token),
            (b"content-type", b"application/json"),
            (b"content-length", b"%d" % len(body)),
        ]
        answer = None
        try:
            connection = await self._dialing.connection(base, path, timeouts)
            answer = connection.send("POST", path, headers, body, timeouts)
            await answer.head()
            parts, size = [], 0
            while piece := await answer.read():
                size += len(piece)
                if size > REPLY_BYTES:
                    raise OperatorSilent(f"{base}{path}: a reply of more than {REPLY_BYTES} bytes")
                parts.append(piece)
        except UpstreamError as error:
            raise OperatorSilent(f"{base}{path}: {error}") from error
        finally:
            if answer is not None:
                answer.abort()
        if answer.status != 200:
            detail = b"".join(parts)[:200].decode("utf-8", "replace")
            raise OperatorSilent(f"{base}{path}: HTTP {answer.status}: {detail}")
        return b"".join(parts)
