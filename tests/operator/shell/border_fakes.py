"""What the border stands on, in memory."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field

from keelage_api.codec import seal
from keelage_api.mounted import MountedKey
from keelage_api.proxy_config import BudgetTerms, ProxyConfig
from keelage_api.sync import Right, SyncRequest
from keelage_operator.core.identity import PodIdentity
from keelage_operator.shell.token_review import Unknown

POD = PodIdentity("shop", "web-1", "uid-1", "default")


def config(budget: str) -> ProxyConfig:
    return seal(ProxyConfig(version="", budgets=(BudgetTerms(budget, hard=True),)))


@dataclass
class Routes:
    """A RouteSource whose content tests set."""

    ready: bool = True
    pods: dict[str, dict[str, str]] = field(default_factory=lambda: {"uid-1": {"app": "web"}})
    configs: dict[str, ProxyConfig] = field(default_factory=lambda: {"web": config("shop/one")})
    """By label `app`."""
    credentials: tuple[MountedKey, ...] = (MountedKey("llm-keys", "anthropic"),)
    count: int = 0
    waiting: int = 0
    _arrived: asyncio.Event = field(default_factory=asyncio.Event)
    _left: asyncio.Event = field(default_factory=asyncio.Event)
    _change: asyncio.Event = field(default_factory=asyncio.Event)

    def synced(self) -> bool:
        return self.ready

    def config_for(self, namespace: str, labels: Mapping[str, str]) -> ProxyConfig:
        return self.configs.get(labels.get("app", ""), ProxyConfig("none"))

    def credentials_for(self, namespace: str, labels: Mapping[str, str]) -> tuple[MountedKey, ...]:
        return self.credentials

    def labels_of(self, namespace: str, pod: str, uid: str) -> Mapping[str, str] | None:
        return self.pods.get(uid)

    def revision(self, namespace: str, pod: str) -> tuple[int, int]:
        return (self.count, 0)

    async def changed(self, namespace: str, pod: str, revision: tuple[int, int]) -> None:
        self.waiting += 1
        self._arrived.set()
        self._left.clear()
        try:
            while (self.count, 0) == revision:
                await self._change.wait()
        finally:
            self.waiting -= 1
            self._arrived.clear()
            self._left.set()

    async def polled(self) -> None:
        """Somebody waits for a change."""
        await self._arrived.wait()

    async def abandoned(self) -> None:
        """Nobody does any longer."""
        await self._left.wait()

    def change(self) -> None:
        self.count += 1
        self._arrived.clear()
        self._change.set()
        self._change = asyncio.Event()


@dataclass
class Fresh:
    """A CredentialsReader."""

    credentials: tuple[MountedKey, ...] = ()

    async def credentials_for(self, namespace: str, labels: Mapping[str, str]) -> tuple[MountedKey, ...]:
        return self.credentials


@dataclass
class Pods:
    """A PodReader."""

    labels: dict[str, str] | None = None
    asked: int = 0

    async def labels_of(self, pod: PodIdentity) -> Mapping[str, str] | None:
        self.asked += 1
        return self.labels


@dataclass
class Ledgers:
    """Grants whatever is wanted."""

    error: Exception | None = None
    heard: list[tuple[PodIdentity, SyncRequest]] = field(default_factory=list)

    async def sync(self, pod: PodIdentity, request: SyncRequest) -> tuple[Right, ...]:
        self.heard.append((pod, request))
        if self.error is not None:
            raise self.error
        return tuple(Right(s.budget, "2026-11", s.seq, s.granted + s.want) for s in request.statements)

    def attribute(self, pod: PodIdentity, request: SyncRequest) -> bool:
        return bool(request.shares)


@dataclass
class Tokens:
    """An Authenticator that knows one token."""

    async def review(self, token: str) -> PodIdentity | Unknown:
        return POD if token == "good" else Unknown("not valid")


@dataclass
class Clock:
    now: float = 0.0

    def __call__(self) -> float:
        return self.now
