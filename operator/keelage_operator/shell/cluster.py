"""The border to the API server: JSON objects in and out, two errors, a deadline on every request.

The only module that knows the client library. Nothing is retried here: whoever asks
decides, since only the asker knows whether the question is still of interest.
"""

from __future__ import annotations

import asyncio
import enum
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol
from urllib.parse import urlencode

import aiohttp
import msgspec
from kubernetes.aio import client, config

from keelage_api.errors import KeelageError

Json = dict[str, object]

REQUEST_TIMEOUT_S = 5.0
"""Well above what a healthy API server needs, below the leader's renew deadline."""

LIST_TIMEOUT_S = 60.0
LIST_PAGE = 500
"""Objects per page, as client-go asks for."""

IN_CLUSTER_TOKEN = Path("/var/run/secrets/kubernetes.io/serviceaccount/token")


class Refused(KeelageError):
    """The API server answered with an error."""

    def __init__(self, status: int, reason: str, message: str) -> None:
        super().__init__(f"{status} {reason}: {message}")
        self.status = status
        self.reason = reason
        """As in metav1.Status: `AlreadyExists`, `Conflict`, `NotFound`."""

    @property
    def not_found(self) -> bool:
        return self.status == 404

    @property
    def lacks_right(self) -> bool:
        """The caller's role does not allow it; a namespace that is being deleted refuses with 403 too."""
        return self.status == 403 and "being terminated" not in str(self)

    @property
    def conflict(self) -> bool:
        """Another version is stored, or the object exists already."""
        return self.status == 409


class Unreachable(KeelageError):
    """No answer, or none in time: whether a write happened is unknown."""


def _ignore(_request: str, _answer: Refused) -> None:
    return None


class PatchKind(enum.StrEnum):
    JSON = "application/json-patch+json"
    APPLY = "application/apply-patch+yaml"


class Cluster(Protocol):
    """Paths are as in the API: `/apis/keelage.dev/v1alpha1/namespaces/shop/llmbudgets/month`.

    Every method raises Refused or Unreachable.
    """

    async def get(self, path: str, query: Mapping[str, str] | None = None) -> Json: ...

    async def create(self, path: str, body: Json) -> Json: ...

    async def replace(self, path: str, body: Json) -> Json: ...

    async def patch(
        self, path: str, body: Json | list[Json], kind: PatchKind, query: Mapping[str, str] | None = None
    ) -> Json: ...

    async def delete(self, path: str, body: Json | None = None) -> Json: ...


