"""Keeps the shared authority, this replica's certificate and the webhooks' trust in step.

`ensure()` is the whole of it: read or create the Secret, renew what is due, swap the
certificate on the live SSLContext, tell the webhook configurations. It runs once before
the server listens and then every minute.
"""

from __future__ import annotations

import asyncio
import logging
import os
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from keelage_api.errors import KeelageError
from keelage_operator.core.authority import (
    Trust,
    Unusable,
    leaf_renewal,
    needs_successor,
    read_trust,
    server_names,
    signer,
    write_trust,
)
from keelage_operator.shell.certificates import Leaf, new_authority, new_leaf

LOG = logging.getLogger(__name__)

CHECK_S = 60.0
"""Between two looks: a deleted Secret or a configuration without trust is repaired within this."""

RETRY_S = 2.0
"""After a failure; also the pace at which other replicas' first Secret is awaited."""

SWAPS_MAX = 10
"""Lost races for the Secret in a row before giving up until the next look."""


class TrustConflict(KeelageError):
    """Another replica was faster: read again."""


class TrustUnavailable(KeelageError):
    """The API server did not answer as hoped; the text says what it said."""


@dataclass(frozen=True, slots=True)
class StoredTrust:
    data: Mapping[str, bytes]
    version: str
    """resourceVersion."""


class TrustStore(Protocol):
    """The Secret and the webhook configurations. Every method may raise TrustUnavailable."""

    async def load(self) -> StoredTrust | None: ...

    async def create(self, data: Mapping[str, bytes]) -> None:
        """Raises TrustConflict if it exists by now."""
        ...

    async def replace(self, data: Mapping[str, bytes], version: str) -> None:
        """Raises TrustConflict if it changed since that version."""
        ...

    async def trust(self, bundle: bytes) -> bool:
        """Write the bundle into the webhook configurations; False while one of them does not exist."""
        ...


@dataclass(frozen=True, slots=True)
class ServingNames:
    service: str
    namespace: str
    address: str
    """The pod's IP: sidecars call the leader by it."""


class TrustKeeper:
    """Owns the SSLContext that the server listens with."""

    def __init__(self, store: TrustStore, names: ServingNames, wall: Callable[[], datetime]) -> None:
        self.context = server_context()
        self._store = store
        self._names = names
        self._wall = wall
        self._trust: Trust | None = None
        self._leaf: Leaf | None = None
        self._announced = False
        self._missing = False
        """A webhook configuration was there once and is not any more."""

    @property
    def ready(self) -> bool:
        """A certificate is loaded and the API server trusts it."""
        return self._leaf is not None and self._announced

    @property
    def bundle(self) -> bytes:
        """What sidecars are to trust, PEM; empty before the first `ensure`."""
        return b"" if self._trust is None else self._trust.bundle

    @property
    def secrets(self) -> tuple[str, ...]:
        """Private keys that all replicas share and nobody else knows, newest first; none before the first `ensure`."""
        return () if self._trust is None else tuple(each.key for each in reversed(self._trust.authorities))

    async def ensure(self) -> None:
        """Bring all of it up to date. Raises TrustUnavailable."""
        trust = await self._shared_trust()
        now = self._wall()
        if (
            self._leaf is None
            or trust != self._trust
            or now >= leaf_renewal(self._leaf.not_before, self._leaf.not_after)
        ):
            leaf = new_leaf(
                signer(trust, now), server_names(self._names.service, self._names.namespace), self._names.address, now
            )
            load_leaf(self.context, leaf)
            self._leaf, self._trust = leaf, trust
            LOG.info("serving certificate made", extra={"not_after": leaf.not_after.isoformat()})
        trusted = await self._store.trust(trust.bundle)
        self._missing = self._announced and not trusted
        # Once ready, ready: sidecars need this replica, whoever deleted a webhook configuration.
        self._announced = self._announced or trusted
        if self._missing:
            LOG.error(
                "a webhook configuration is gone: pods get no sidecar or specs no check: helm upgrade restores it"
            )

    async def run(self) -> None:
        """Look again and again until cancelled; a failure leaves what is loaded in use."""
        while True:
            pause = CHECK_S
            try:
                await self.ensure()
            except TrustUnavailable as error:
                LOG.warning("authority not checked: %s", error)
                pause = RETRY_S
            await asyncio.sleep(pause if self.ready and not self._missing else RETRY_S)

    async def _shared_trust(self) -> Trust:
        for _ in range(SWAPS_MAX):
            try:
                return await self._trust_once()
            except TrustConflict:
                continue
        raise TrustUnavailable(f"the authority's Secret changed {SWAPS_MAX} times while it was being written")

    async def _trust_once(self) -> Trust:
        stored, now = await self._store.load(), self._wall()
        if stored is None:
            trust = Trust((new_authority(now),))
            await self._store.create(write_trust(trust))
            LOG.info("authority created")
            return trust
        found = read_trust(stored.data, now)
        if isinstance(found, Unusable):
            LOG.error(
                "the authority's Secret is unusable and is replaced; pods injected before do not trust the new one:"
                " restart them: %s",
                found.reason,
            )
            found = Trust((new_authority(now),))
        elif needs_successor(found, now):
            found = Trust((*found.authorities, new_authority(now)))
            LOG.info("authority got a successor")
        if write_trust(found) != dict(stored.data):
            await self._store.replace(write_trust(found), stored.version)
        return found


def server_context() -> ssl.SSLContext:
    """TLS 1.2 for the sake of old API servers, 1.3 for all others."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    return context


def load_leaf(context: ssl.SSLContext, leaf: Leaf) -> None:
    """Swap the certificate; connections made from now on see it, the listener goes on.

    OpenSSL's binding reads files only: an anonymous one in memory, so that no key
    ever lies on a disk.
    """
    handle = os.memfd_create("leaf", os.MFD_CLOEXEC)
    try:
        os.write(handle, leaf.pem)
        context.load_cert_chain(f"/proc/self/fd/{handle}")
    finally:
        os.close(handle)
