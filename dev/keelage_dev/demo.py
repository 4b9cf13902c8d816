"""The main job, shown on a real cluster: `make demo`.

Brings up a cluster (or takes the one that KEELAGE_CONTEXT names), builds and loads the
images, installs the chart, lets two ordinary programs talk until the budget is used up,
and puts the provider's own bill beside the budget's status.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
MANIFESTS = ROOT / "dev" / "demo"
NAMESPACE = "keelage-system"
WAIT_S = 240


class DemoFailed(Exception):
    """A step did not reach what it waits for; the text says which and what to look at."""


@dataclass(frozen=True, slots=True)
class Kube:
    """kubectl and helm against one cluster."""

    kubectl: tuple[str, ...]
    helm: tuple[str, ...]

    def run(self, *words: str, quiet: bool = False) -> str:
        """Run kubectl; its output, or DemoFailed with what it said."""
        done = subprocess.run([*self.kubectl, *words], capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise DemoFailed(f"kubectl {' '.join(words)}: {done.stderr.strip()}")
        if not quiet:
            print(indent(done.stdout))
        return done.stdout

    def show(self, *words: str) -> None:
        """Run kubectl as the reader would: the command, then what it prints."""
        print(f"$ kubectl {' '.join(words)}")
        self.run(*words)

    def until(self, what: str, found: Callable[[], bool], seconds: float = WAIT_S) -> None:
        """Wait for a condition and say each ten seconds what is awaited."""
        started = said = time.monotonic()
        while not found():
            now = time.monotonic()
            if now - started > seconds:
                raise DemoFailed(
                    f"waited {seconds:.0f} s for {what}; look at: kubectl get pods -A; kubectl -n {NAMESPACE} logs -l app.kubernetes.io/name=keelage"
                )
            if now - said > 10:
                said = now
                print(f"  … {what} ({now - started:.0f} s)", flush=True)
            time.sleep(0.5)


def indent(text: str) -> str:
    return "\n".join(f"  {line}" for line in text.rstrip().splitlines())


def step(text: str) -> None:
    print(f"\n== {text}", flush=True)


def connect() -> Kube:
    """The cluster to show it on: the one that the environment names, else one of our own."""
    context = os.environ.get("KEELAGE_CONTEXT")
    if context:
        return Kube(("kubectl", "--context", context), ("helm", "--kube-context", context))
    from keelage_dev import cluster, images

    step("A Kubernetes cluster on this machine (the first time it is built from source)")
    here = cluster.up(lambda text: print(f"  {text}", flush=True))
    step("The images, from their Dockerfiles")
    images.load(lambda text: print(f"  {text}", flush=True))
    config = f"--kubeconfig={here.kubeconfig}"
    return Kube((str(here.bin_dir / "kubectl"), config), (str(here.bin_dir / "helm"), config))


def install(kube: Kube) -> None:
    step("helm install keelage")
    command = [
        *kube.helm, "upgrade", "--install", "keelage", str(ROOT / "charts" / "keelage"),
        "--namespace", NAMESPACE, "--create-namespace", "--wait", "--timeout", "4m",
        "--set", "image.operator.repository=keelage/operator", "--set", "image.sidecar.repository=keelage/sidecar",
        "--set", "image.operator.tag=dev", "--set", "image.sidecar.tag=dev", "--set", "image.pullPolicy=IfNotPresent",
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    print(indent(done.stdout))
    if done.returncode != 0:
        raise DemoFailed(f"helm: {done.stderr.strip()}")


def bill(kube: Kube) -> dict[str, object]:
    """What the provider itself says it is owed."""
    text = kube.run("get", "--raw", "/api/v1/namespaces/provider/services/provider:80/proxy/fake/bill", quiet=True)
    answer: dict[str, object] = json.loads(text)
    return answer


def budget(kube: Kube) -> dict[str, object]:
    text = kube.run("get", "llmbudget", "shop-month", "-n", "shop", "-o", "json", quiet=True)
    status: dict[str, object] = json.loads(text).get("status", {})
    return status


def refusals(kube: Kube) -> list[str]:
    """The lines in which the applications tell of the exception that their SDK raised."""
    text = kube.run(
        "logs", "-n", "shop", "-l", "app=assistant", "--all-containers", "--tail=200", "--ignore-errors", quiet=True
    )
    return [line for line in text.splitlines() if "RateLimitError" in line]


def show(kube: Kube) -> None:
    step("A provider that writes its own bill, and the budget's namespace")
    kube.run("delete", "namespace", "shop", "provider", "--ignore-not-found", "--wait=true", quiet=True)
    kube.run("apply", "-f", str(MANIFESTS / "provider.yaml"))
    kube.until(
        "the provider",
        lambda: (
            "1"
            in kube.run(
                "get", "deploy", "provider", "-n", "provider", "-o", "jsonpath={.status.readyReplicas}", quiet=True
            )
        ),
    )
    kube.run("apply", "-f", str(MANIFESTS / "shop.yaml"))

    step("Three replicas of two ordinary programs (anthropic and openai SDK)")
    kube.run("apply", "-f", str(MANIFESTS / "assistant.yaml"))
    kube.until(
        "three injected replicas",
        lambda: (
            kube.run("get", "deploy", "assistant", "-n", "shop", "-o", "jsonpath={.status.readyReplicas}", quiet=True)
            == "3"
        ),
    )
    kube.show("get", "pods", "-n", "shop")
    columns = "POD:.metadata.name,SIDECAR:.spec.initContainers[*].name,APPLICATIONS:.spec.containers[*].name"
    kube.show("get", "pods", "-n", "shop", "-o", f"custom-columns={columns}")

    step("They talk until the budget is used up")
    kube.until("money to be spent", lambda: str(budget(kube).get("spent", "0.00")) not in ("", "0.00"))
    kube.show("get", "llmroute,llmbudget", "-n", "shop")
    kube.until("every program to be refused", lambda: len(refusals(kube)) >= 6)
    print("  what the applications printed:")
    print(
        indent(
            kube.run(
                "logs",
                "-n",
                "shop",
                "-l",
                "app=assistant",
                "--all-containers",
                "--tail=3",
                "--ignore-errors",
                quiet=True,
            )
        )
    )

    step("The provider's bill beside the budget's status")
    kube.until("the last settlements to be reported", lambda: settled(kube), seconds=60)
    kube.show("get", "llmroute,llmbudget", "-n", "shop")
    owed, status = bill(kube), budget(kube)
    print(f"  provider's bill   {owed['usd']} USD for {owed['calls']} calls")
    print(
        f"  budget's status   {status['spent']} USD of {status['limit']}, {status['leased']} leased, {status['forfeited']} forfeited"
    )
    if float(str(owed["usd"])) > 0.10:
        raise DemoFailed(f"the provider's bill {owed['usd']} is above the limit of 0.10 USD")
    print("  The bill is not above the limit, over three replicas and two SDKs, with no hop per request.")


def settled(kube: Kube) -> bool:
    """Nothing is reserved or in flight any more: the figures are final."""
    status = budget(kube)
    return (
        str(status.get("reserved", "")) in ("0.00", "0")
        and abs(float(str(status["spent"])) - float(str(bill(kube)["usd"]))) < 2e-6
    )


def take_down() -> None:
    context = os.environ.get("KEELAGE_CONTEXT")
    if not context:
        from keelage_dev import cluster

        cluster.down()
        return
    kube = connect()
    kube.run("delete", "namespace", "shop", "provider", "--ignore-not-found")
    subprocess.run([*kube.helm, "uninstall", "keelage", "--namespace", NAMESPACE, "--wait"], check=False)
    kube.run(
        "delete",
        "crd",
        "llmroutes.keelage.dev",
        "llmbudgets.keelage.dev",
        "llmledgers.keelage.dev",
        "--ignore-not-found",
    )
    kube.run("delete", "namespace", NAMESPACE, "--ignore-not-found")


def main(words: list[str]) -> int:
    if words == ["--down"]:
        take_down()
        return 0
    started = time.monotonic()
    try:
        kube = connect()
        install(kube)
        show(kube)
    except DemoFailed as failure:
        print(f"\nThe demo stopped: {failure}", file=sys.stderr)
        return 1
    print(f"\nDone in {time.monotonic() - started:.0f} s. `make demo-down` takes everything away.")
    if not os.environ.get("KEELAGE_CONTEXT"):
        print(f"Look around with:\n  {' '.join(kube.kubectl)} get llmroute,llmbudget -A")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
