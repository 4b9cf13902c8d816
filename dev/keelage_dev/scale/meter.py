"""The operator as a process of its own, and what it, the API server and etcd used up."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Never

from keelage_dev.cluster import Cluster
from keelage_dev.cluster.layout import ETCD_CLIENT_PORT, HOST_IP, layout
from keelage_dev.cluster.processes import running
from keelage_dev.scale.stage import SYSTEM

HTTPS_PORT = 18443
HEALTH_PORT = 18080
URL = f"https://{HOST_IP}:{HTTPS_PORT}"
TICKS_PER_S = os.sysconf("SC_CLK_TCK")
LEADS_S = 60.0
ENDS_S = 20.0


class OperatorFailed(Exception):
    """It ended, or does not lead; the text is the end of its log."""


@dataclass(frozen=True, slots=True)
class Reading:
    """Sums since the processes began."""

    at_s: float
    operator_cpu_s: float
    api_server_cpu_s: float
    etcd_cpu_s: float
    ledger_writes: float
    ledger_conflicts: float
    status_writes: float
    rss_mib: float
    etcd_mib: float
    """Size of its file."""


@dataclass(frozen=True, slots=True)
class Used:
    """Between two readings."""

    operator_cores: float
    api_server_cores: float
    etcd_cores: float
    ledger_writes_per_s: float
    ledger_conflicts: int
    status_writes_per_s: float
    rss_mib: float
    etcd_mib: float
    etcd_growth_mib_per_min: float


def used(before: Reading, after: Reading) -> Used:
    seconds = after.at_s - before.at_s
    return Used(
        operator_cores=(after.operator_cpu_s - before.operator_cpu_s) / seconds,
        api_server_cores=(after.api_server_cpu_s - before.api_server_cpu_s) / seconds,
        etcd_cores=(after.etcd_cpu_s - before.etcd_cpu_s) / seconds,
        ledger_writes_per_s=(after.ledger_writes - before.ledger_writes) / seconds,
        ledger_conflicts=int(after.ledger_conflicts - before.ledger_conflicts),
        status_writes_per_s=(after.status_writes - before.status_writes) / seconds,
        rss_mib=after.rss_mib,
        etcd_mib=after.etcd_mib,
        etcd_growth_mib_per_min=(after.etcd_mib - before.etcd_mib) * 60 / seconds,
    )


def read(pid: int) -> Reading:
    """`pid`: of the operator."""
    told = _metrics(f"http://127.0.0.1:{HEALTH_PORT}/metrics")
    stored = _metrics(f"http://127.0.0.1:{ETCD_CLIENT_PORT}/metrics")
    return Reading(
        at_s=time.monotonic(),
        operator_cpu_s=cpu_s(pid),
        api_server_cpu_s=_component_cpu_s("kube-apiserver"),
        etcd_cpu_s=_component_cpu_s("etcd"),
        ledger_writes=told.get("keelage_ledger_writes_total", 0.0),
        ledger_conflicts=told.get("keelage_ledger_conflicts_total", 0.0),
        status_writes=told.get("keelage_status_writes_total", 0.0),
        rss_mib=rss_mib(pid),
        etcd_mib=stored.get("etcd_mvcc_db_total_size_in_bytes", 0.0) / 2**20,
    )


def cpu_s(pid: int) -> float:
    """User and system time of a process, from /proc/PID/stat (proc(5): fields 14 and 15)."""
    fields = Path(f"/proc/{pid}/stat").read_text("utf-8").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS_PER_S


def rss_mib(pid: int) -> float:
    found = re.search(r"^VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text("utf-8"), re.MULTILINE)
    return int(found.group(1)) / 1024 if found else 0.0


def _component_cpu_s(name: str) -> float:
    process = running(layout(), name)
    return cpu_s(process.pid) if process is not None else 0.0


def _metrics(url: str) -> dict[str, float]:
    """Samples without labels, by name."""
    with urllib.request.urlopen(url, timeout=30) as answer:
        text: str = answer.read().decode()
    return {
        name: float(value)
        for name, value in (line.split(" ")[:2] for line in text.splitlines() if line and not line.startswith("#"))
        if "{" not in name
    }


@dataclass(frozen=True, slots=True)
class Operator:
    process: subprocess.Popen[bytes]
    log: Path

    @property
    def pid(self) -> int:
        return self.process.pid

    async def run_out(self) -> Never:
        """Raises OperatorFailed when it has ended: what is measured without it is nothing."""
        await asyncio.to_thread(self.process.wait)
        raise OperatorFailed(self._told()[-2000:])

    def led_on(self) -> None:
        """Raises OperatorFailed if it did not lead all the time: it may have begun anew in the same process."""
        if "leadership ended" in self._told():
            raise OperatorFailed(self._told()[-2000:])

    def _told(self) -> str:
        return self.log.read_text("utf-8", "replace")


@contextlib.contextmanager
def operator(here: Cluster, log: Path) -> Iterator[Operator]:
    """One that leads; ended at the end."""
    environment = os.environ | {
        "KUBECONFIG": str(here.kubeconfig),
        "POD_NAME": "operator",
        "POD_IP": HOST_IP,
        "POD_NAMESPACE": SYSTEM,
        "KEELAGE_SIDECAR_IMAGE": "keelage/sidecar:dev",
        "KEELAGE_HTTPS_PORT": str(HTTPS_PORT),
        "KEELAGE_HEALTH_PORT": str(HEALTH_PORT),
        "KEELAGE_LOG_LEVEL": "warning",
    }
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "keelage_operator"], stdout=output, stderr=output, env=environment
        )
        try:
            _until_it_leads(process, log)
            yield Operator(process, log)
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(ENDS_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _until_it_leads(process: subprocess.Popen[bytes], log: Path) -> None:
    deadline_s = time.monotonic() + LEADS_S
    while time.monotonic() < deadline_s:
        if process.poll() is not None:
            break
        with contextlib.suppress(OSError):  # it does not listen yet
            if _metrics(f"http://127.0.0.1:{HEALTH_PORT}/metrics").get("keelage_leader") == 1.0:
                return
        time.sleep(0.2)
    raise OperatorFailed(log.read_text("utf-8", "replace")[-2000:])
