"""What a run finds in the API server: definitions, namespaces, routes, budgets, and pods that no node runs."""

from __future__ import annotations

import asyncio
import base64
import contextlib
from collections.abc import Awaitable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import yaml

from keelage_dev.cluster.layout import REPOSITORY
from keelage_dev.scale.scenario import Scenario
from keelage_operator.core.inject import INJECTED_LABEL
from keelage_operator.core.sidecar_template import TOKEN_AUDIENCE
from keelage_operator.shell.cluster import Cluster, Json, PatchKind, Refused, member

T = TypeVar("T")
AT_ONCE = 16
TOKEN_SECONDS = 7200
SYSTEM = "keelage-scale"
"""Of the operator's own objects."""
SCENARIO_LABEL = "keelage.dev/scale"
NOBODY = "nobody"
"""The scheduler of the pods: they exist, have tokens, and never run."""
DEFINITIONS = ("llmbudget.yaml", "llmledger.yaml", "llmroute.yaml")
WAIT_S = 60.0


@dataclass(frozen=True, slots=True)
class Pod:
    namespace: str
    name: str
    budget: str
    """`<namespace>/<budget>`."""
    token: str


async def define(cluster: Cluster) -> None:
    """The CRDs of this checkout, and the operator's namespace."""
    crds = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
    for name in DEFINITIONS:
        body: Json = yaml.safe_load((REPOSITORY / "crds" / name).read_text("utf-8"))
        plural = str(member(body, "metadata")["name"])
        # Over those of an installed chart: they may be of an earlier checkout.
        query = {"fieldManager": "keelage-scale", "force": "true"}
        await cluster.patch(f"{crds}/{plural}", body, PatchKind.APPLY, query)
        await _until_served(cluster, f"/apis/keelage.dev/v1alpha1/{plural.partition('.')[0]}")
    await _make(cluster, "/api/v1/namespaces", _namespace(SYSTEM, {}))


async def undefine(cluster: Cluster) -> None:
    """Without the CRDs: Helm would not take over those that it has not made."""
    crds = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
    for name in DEFINITIONS:
        with contextlib.suppress(Refused):  # it was never made
            await cluster.delete(f"{crds}/{name.partition('.')[0]}s.keelage.dev")


async def _until_served(cluster: Cluster, path: str) -> None:
    async with asyncio.timeout(WAIT_S):
        while True:
            try:
                await cluster.get(path)
            except Refused:
                await asyncio.sleep(0.2)
            else:
                return


async def set_up(cluster: Cluster, scenario: Scenario) -> tuple[Pod, ...]:
    """Make the scenario's objects; its pods with their tokens."""
    for namespace in scenario.namespaces:
        await _make(cluster, "/api/v1/namespaces", _namespace(namespace, {SCENARIO_LABEL: scenario.name}))
    await _each(_account(cluster, namespace) for namespace in scenario.namespaces)
    api = "/apis/keelage.dev/v1alpha1/namespaces"
    await _each(_make(cluster, f"{api}/{name}/llmroutes", _route(name)) for name in scenario.namespaces)
    await _each(
        _make(cluster, f"{api}/{budget.namespace}/llmbudgets", budget.manifest()) for budget in scenario.budgets
    )
    return tuple(
        await _each(
            _pod(cluster, budget.namespace, f"{budget.name}-{number}", budget.name)
            for budget in scenario.budgets
            for number in range(scenario.sidecars // len(scenario.budgets))
        )
    )


async def tear_down(cluster: Cluster, scenario: Scenario) -> None:
    """Ask for the end of its namespaces; the controllers take everything in them along."""
    await _each(cluster.delete(f"/api/v1/namespaces/{name}") for name in scenario.namespaces)


async def authority(cluster: Cluster) -> str:
    """The certificates that the operator's serving certificate is signed by, PEM."""
    found = await cluster.get(f"/api/v1/namespaces/{SYSTEM}/secrets/keelage-authority")
    data = member(found, "data")
    pems = [base64.b64decode(str(value)).decode() for name, value in sorted(data.items()) if name.endswith(".crt")]
    return "".join(pems)


async def _each(tasks: Iterable[Awaitable[T]]) -> Sequence[T]:
    slots = asyncio.Semaphore(AT_ONCE)

    async def one(task: Awaitable[T]) -> T:
        async with slots:
            return await task

    return await asyncio.gather(*(one(task) for task in tasks))


async def _make(cluster: Cluster, collection: str, body: Json) -> None:
    try:
        await cluster.create(collection, body)
    except Refused as error:
        if not error.conflict:
            raise


async def _account(cluster: Cluster, namespace: str) -> None:
    await _until_served(cluster, f"/api/v1/namespaces/{namespace}/serviceaccounts/default")


async def _pod(cluster: Cluster, namespace: str, name: str, budget: str) -> Pod:
    pods = f"/api/v1/namespaces/{namespace}/pods"
    made = await cluster.create(
        pods,
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name, "labels": {INJECTED_LABEL: "true", "budget": budget}},
            "spec": {
                "schedulerName": NOBODY,
                "containers": [{"name": "app", "image": "keelage/demo:dev", "imagePullPolicy": "Never"}],
            },
        },
    )
    uid = str(member(made, "metadata")["uid"])
    bound: Json = {"kind": "Pod", "apiVersion": "v1", "name": name, "uid": uid}
    answer = await cluster.create(
        f"/api/v1/namespaces/{namespace}/serviceaccounts/default/token",
        {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenRequest",
            "spec": {"audiences": [TOKEN_AUDIENCE], "expirationSeconds": TOKEN_SECONDS, "boundObjectRef": bound},
        },
    )
    return Pod(namespace, name, f"{namespace}/{budget}", str(member(answer, "status")["token"]))


def _namespace(name: str, labels: dict[str, object]) -> Json:
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}


def _route(namespace: str) -> Json:
    key = {"secretKeyRef": {"name": "llm-keys", "key": "anthropic"}}
    backend = {
        "name": "anthropic",
        "provider": "Anthropic",
        "endpoint": "https://api.anthropic.com",
        "credentials": key,
    }
    tier = {"name": "fast", "models": [{"backend": "anthropic", "model": "claude-haiku-4-5"}]}
    return {
        "apiVersion": "keelage.dev/v1alpha1",
        "kind": "LLMRoute",
        "metadata": {"name": "assistant", "namespace": namespace},
        "spec": {
            "backends": [backend],
            "tiers": [tier],
            "rules": [{"name": "all", "select": [{"tier": "fast"}]}],
        },
    }


def write_tokens(folder: Path, pods: Sequence[Pod]) -> tuple[Path, ...]:
    """One file per pod, as the kubelet would."""
    files = []
    for pod in pods:
        home = folder / pod.namespace / pod.name
        home.mkdir(parents=True)
        files.append(home / "token")
        files[-1].write_text(pod.token, "utf-8")
    return tuple(files)
