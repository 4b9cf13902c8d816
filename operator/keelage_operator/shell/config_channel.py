"""The two conversations with a sidecar: its configuration (any replica) and its rights (the leader)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

import msgspec

from keelage_api.codec import encode
from keelage_api.errors import KeelageError, MessageError
from keelage_api.sync import ConfigReply, ConfigRequest, Right, SyncReply, SyncRequest
from keelage_operator.core.hearsay import CREDENTIALS_MAX, fault, resting_of, short
from keelage_operator.core.identity import PodIdentity
from keelage_operator.core.speakers import Speaker, Speakers
from keelage_operator.shell.route_source import RouteSource

WAIT_MAX_S = 50.0
"""Of one long poll; below the 60 s after which network devices forget idle connections."""

POD_WAIT_S = 5.0
"""A sidecar may speak before the watch has shown its pod."""


class Unavailable(KeelageError):
    """Nobody here can answer now; the sidecar keeps what it has and comes again."""


class Forbidden(KeelageError):
    """The sidecar asks for what is not its pod's."""


class PodReader(Protocol):
    async def labels_of(self, pod: PodIdentity) -> Mapping[str, str] | None:
        """Read from the API server; None if there is no such pod. Raises Unavailable."""
        ...


class ConfigChannel:
    """`POST /v1/config`."""

    def __init__(self, routes: RouteSource, pods: PodReader, clock: Callable[[], float]) -> None:
        self._routes = routes
        self._pods = pods
        self._clock = clock
        self._encoded: dict[str, msgspec.Raw] = {}

    async def answer(self, pod: PodIdentity, request: ConfigRequest) -> ConfigReply:
        """Another configuration than `request.version` as soon as there is one; an empty reply when the wait ends.

        Raises Unavailable, Forbidden.
        """
        if not self._routes.synced():
            raise Unavailable("the operator is starting: routes are not listed yet")
        deadline = self._clock() + min(max(request.wait_s, 0.0), WAIT_MAX_S)
        labels = await self._labels(pod)
        while True:
            revision = self._routes.revision(pod.namespace, pod.name)
            labels = self._routes.labels_of(pod.namespace, pod.name, pod.uid) or labels
            config = self._routes.config_for(pod.namespace, labels)
            if config.version != request.version:
                return ConfigReply(self._raw(config.version, config))
            left = deadline - self._clock()
            if left <= 0 or not await self._wait(pod, revision, left):
                return ConfigReply()

    async def _labels(self, pod: PodIdentity) -> Mapping[str, str]:
        deadline = self._clock() + POD_WAIT_S
        while True:
            revision = self._routes.revision(pod.namespace, pod.name)
            labels = self._routes.labels_of(pod.namespace, pod.name, pod.uid)
            if labels is not None:
                return labels
            left = deadline - self._clock()
            if left <= 0 or not await self._wait(pod, revision, left):
                break
        labels = await self._pods.labels_of(pod)
        if labels is None:
            raise Forbidden(f"pod {pod.namespace}/{pod.name} with uid {pod.uid} does not exist")
        return labels

    async def _wait(self, pod: PodIdentity, revision: tuple[int, int], seconds: float) -> bool:
        """False when the time is over."""
        try:
            async with asyncio.timeout(seconds):
                await self._routes.changed(pod.namespace, pod.name, revision)
        except TimeoutError:
            return False
        return True

    def _raw(self, version: str, config: msgspec.Struct) -> msgspec.Raw:
        """Encoded once for all pods that share it: the price book makes it large."""
        if version not in self._encoded:
            if len(self._encoded) >= ENCODED_MAX:
                del self._encoded[next(iter(self._encoded))]
            self._encoded[version] = msgspec.Raw(encode(config))
        return self._encoded[version]


ENCODED_MAX = 256
"""Configurations kept encoded; one per distinct set of routes and budgets."""


class Ledgers(Protocol):
    """The leader's books, as far as they are needed here."""

    async def sync(self, pod: PodIdentity, request: SyncRequest) -> tuple[Right, ...]: ...

    def attribute(self, pod: PodIdentity, request: SyncRequest) -> bool:
        """Note for whom the pod spent; whether it should tell all of that."""
        ...


@dataclass(frozen=True, slots=True)
class Leadership:
    """Asked anew for each message."""

    leading: bool
    address: str
    """`host:port` of the leader; empty: nobody leads now."""


def _no_key(_holder: str) -> str:
    return ""


class SyncChannel:
    """`POST /v1/sync`."""

    def __init__(
        self,
        ledgers: Ledgers,
        speakers: Speakers,
        leadership: Callable[[], Leadership],
        clock: Callable[[], float],
        heard: Callable[[str], None],
        will_key: Callable[[str], str] = _no_key,
    ) -> None:
        """`heard` gets the namespace whenever one of its sidecars says something new; `will_key` a holder
        (`<pod uid>.<incarnation>`), for the key of its last will."""
        self._ledgers = ledgers
        self._speakers = speakers
        self._leadership = leadership
        self._clock = clock
        self._heard = heard
        self._will_key = will_key

    async def answer(self, pod: PodIdentity, request: SyncRequest) -> SyncReply:
        """Raises Unavailable, Forbidden, MessageError, and what the ledgers raise."""
        now = self._leadership()
        if not now.leading:
            if not now.address:
                raise Unavailable("no leader is elected yet")
            return SyncReply(leader=now.address)
        wrong = fault(request)
        if wrong:
            raise MessageError(f"SyncRequest of pod {pod.namespace}/{pod.name}: {wrong}")
        for statement in request.statements:
            if not statement.budget.startswith(f"{pod.namespace}/"):
                raise Forbidden(f"budget {statement.budget} is not in namespace {pod.namespace} of the pod")
        news = self._register(pod, request)
        if self._speakers.savings.hear(pod, request) or news:
            self._heard(pod.namespace)
        rights = await self._ledgers.sync(pod, request)
        return SyncReply(
            rights=rights,
            next_s=self._speakers.interval_s,
            tell_all=self._ledgers.attribute(pod, request),
            will_key=self._will_key(f"{pod.uid}.{request.incarnation}"),
        )

    def _register(self, pod: PodIdentity, request: SyncRequest) -> bool:
        if request.leaving:
            self._speakers.forget(pod.uid)
            return True
        return self._speakers.heard(
            Speaker(
                pod_uid=pod.uid,
                pod_name=pod.name,
                namespace=pod.namespace,
                config_version=short(request.config_version),
                config_error=short(request.config_error),
                missing_credentials=tuple(short(each) for each in request.missing_credentials[:CREDENTIALS_MAX]),
                heard_s=self._clock(),
                resting=resting_of(request),
            )
        )
