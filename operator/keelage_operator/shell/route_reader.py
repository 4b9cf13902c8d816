"""Reads the routes of one namespace from the API server: for pods that are created right after their routes.

The watch may be a moment behind. A pod that is injected without the Secrets of its
routes stays so until it is created anew, so one request per injected pod is well spent.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping

from keelage_api.v1alpha1.metadata import GROUP, VERSION
from keelage_operator.core.compile import RouteManifest, compile_namespace
from keelage_operator.core.price_book import Book
from keelage_operator.shell.cluster import Cluster, Refused, Unreachable, list_all

LOG = logging.getLogger(__name__)

READ_S = 1.0
"""Of the webhook's 5 s; then what the watch has shown must do."""


class ClusterRoutes:
    """CredentialsReader."""

    def __init__(self, cluster: Cluster, book: Book) -> None:
        self._cluster = cluster
        self._book = book

    async def credentials_for(self, namespace: str, labels: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
        """(secret, key) pairs as `RouteSource.credentials_for`; none if the routes cannot be read in time."""
        path = f"/apis/{GROUP}/{VERSION}/namespaces/{namespace}/llmroutes"
        try:
            async with asyncio.timeout(READ_S):
                found = await list_all(self._cluster, path)
        except (Refused, Unreachable, TimeoutError) as error:
            LOG.warning("routes of %s not read for a new pod: %s", namespace, error or type(error).__name__)
            return ()
        routes = [RouteManifest.of(raw) for raw in found]
        return compile_namespace(namespace, routes, [], self._book).credentials_for(labels)
