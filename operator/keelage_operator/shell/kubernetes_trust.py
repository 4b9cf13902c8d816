"""The authority's Secret and the webhook configurations in the API server."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Awaitable, Mapping

from keelage_operator.shell.authority import StoredTrust, TrustConflict, TrustUnavailable
from keelage_operator.shell.cluster import Cluster, Json, PatchKind, Refused, Unreachable, member

FIELD_MANAGER = "keelage-trust"
"""Its own, so that nobody else's apply takes the bundle away, and it takes nothing from others."""

GROUP = "admissionregistration.k8s.io/v1"
CONFIGURATIONS = ("MutatingWebhookConfiguration", "ValidatingWebhookConfiguration")


class KubernetesTrust:
    """TrustStore on one Secret and the two configurations of the chart, which have one name."""

    def __init__(self, cluster: Cluster, namespace: str, secret: str, configuration: str) -> None:
        self._cluster = cluster
        self._namespace = namespace
        self._secret = secret
        self._configuration = configuration

    async def load(self) -> StoredTrust | None:
        found = await self._call(self._cluster.get(f"{self._secrets}/{self._secret}"))
        if found is None:
            return None
        return StoredTrust(_decoded(member(found, "data")), str(member(found, "metadata").get("resourceVersion", "")))

    async def create(self, data: Mapping[str, bytes]) -> None:
        await self._call(self._cluster.create(self._secrets, self._body(data, version="")))

    async def replace(self, data: Mapping[str, bytes], version: str) -> None:
        path = f"{self._secrets}/{self._secret}"
        if await self._call(self._cluster.replace(path, self._body(data, version))) is None:
            raise TrustConflict(f"Secret {self._secret} was deleted meanwhile")

    async def trust(self, bundle: bytes) -> bool:
        encoded = base64.b64encode(bundle).decode("ascii")
        return all([await self._trust(kind, encoded) for kind in CONFIGURATIONS])

    async def _trust(self, kind: str, encoded: str) -> bool:
        """One configuration; False if it does not exist."""
        path = f"/apis/{GROUP}/{kind.lower()}s/{self._configuration}"
        found = await self._call(self._cluster.get(path))
        if found is None:
            return False
        listed = found.get("webhooks")
        hooks = [hook for hook in listed if isinstance(hook, dict)] if isinstance(listed, list) else []
        if all(member(hook, "clientConfig").get("caBundle") == encoded for hook in hooks):
            return True
        body: Json = {
            "apiVersion": GROUP,
            "kind": kind,
            "metadata": {"name": self._configuration},
            # All of them: an apply takes away what it does not name.
            "webhooks": [{"name": hook.get("name"), "clientConfig": {"caBundle": encoded}} for hook in hooks],
        }
        query = {"fieldManager": FIELD_MANAGER, "force": "true"}
        return await self._call(self._cluster.patch(path, body, PatchKind.APPLY, query)) is not None

    @property
    def _secrets(self) -> str:
        return f"/api/v1/namespaces/{self._namespace}/secrets"

    def _body(self, data: Mapping[str, bytes], version: str) -> Json:
        metadata: Json = {
            "name": self._secret,
            "namespace": self._namespace,
            "labels": {"app.kubernetes.io/name": "keelage", "app.kubernetes.io/managed-by": "keelage-operator"},
        }
        if version:
            metadata["resourceVersion"] = version
        return {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": metadata,
            "type": "Opaque",
            "data": {name: base64.b64encode(value).decode("ascii") for name, value in data.items()},
        }

    async def _call(self, request: Awaitable[Json]) -> Json | None:
        """None: there is no such object."""
        try:
            return await request
        except Refused as error:
            if error.not_found:
                return None
            if error.conflict:
                raise TrustConflict(str(error)) from error
            raise TrustUnavailable(str(error)) from error
        except Unreachable as error:
            raise TrustUnavailable(str(error)) from error


def _decoded(data: Mapping[str, object]) -> dict[str, bytes]:
    decoded: dict[str, bytes] = {}
    for name, value in data.items():
        try:
            decoded[name] = base64.b64decode(str(value), validate=True)
        except (binascii.Error, ValueError):
            decoded[name] = b""  # as good as absent: the Secret is judged unusable and replaced
    return decoded
