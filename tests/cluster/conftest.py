"""One cluster and one installation for all tests of this folder; a namespace for each."""

from __future__ import annotations

import fcntl
import os
import uuid
from collections.abc import Generator, Iterator
from typing import Any

import pytest
from tests.cluster.kube import PROVIDER, ROOT, SYSTEM, Kube, KubectlFailed, Space

from keelage_dev import cluster, images


@pytest.fixture(scope="session")
def kube() -> Iterator[Kube]:
    """The development cluster with the images of this checkout, for one run of the tests at a time."""
    here = cluster.up(print)
    with (here.dir / "tests.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        tags = {name: reference.rpartition(":")[2] for name, reference in images.load(print).items()}
        yield Kube(str(here.kubeconfig), here.bin_dir, tags)


def install(kube: Kube, *words: str) -> None:
    """Install or upgrade; returns when every replica is of this release and ready, none is older, and one leads.

    After an uninstall the lease runs out first: the permission to give it back went with the release.
    """
    kube.helm(
        "upgrade", "--install", "keelage", str(ROOT / "charts" / "keelage"), "--namespace", SYSTEM,
        "--create-namespace", "--wait", "--timeout", "4m",
        "--set", f"image.operator.tag={kube.tags['keelage/operator']}",
        "--set", f"image.sidecar.tag={kube.tags['keelage/sidecar']}", *words,
    )  # fmt: skip
    kube.until("the former replicas to be gone", lambda: len(operators(kube)) == 2, 90)
    kube.until("one of them to lead", lambda: leader(kube) in operators(kube), 60)


def leader(kube: Kube) -> str:
    """Name of the pod that holds the lease; empty: nobody does."""
    lease = kube.json("-n", SYSTEM, "get", "lease", "keelage-leader")
    return str(lease["spec"].get("holderIdentity", "")).partition("_")[0]


def uninstall(kube: Kube) -> None:
    """Returns when no replica is left that could still answer."""
    kube.helm("uninstall", "keelage", "--namespace", SYSTEM, "--wait")
    kube.until("the replicas to be gone", lambda: not operators(kube), 90)


def operators(kube: Kube) -> list[str]:
    """Pods of the operator, those that are ending included."""
    found = kube.json("-n", SYSTEM, "get", "pods", "-l", "app.kubernetes.io/component=operator")["items"]
    return [pod["metadata"]["name"] for pod in found]


@pytest.fixture(scope="session")
def installed(kube: Kube) -> Kube:
    install(kube)
    return kube


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Generator[None, Any, None]:
    outcome = yield
    report = outcome.get_result()
    if report.when == "call":
        for node in item.listchain():
            node.stash[FAILED] = node.stash.get(FAILED, False) or report.failed


FAILED = pytest.StashKey[bool]()
"""Of a test, and of each folder and module that a failed test is in."""


@pytest.fixture
def space(installed: Kube, request: pytest.FixtureRequest) -> Iterator[Space]:
    """A fresh namespace for one test."""
    yield from fresh(installed, request.node)


@pytest.fixture(scope="module")
def shop(installed: Kube, request: pytest.FixtureRequest) -> Iterator[Space]:
    """A fresh namespace for the tests of one module, which take it as those before left it."""
    yield from fresh(installed, request.node)


def fresh(installed: Kube, node: pytest.Item | pytest.Collector) -> Iterator[Space]:
    """A namespace with a provider; its logs and the operator's are printed when a test that used it has failed."""
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
    if node.stash.get(FAILED, True):
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
    for pod in pods[:4]:
        try:
            print(f"--- logs of {pod}\n{space.kubectl('logs', pod, '--all-containers', '--tail=12', '--prefix')}")
        except KubectlFailed as failure:
            print(f"--- {failure}")
