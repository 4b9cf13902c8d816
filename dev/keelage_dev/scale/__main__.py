"""`python -m keelage_dev.scale [--only NAME] [--seconds 60] [--sidecars 1000]`: one line of figures per scenario."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import resource
import signal
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import uvloop
from kubernetes.aio import client, config

from keelage_dev import cluster
from keelage_dev.scale import meter, sidecars, stage
from keelage_dev.scale.scenario import Scenario, many_budgets, one_budget, users
from keelage_operator.shell.cluster import KubernetesCluster, list_all

FILES_MAX = 65_536
"""A sidecar has two connections, a journal and a will."""
CALLS_PER_S = 0.5
"""Of each sidecar: a call of three seconds every two seconds, one or two in flight."""
USERS_SIDECARS = 20
USERS_CALLS_PER_S = 5.0
"""Each call is another user's, and most of them another account: what costs is to open and to close it."""
WARM_S = 30.0
API_S = 30.0
"""For one request: the API server is busy."""


@dataclass(frozen=True, slots=True)
class Line:
    title: str
    calls_per_s: float
    denied: int
    failed: Mapping[str, int]
    exchanges_per_s: float
    exchange: sidecars.Quantiles
    waited: float
    """Share of the calls that did not fit the lease at hand."""
    grant: sidecars.Quantiles
    used: meter.Used
    ledgers: int
    ledger_kib: float
    """Of the largest ledger object."""


HEAD = (
    "| scenario | calls/s | waited | grant p50 / p99 ms | exchanges/s | p50 / p99 ms | ledger writes/s | largest object"
    " KiB | written KiB/s | operator cores | RSS MiB | API server cores | etcd MiB | growth MiB/min |"
)


def row(line: Line) -> str:
    spent = line.used
    cells = (
        line.title,
        f"{line.calls_per_s:.0f}",
        f"{line.waited:.2%}",
        f"{line.grant.p50_ms:.0f} / {line.grant.p99_ms:.0f}",
        f"{line.exchanges_per_s:.0f}",
        f"{line.exchange.p50_ms:.0f} / {line.exchange.p99_ms:.0f}",
        f"{spent.ledger_writes_per_s:.1f}",
        f"{line.ledger_kib:.1f}",
        f"{spent.ledger_writes_per_s * line.ledger_kib:.0f}",
        f"{spent.operator_cores:.2f}",
        f"{spent.rss_mib:.0f}",
        f"{spent.api_server_cores:.2f}",
        f"{spent.etcd_mib:.0f}",
        f"{spent.etcd_growth_mib_per_min:.0f}",
    )
    return f"| {' | '.join(cells)} |"


@contextlib.asynccontextmanager
async def connected(here: cluster.Cluster) -> AsyncIterator[KubernetesCluster]:
    settings = client.Configuration()
    await config.load_kube_config(  # type: ignore[no-untyped-call]
        config_file=str(here.kubeconfig), client_configuration=settings
    )
    api = KubernetesCluster(client.ApiClient(configuration=settings), API_S)
    try:
        yield api
    finally:
        await api.close()


async def measure_all(here: cluster.Cluster, scenarios: Sequence[Scenario], seconds: float) -> list[Line]:
    async with connected(here) as api:
        with tempfile.TemporaryDirectory(prefix="keelage-scale-") as folder:
            try:
                return [await measure(api, here, scenario, seconds, Path(folder)) for scenario in scenarios]
            finally:
                await stage.undefine(api)