class KubernetesCluster:
    """A Cluster over `kubernetes.aio`, with the credentials of the pod or of a kubeconfig."""

    def __init__(self, api: client.ApiClient, timeout_s: float = REQUEST_TIMEOUT_S) -> None:
        self.api = api
        """The library's own client, for the other modules of this border."""
        self._timeout_s = timeout_s
        self.on_lacking_right: Callable[[str, Refused], None] = _ignore
        """Told the request, such as `POST /api/v1/...`, and the answer."""

    @classmethod
    async def connect(cls, timeout_s: float = REQUEST_TIMEOUT_S, context: str = "") -> KubernetesCluster:
        """With the service account if there is one, else as kubectl would; `context` names one of its own.

        Raises Unreachable where there is neither.
        """
        settings = client.Configuration()
        if not context and await asyncio.to_thread(IN_CLUSTER_TOKEN.exists):
            config.load_incluster_config(client_configuration=settings)  # type: ignore[no-untyped-call]
        else:
            try:
                await config.load_kube_config(  # type: ignore[no-untyped-call]
                    context=context or None, client_configuration=settings
                )
            except config.ConfigException as error:
                raise Unreachable(f"kubeconfig: {error}") from error
        return cls(client.ApiClient(configuration=settings), timeout_s)

    async def close(self) -> None:
        await self.api.close()  # type: ignore[no-untyped-call]

    async def get(self, path: str, query: Mapping[str, str] | None = None) -> Json:
        return await self._request("GET", path, query=query)

    async def create(self, path: str, body: Json) -> Json:
        return await self._request("POST", path, body)

    async def replace(self, path: str, body: Json) -> Json:
        return await self._request("PUT", path, body)

    async def patch(
        self, path: str, body: Json | list[Json], kind: PatchKind, query: Mapping[str, str] | None = None
    ) -> Json:
        return await self._request("PATCH", path, body, kind.value, query)

    async def delete(self, path: str, body: Json | None = None) -> Json:
        return await self._request("DELETE", path, body)

    async def _request(
        self,
        method: str,
        path: str,
        body: Json | list[Json] | None = None,
        content_type: str = "application/json",
        query: Mapping[str, str] | None = None,
    ) -> Json:
        limit_s = LIST_TIMEOUT_S if query is not None and "limit" in query else self._timeout_s
        try:
            prepared = await self.api.param_serialize(
                method,
                path + ("?" + urlencode(query) if query else ""),
                header_params={"Accept": "application/json", "Content-Type": content_type},
                body=body,
                auth_settings=["BearerToken"],
            )
            answer = await self.api.call_api(*prepared, _request_timeout=aiohttp.ClientTimeout(total=limit_s))
            data: bytes = await answer.read()  # type: ignore[no-untyped-call]
        except TimeoutError as error:
            raise Unreachable(f"{method} {path}: no answer within {limit_s:g} s") from error
        except (aiohttp.ClientError, OSError) as error:
            raise Unreachable(f"{method} {path}: {error or type(error).__name__}") from error
        if not 200 <= answer.status <= 299:
            refused = _refused(answer.status, data)
            if refused.lacks_right:
                self.on_lacking_right(f"{method} {path}", refused)
            raise refused
        try:
            return msgspec.json.decode(data, type=Json) if data else {}
        except msgspec.DecodeError as error:
            raise Unreachable(f"{method} {path}: the answer is not JSON: {error}") from error


def kubeconfig_namespace(context: str = "") -> str:
    """The namespace that kubectl would take; `context` empty: the current one. Raises Unreachable."""
    try:
        contexts, active = config.list_kube_config_contexts()  # type: ignore[no-untyped-call]
    except config.ConfigException as error:
        raise Unreachable(f"kubeconfig: {error}") from error
    chosen = next((each for each in contexts if each["name"] == context), None) if context else active
    if chosen is None:
        raise Unreachable(f"kubeconfig: there is no context {context!r}: see kubectl config get-contexts")
    return str(chosen["context"].get("namespace") or "default")


def _refused(status: int, data: bytes) -> Refused:
    try:
        said = msgspec.json.decode(data, type=Json)
    except msgspec.DecodeError:
        # A proxy in between, not the API server.
        return Refused(status, "", data[:200].decode("utf-8", "replace"))
    return Refused(status, str(said.get("reason", "")), str(said.get("message", "")))


async def list_all(cluster: Cluster, path: str, label_selector: str = "") -> list[Json]:
    """Every object of a collection, page by page. Raises Refused (410 where the list took too long) or Unreachable."""
    found: list[Json] = []
    query = {"limit": str(LIST_PAGE)}
    if label_selector:
        query["labelSelector"] = label_selector
    while True:
        page = await cluster.get(path, query)
        items = page.get("items")
        found.extend(item for item in items if isinstance(item, dict)) if isinstance(items, list) else None
        more = str(member(page, "metadata").get("continue") or "")
        if not more:
            return found
        query = {**query, "continue": more}


def member(parent: Mapping[str, object], name: str) -> Json:
    """The object in a field; empty where there is none."""
    value = parent.get(name)
    return value if isinstance(value, dict) else {}


def objects(parent: Mapping[str, object], name: str) -> list[Json]:
    """The objects of a list in a field; none where there is no list."""
    value = parent.get(name)
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []
