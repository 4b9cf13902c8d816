"""Leadership by a Lease object: takes it, keeps it, gives it back.

`run()` returns only when leadership was had and lost: the process then ends, since
what it remembers as a leader may be out of date, and starts anew.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from datetime import datetime

from keelage_operator.core.election import (
    LEASE_S,
    RENEW_DEADLINE_S,
    RETRY_S,
    LeaseState,
    Observation,
    Step,
    address_of,
    lost,
    next_step,
    observe,
)
from keelage_operator.shell.cluster import Cluster, Json, Refused, Unreachable, member

LOG = logging.getLogger(__name__)

LEASE_NAME = "keelage-leader"
RELEASE_TIMEOUT_S = 2.0
"""Of the kubelet's grace period; without it the others wait for the lease to run out."""

Sleep = Callable[[float], Awaitable[None]]


class Leader:
    def __init__(
        self,
        cluster: Cluster,
        namespace: str,
        me: str,
        clock: Callable[[], float],
        wall: Callable[[], datetime],
        sleep: Sleep = asyncio.sleep,
    ) -> None:
        self._cluster = cluster
        self._collection = f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases"
        self._namespace = namespace
        self._me = me
        self._clock = clock
        self._wall = wall
        self._sleep = sleep
        self._seen: Observation | None = None
        self._leading = False

    @property
    def leading(self) -> bool:
        return self._leading

    @property
    def address(self) -> str:
        """`host:port` of whoever leads, as far as is known; empty: nobody."""
        if self._seen is None or self._seen.lease is None:
            return ""
        return address_of(self._seen.lease.holder)

    async def run(self, on_lead: Callable[[], Awaitable[None]]) -> None:
        """Stand for leader; once it is won await `on_lead`, renew, and return when it is lost.

        `on_lead` runs beside the renewals: it may take longer than the lease lasts.
        """
        while not await self._attempt():
            await self._sleep(RETRY_S)
        self._leading = True
        LOG.info("leading", extra={"identity": self._me})
        started = asyncio.ensure_future(on_lead())
        try:
            await self._keep(started)
        finally:
            self._leading = False
            started.cancel()
        LOG.error("leadership lost", extra={"identity": self._me, "leader": self.address})

    async def _keep(self, started: asyncio.Future[None]) -> None:
        renewed_s = self._clock()
        while True:
            await self._sleep(RETRY_S)
            if started.done():
                started.result()  # what failed at the start of leading ends it
            asked_s = self._clock()
            if await self._attempt(renewed_s + RENEW_DEADLINE_S - asked_s):
                # From when it was asked: the others' wait begins no earlier.
                renewed_s = asked_s
            elif self._taken() or lost(renewed_s, self._clock()):
                return

    def _taken(self) -> bool:
        """Whether somebody else holds the lease by what was read last."""
        return self._seen is not None and self._seen.lease is not None and self._seen.lease.holder not in ("", self._me)

    async def _attempt(self, within_s: float = RENEW_DEADLINE_S) -> bool:
        """Read the lease and write it if it is ours to write; whether it is held now."""
        try:
            async with asyncio.timeout(within_s):
                return await self._read_and_write()
        except (Refused, Unreachable, TimeoutError) as error:
            # A conflict is another candidate who was faster; the rest passes or ends leadership by its deadline.
            LOG.warning("lease not written: %s", error or "no answer in time")
            return False

    async def _read_and_write(self) -> bool:
        lease: LeaseState | None
        try:
            lease = _state(await self._cluster.get(f"{self._collection}/{LEASE_NAME}"))
        except Refused as error:
            if not error.not_found:
                raise
            lease = None
        now_s = self._clock()
        self._seen = observe(self._seen, lease, now_s)
        step = next_step(self._seen, self._me, now_s)
        if step is Step.WAIT:
            return False
        stamp = self._stamp()
        if lease is None:
            written = await self._cluster.create(self._collection, self._lease(self._me, stamp, stamp, 0, ""))
        else:
            taking = step is Step.TAKE
            written = await self._cluster.replace(
                f"{self._collection}/{LEASE_NAME}",
                self._lease(
                    self._me,
                    stamp if taking or not lease.acquired else lease.acquired,
                    stamp,
                    lease.transitions + (1 if taking else 0),
                    lease.version,
                ),
            )
        self._seen = observe(self._seen, _state(written), now_s)
        return True

    async def release(self) -> None:
        """Give the lease back, so that another leads at once."""
        seen = self._seen
        if seen is None or seen.lease is None or seen.lease.holder != self._me:
            return
        lease, stamp = seen.lease, self._stamp()
        try:
            async with asyncio.timeout(RELEASE_TIMEOUT_S):
                await self._cluster.replace(
                    f"{self._collection}/{LEASE_NAME}",
                    self._lease("", lease.acquired or stamp, stamp, lease.transitions, lease.version, duration_s=1),
                )
        except (Refused, Unreachable, TimeoutError) as error:
            LOG.warning("lease not released: it runs out by itself: %s", error or "no answer in time")

    def _stamp(self) -> str:
        return self._wall().strftime("%Y-%m-%dT%H:%M:%S.%fZ")

    def _lease(
        self, holder: str, acquired: str, renewed: str, transitions: int, version: str, duration_s: int = LEASE_S
    ) -> Json:
        metadata: Json = {"name": LEASE_NAME, "namespace": self._namespace}
        if version:
            metadata["resourceVersion"] = version
        return {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": metadata,
            "spec": {
                "holderIdentity": holder,
                "leaseDurationSeconds": duration_s,
                "acquireTime": acquired,
                "renewTime": renewed,
                "leaseTransitions": transitions,
            },
        }


def _state(lease: Json) -> LeaseState:
    spec = member(lease, "spec")
    duration, transitions = spec.get("leaseDurationSeconds"), spec.get("leaseTransitions")
    return LeaseState(
        holder=str(spec.get("holderIdentity") or ""),
        duration_s=float(duration) if isinstance(duration, int) else LEASE_S,
        renewed=str(spec.get("renewTime") or ""),
        transitions=transitions if isinstance(transitions, int) else 0,
        version=str(member(lease, "metadata").get("resourceVersion") or ""),
        acquired=str(spec.get("acquireTime") or ""),
    )