async def measure(
    api: KubernetesCluster, here: cluster.Cluster, scenario: Scenario, seconds: float, folder: Path
) -> Line:
    try:
        await stage.define(api)
        began_s = time.monotonic()
        pods = await stage.set_up(api, scenario)
        say(f"{scenario.title}: made in {time.monotonic() - began_s:.0f} s")
        with meter.operator(here, folder / f"operator-{scenario.name}.log") as leader:
            pid = leader.pid
            say(f"the operator leads with {meter.rss_mib(pid):.0f} MiB, after {meter.cpu_s(pid):.1f} s of CPU")
            async with asyncio.TaskGroup() as group:
                watching = group.create_task(leader.run_out())
                line = await _measured(api, scenario, pods, seconds, folder, pid)
                watching.cancel()
            leader.led_on()
        say(f"calls {line.calls_per_s:.0f}/s, denied {line.denied}, exchanges failed {dict(line.failed)}")
        return line
    finally:
        with contextlib.suppress(Exception):  # whatever went wrong before is what is to be told
            await stage.tear_down(api, scenario)


async def _measured(
    api: KubernetesCluster, scenario: Scenario, pods: tuple[stage.Pod, ...], seconds: float, folder: Path, pid: int
) -> Line:
    files = stage.write_tokens(folder / scenario.name, pods)
    ca_pem = await stage.authority(api)
    measures = sidecars.Measures()
    crowd = [
        sidecars.Sidecar(pod, file.parent, meter.URL, ca_pem, measures) for pod, file in zip(pods, files, strict=True)
    ]
    began_s = time.monotonic()
    async with sidecars.at_work(crowd, scenario, WARM_S):
        up_s = time.monotonic() - began_s - WARM_S
        say(f"all sidecars have a configuration after {up_s:.0f} s, {meter.cpu_s(pid):.0f} s of the operator's CPU")
        before = await asyncio.to_thread(meter.read, pid)
        measures.on = True
        await asyncio.sleep(seconds)
        measures.on = False
        after = await asyncio.to_thread(meter.read, pid)
    ledgers = [
        item
        for item in await list_all(api, "/apis/keelage.dev/v1alpha1/llmledgers")
        if str(item["metadata"]["namespace"]) in scenario.namespaces  # type: ignore[index]
    ]
    return Line(
        title=scenario.title,
        calls_per_s=measures.calls / seconds,
        denied=measures.denied,
        failed=measures.failed,
        exchanges_per_s=len(measures.exchange_s) / seconds,
        exchange=sidecars.Quantiles.of(measures.exchange_s),
        waited=measures.waited / max(1, measures.calls),
        grant=sidecars.Quantiles.of(measures.grant_s),
        used=meter.used(before, after),
        ledgers=len(ledgers),
        ledger_kib=max((len(json.dumps(item, separators=(",", ":"))) for item in ledgers), default=0) / 1024,
    )


def run(measured: Coroutine[None, None, list[Line]]) -> list[Line]:
    """On the loop that sidecars run on."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(measured)


def say(text: str) -> None:
    print(f"scale: {text}", flush=True)


def without_operator(here: cluster.Cluster) -> None:
    """What another test has installed would lead instead of ours."""
    words = [str(here.bin_dir / "helm"), f"--kubeconfig={here.kubeconfig}", "uninstall", "keelage"]
    subprocess.run([*words, "-n", "keelage-system", "--wait", "--ignore-not-found"], check=True, capture_output=True)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m keelage_dev.scale", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0, help="measured, after the start")
    parser.add_argument("--sidecars", type=int, default=1000)
    parser.add_argument("--only", choices=("one", "many", "users"))
    options = parser.parse_args()
    # As by Ctrl-C: the operator is to end with us.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(FILES_MAX, hard), hard))
    scenarios = (
        one_budget(options.sidecars, CALLS_PER_S),
        many_budgets(options.sidecars, 20, CALLS_PER_S),
        users(USERS_SIDECARS, 10 * options.sidecars, USERS_CALLS_PER_S),
    )
    here = cluster.up(say)
    without_operator(here)
    wanted = [scenario for scenario in scenarios if options.only in (None, scenario.name)]
    lines = run(measure_all(here, wanted, options.seconds))
    columns = HEAD.count("|") - 1
    print("\n".join((HEAD, "|" + "---|" * columns, *(row(line) for line in lines))), flush=True)


if __name__ == "__main__":
    main()
