"""One cluster and one installation for all tests of this folder; a namespace for each."""

from __future__ import annotations

import os
import uuid
from collections.abc import Generator, Iterator
from typing import Any

import pytest
from tests.cluster.kube import PROVIDER, ROOT, SYSTEM, Kube, KubectlFailed, Space

from keelage_dev import cluster, images


@pytest.fixture(scope="session")
def kube() -> Kube:
    """The development cluster with the images of this checkout."""
    here = cluster.up(print)
    images.load(print)
    return Kube(str(here.kubeconfig), here.bin_dir)


def install(kube: Kube, *words: str) -> None:
    kube.helm(
        "upgrade", "--install", "keelage", str(ROOT / "charts" / "keelage"), "--namespace", SYSTEM,
        "--create-namespace", "--wait", "--timeout", "4m",
        "--set", "image.operator.repository=keelage/operator,image.operator.tag=dev",
        "--set", "image.sidecar.repository=keelage/sidecar,image.sidecar.tag=dev",
        "--set", "image.pullPolicy=IfNotPresent", *words,
    )  # fmt: skip


@pytest.fixture(scope="session")
def installed(kube: Kube) -> Kube:
    install(kube)
    return kube


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Generator[None, Any, None]:
    outcome = yield
    report = outcome.get_result()
    if report.when == "call":
        item.stash[FAILED] = report.failed


FAILED = pytest.StashKey[bool]()


@pytest.fixture
def space(installed: Kube, request: pytest.FixtureRequest) -> Iterator[Space]:
    """A fresh namespace; its logs and the operator's are printed when the test fails."""
    name = f"t-{uuid.uuid4().hex[:8]}"
    installed.apply(
        f"apiVersion: v1\nkind: Namespace\nmetadata: {{name: {name}, labels: {{keelage.dev/inject: 'true'}}}}\n"
    )
    here = Space(installed, name)
    installed.until("the namespace's service account", lambda: here.json("get", "serviceaccount", "default"))
    here.apply(PROVIDER)
    installed.until(
        "the provider",
        lambda: here.json("get", "pod", "provider")["status"].get("containerStatuses", [{}])[0].get("ready"),
    )
    yield here
    if request.node.stash.get(FAILED, True):
        print_logs(here)
    if not os.environ.get("KEEP_NAMESPACES"):
        installed.kubectl("delete", "namespace", name, "--wait=false")


def print_logs(space: Space) -> None:
    """What a person would look at first."""
    for words in (
        ("-n", SYSTEM, "logs", "-l", "app.kubernetes.io/name=keelage", "--tail=80", "--prefix"),
        ("-n", SYSTEM, "get", "pods", "-o", "wide"),
        ("-n", space.name, "get", "pods,llmroute,llmbudget", "-o", "wide"),
        ("-n", space.name, "get", "llmroute,llmbudget,llmledger", "-o", "yaml"),
        ("-n", space.name, "get", "events", "--sort-by=.lastTimestamp"),
    ):
        try:
            print(f"--- kubectl {' '.join(words)}\n{space.kube.kubectl(*words)}")
        except KubectlFailed as failure:
            print(f"--- {failure}")
    try:
        pods = [pod["metadata"]["name"] for pod in space.json("get", "pods")["items"]]
    except KubectlFailed:
        pods = []
    for pod in pods[:6]:
        try:
            print(f"--- logs of {pod}\n{space.kubectl('logs', pod, '--all-containers', '--tail=40', '--prefix')}")
        except KubectlFailed as failure:
            print(f"--- {failure}")
