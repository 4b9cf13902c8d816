"""Reads the routes of one namespace from the API server: for pods that are created right after their routes.

The watch may be a moment behind. A pod that is injected without the Secrets of its
routes stays so until it is created anew, so one request per injected pod is well spent.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence

from keelage_api.mounted import MountedKey
from keelage_api.v1alpha1.metadata import GROUP, VERSION
from keelage_operator.core.compile import CompiledNamespace, RouteManifest, compile_namespace
from keelage_operator.core.price_book import Book
from keelage_operator.shell.cluster import Cluster, Json, Refused, Unreachable, list_all, member

LOG = logging.getLogger(__name__)

KNOWN_MAX = 256
"""Namespaces in which pods are created at the same time."""

READ_S = 1.0
"""Of the webhook's 5 s; then what the watch has shown must do."""


class ClusterRoutes:
    """CredentialsReader."""

    def __init__(self, cluster: Cluster, book: Book) -> None:
        self._cluster = cluster
        self._book = book
        self._known: dict[str, tuple[tuple[tuple[str, str, str], ...], CompiledNamespace]] = {}
        """By namespace, the one asked for last at the end."""

    async def credentials_for(self, namespace: str, labels: Mapping[str, str]) -> tuple[MountedKey, ...]:
        """(secret, key) pairs as `RouteSource.credentials_for`; none if the routes cannot be read in time."""
        path = f"/apis/{GROUP}/{VERSION}/namespaces/{namespace}/llmroutes"
        try:
            async with asyncio.timeout(READ_S):
                found = await list_all(self._cluster, path)
        except (Refused, Unreachable, TimeoutError) as error:
            LOG.warning("routes of %s not read for a new pod: %s", namespace, error or type(error).__name__)
            return ()
        return self._compiled(namespace, found).credentials_for(labels)

    def _compiled(self, namespace: str, found: Sequence[Json]) -> CompiledNamespace:
        """Hundreds of routes take a second to read, and a rollout asks for each of its pods."""
        at = tuple(sorted(_version(raw) for raw in found))
        known = self._known.pop(namespace, None)
        if known is None or known[0] != at:
            routes = [RouteManifest.of(raw) for raw in found]
            known = at, compile_namespace(namespace, routes, [], self._book)
        self._known[namespace] = known
        if len(self._known) > KNOWN_MAX:
            del self._known[next(iter(self._known))]
        return known[1]


def _version(raw: Json) -> tuple[str, str, str]:
    """What says that the route, or its last accepted spec, is another one."""
    metadata = member(raw, "metadata")
    seen = member(raw, "status").get("observedGeneration")
    return str(metadata.get("uid")), str(metadata.get("generation")), str(seen)
