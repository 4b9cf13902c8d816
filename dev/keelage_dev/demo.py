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
import textwrap
import time
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
MANIFESTS = ROOT / "dev" / "demo"
NAMESPACE = "keelage-system"
WAIT_S = 240
REPLICAS = 3
PROGRAMS = ("anthropic", "openai")
LIMIT = Decimal("0.10")  # of dev/demo/shop.yaml


class DemoFailed(Exception):
    """A step did not reach what it waits for; the text says which and what to look at."""


@dataclass(frozen=True, slots=True)
class Kube:
    """kubectl and helm against one cluster."""

    kubectl: tuple[str, ...]
    helm: tuple[str, ...]
    tags: tuple[tuple[str, str], ...] = ()  # of the images by name; none: the cluster has them as `dev`

    def tag(self, image: str) -> str:
        return dict(self.tags).get(image, "dev")

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
                    f"waited {seconds:.0f} s for {what}; look at: kubectl get pods -A;"
                    f" kubectl -n {NAMESPACE} logs -l app.kubernetes.io/name=keelage"
                )
            if now - said > 10:
                said = now
                print(f"  … {what} ({now - started:.0f} s)", flush=True)
            time.sleep(0.5)


def indent(text: str) -> str:
    return "\n".join(f"  {line}" for line in text.rstrip().splitlines())


def step(text: str) -> None:
    print(f"\n== {text}", flush=True)


def detail(text: str) -> None:
    print(f"  {text}", flush=True)


def connect() -> Kube:
    """The cluster to show it on: the one that the environment names, else one of our own."""
    context = os.environ.get("KEELAGE_CONTEXT")
    if context:
        return Kube(("kubectl", "--context", context), ("helm", "--kube-context", context))
    from keelage_dev import cluster, images

    step("A Kubernetes cluster on this machine (the first time it is built from source)")
    here = cluster.up(detail)
    step("The images, from their Dockerfiles")
    loaded = images.load(detail)
    config = f"--kubeconfig={here.kubeconfig}"
    tags = tuple((name, reference.rpartition(":")[2]) for name, reference in loaded.items())
    return Kube((str(here.bin_dir / "kubectl"), config), (str(here.bin_dir / "helm"), config), tags)


def install(kube: Kube) -> None:
    step("The operator, from its chart")
    command = ["upgrade", "--install", "keelage", "charts/keelage", "--namespace", NAMESPACE, "--create-namespace"]
    command += ["--set", f"image.operator.tag={kube.tag('keelage/operator')}"]
    command += ["--set", f"image.sidecar.tag={kube.tag('keelage/sidecar')}", "--wait", "--timeout", "4m"]
    print(f"$ helm {' '.join(command)}", flush=True)
    done = subprocess.run([*kube.helm, *command], capture_output=True, text=True, check=False, cwd=ROOT)
    if done.returncode != 0:
        raise DemoFailed(f"helm: {done.stderr.strip()}")
    kube.show("get", "pods", "-n", NAMESPACE, "-l", "app.kubernetes.io/component=operator")


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
    """The lines in which the applications tell of the exception that their SDK raised, one for each program."""
    return [line for line in output(kube) if "was refused" in line]


def answers(kube: Kube) -> list[str]:
    """What the first replica's programs print of their first call."""
    first = [line for line in output(kube) if ": call 1: " in line]
    pod = min((line.partition(" ")[0] for line in first), default="")
    return [line for line in first if line.startswith(pod)]


def output(kube: Kube) -> list[str]:
    """All that the applications have printed, sorted by program and pod."""
    told = []
    for program in PROGRAMS:
        text = kube.run(
            "logs", "-n", "shop", "-l", "app=assistant", "-c", program, "--tail=-1", "--ignore-errors", quiet=True
        )
        told += text.splitlines()
    return sorted(told)


def ready(kube: Kube, namespace: str, deployment: str, replicas: int) -> bool:
    """Whether that many are ready. A name that is already gone or not there yet is not."""
    path = "-o=jsonpath={.status.readyReplicas}"
    return kube.run("get", "deploy", deployment, "-n", namespace, path, quiet=True) == str(replicas)


def show(kube: Kube) -> None:
    step("A provider that writes its own bill; a namespace with a key, a route and a budget")
    kube.run("delete", "namespace", "shop", "provider", "--ignore-not-found", "--wait=true", quiet=True)
    kube.run("apply", "-f", str(MANIFESTS / "provider.yaml"))
    kube.run("apply", "-f", str(MANIFESTS / "shop.yaml"))
    kube.until("the provider", lambda: ready(kube, "provider", "provider", 1))

    step(f"{REPLICAS} replicas of two ordinary programs, one on the anthropic SDK, one on the openai SDK")
    kube.run("apply", "-f", str(MANIFESTS / "assistant.yaml"))
    kube.until("the injected replicas", lambda: ready(kube, "shop", "assistant", REPLICAS))
    columns = "POD:.metadata.name,SIDECAR:.spec.initContainers[*].name,PROGRAMS:.spec.containers[*].name"
    kube.show("get", "pods", "-n", "shop", "-o", f"custom-columns={columns}")

    step("They talk until the budget is used up")
    kube.until("money to be spent", lambda: str(budget(kube).get("spent", "0.00")) not in ("", "0.00"))
    kube.until("an answer in each program", lambda: len(answers(kube)) == len(PROGRAMS))
    print("\n".join(f"  {line}" for line in answers(kube)))
    kube.show("get", "llmroute,llmbudget", "-n", "shop")
    kube.until("every program to be refused", lambda: len(refusals(kube)) >= REPLICAS * len(PROGRAMS))
    print("All six are refused now; the first replica's programs print:")
    for line in refusals(kube)[: len(PROGRAMS)]:
        print(textwrap.fill(line, 110, initial_indent="  ", subsequent_indent="      "))

    step("The provider's bill beside the budget's status")
    kube.until("the last settlements to be reported", lambda: settled(kube), seconds=60)
    kube.show("get", "llmroute,llmbudget", "-n", "shop")
    owed, status = bill(kube), budget(kube)
    print(f"  the provider's bill  {owed['usd']} USD for {owed['calls']} calls")
    print(f"  the budget's status  {spent(status)} USD of {status['limit']} spent, {status['leased']} leased")
    if Decimal(str(owed["usd"])) > LIMIT:
        raise DemoFailed(f"the provider's bill {owed['usd']} USD is above the limit of {LIMIT} USD")
    print("  They agree, and neither is above the limit: three replicas, two SDKs, no hop between them.")


def spent(status: dict[str, object]) -> Decimal:
    """Exact: the text in the status is rounded up to a millionth."""
    figures = status.get("amounts")
    return (Decimal(str(figures["spent"])) / 10**12).normalize() if isinstance(figures, dict) else Decimal(0)


def settled(kube: Kube) -> bool:
    """Nothing is reserved or in flight any more: the figures are final."""
    status = budget(kube)
    return status.get("reserved") == "0.00" and spent(status) == Decimal(str(bill(kube)["usd"]))


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
