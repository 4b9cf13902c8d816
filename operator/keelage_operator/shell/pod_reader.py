"""Reads one pod from the API server: for sidecars that speak before the watch has shown their pod."""

from __future__ import annotations

from collections.abc import Mapping

from keelage_operator.core.identity import PodIdentity
from keelage_operator.shell.cluster import Cluster, Refused, Unreachable, member
from keelage_operator.shell.config_channel import Unavailable


class ClusterPods:
    """PodReader."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster

    async def labels_of(self, pod: PodIdentity) -> Mapping[str, str] | None:
        try:
            found = await self._cluster.get(f"/api/v1/namespaces/{pod.namespace}/pods/{pod.name}")
        except Refused as error:
            if error.not_found:
                return None
            raise Unavailable(f"pod {pod.namespace}/{pod.name} not read: {error}") from error
        except Unreachable as error:
            raise Unavailable(f"pod {pod.namespace}/{pod.name} not read: {error}") from error
        metadata = member(found, "metadata")
        if metadata.get("uid") != pod.uid:
            return None
        return {name: str(value) for name, value in member(metadata, "labels").items()}
