"""What the border asks of the watch cache: configuration and pods, without a network call."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from keelage_api.mounted import MountedKey
from keelage_api.proxy_config import ProxyConfig


class RouteSource(Protocol):
    """Every replica has one; all methods but `changed` answer from memory."""

    def synced(self) -> bool:
        """Routes, budgets and pods have been listed once. Until then nothing may be answered from here."""
        ...

    def config_for(self, namespace: str, labels: Mapping[str, str]) -> ProxyConfig:
        """What a pod with these labels obeys; sealed."""
        ...

    def credentials_for(self, namespace: str, labels: Mapping[str, str]) -> tuple[MountedKey, ...]:
        """(secret, key) pairs that the routes of such a pod name; sorted, each once."""
        ...

    def labels_of(self, namespace: str, pod: str, uid: str) -> Mapping[str, str] | None:
        """Labels of a known pod; None if the cache does not hold that name with that uid."""
        ...

    def revision(self, namespace: str, pod: str) -> tuple[int, int]:
        """Changes whenever `config_for` or `labels_of` may answer differently for that pod."""
        ...

    async def changed(self, namespace: str, pod: str, revision: tuple[int, int]) -> None:
        """Return once `revision(namespace, pod)` differs from the one given; at once if it does already."""
        ...
