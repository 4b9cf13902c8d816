"""The cluster's processes as this machine knows them: started, found again, signalled.

A process is remembered by its id and its start time: an id alone may meanwhile
belong to somebody else.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from keelage_dev.cluster.components import Component
from keelage_dev.cluster.errors import ClusterError
from keelage_dev.cluster.layout import Layout

LONG_RUNNING = frozenset(
    {
        "etcd",
        "kube-apiserver",
        "kube-controller-manager",
        "kube-scheduler",
        "containerd",
        "containerd-shim-runc-v2",
        "kubelet",
        "kube-proxy",
        "coredns",
    }
)
STOP_GRACE_S = 8.0  # between SIGTERM and SIGKILL; etcd and the API server need one or two


@dataclass(frozen=True, slots=True)
class Process:
    """A process that ran when it was looked at. `started` is in clock ticks since the machine's start."""

    pid: int
    started: int


def parse_stat(text: str) -> tuple[int, int, bool]:
    """Parent's id, start time and whether it has ended, from /proc/PID/stat.

    The name in brackets may itself hold blanks and brackets: count from the last one (proc(5)). A zombie with further
    threads has not ended: they are being killed, and hold its sockets.
    """
    fields = text[text.rindex(")") + 2 :].split()
    return int(fields[1]), int(fields[19]), fields[0] in "ZX" and int(fields[17]) <= 1


def look(pid: int) -> Process | None:
    """The process of this id, unless it has ended."""
    try:
        _, started, over = parse_stat(Path(f"/proc/{pid}/stat").read_text("utf-8", "replace"))
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if over else Process(pid, started)


def running(where: Layout, name: str) -> Process | None:
    """The component's process, if the one that was started still runs."""
    try:
        pid, started = (int(word) for word in (where.run / f"{name}.pid").read_text("utf-8").split())
    except (FileNotFoundError, ValueError):
        return None
    found = look(pid)
    return found if found == Process(pid, started) else None


def start(where: Layout, component: Component) -> Process:
    """Start it detached from this terminal, its output appended to logs/NAME.log."""
    where.run.mkdir(parents=True, exist_ok=True)
    where.logs.mkdir(parents=True, exist_ok=True)
    environment = {
        "PATH": f"{where.bin_dir}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "HOME": str(where.state),
        "TMPDIR": os.environ.get("TMPDIR", "/tmp"),
    }
    with (where.logs / f"{component.name}.log").open("ab") as log:
        child = subprocess.Popen(
            component.command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd="/",
            env=environment,
            start_new_session=True,
        )
    # Nobody waits for it: it outlives this program. Telling subprocess so avoids its warning.
    child.returncode = 0
    process = look(child.pid)
    if process is None:
        raise ClusterError(f"{component.name} ended at once; see {where.logs / component.name}.log")
    (where.run / f"{component.name}.pid").write_text(f"{process.pid} {process.started}\n", "utf-8")
    return process


def stop(process: Process, grace_s: float = STOP_GRACE_S) -> None:
    """SIGTERM, then SIGKILL when the grace is over; returns when it has ended."""
    _send(process, signal.SIGTERM)
    if not ended(process, grace_s):
        end(process)


def end(process: Process) -> None:
    """SIGKILL; returns when it has ended."""
    _send(process, signal.SIGKILL)
    if not ended(process, STOP_GRACE_S):
        raise ClusterError(f"process {process.pid} does not end even after SIGKILL")


def send(where: Layout, name: str, number: signal.Signals) -> None:
    """Signal a component. Raises ClusterError if it does not run."""
    process = running(where, name)
    if process is None:
        raise ClusterError(f"{name} does not run: `python -m keelage_dev.cluster up` starts it")
    if number == signal.SIGKILL:
        end(process)
    else:
        _send(process, number)


def ended(process: Process, within_s: float) -> bool:
    """Wait for its end; a child of ours is reaped on the way."""
    deadline = time.monotonic() + within_s
    while True:
        with contextlib.suppress(ChildProcessError):  # somebody else's child, the usual case
            os.waitpid(process.pid, os.WNOHANG)
        if look(process.pid) != process:
            return True
        if time.monotonic() >= deadline:
            return False
        time.sleep(0.02)


def belonging(where: Layout) -> Iterator[tuple[Process, str]]:
    """Every long-running process of the cluster, and its program's name.

    Found by command line, not by pid file: an `up` that was killed leaves processes and no files.
    """
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            command = (entry / "cmdline").read_bytes()
        except (FileNotFoundError, ProcessLookupError):
            continue
        name = program_of(command, where)
        found = look(int(entry.name)) if name else None
        if found is not None:
            yield found, name


def program_of(command: bytes, where: Layout) -> str:
    """Which program of the cluster at `where.state` has this /proc/PID/cmdline; empty for any other.

    A shim names its own file by its place in the cache, but every one of them names something
    in the state folder: its configuration, its data or containerd's socket.
    """
    name = Path(os.fsdecode(command.split(b"\0")[0])).name
    return name if name in LONG_RUNNING and os.fsencode(f"{where.state}/") in command else ""


def children(parent: Process) -> Iterator[Process]:
    """Its direct children; for a shim: the first processes of its pod's containers."""
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            owner, started, over = parse_stat((entry / "stat").read_text("utf-8", "replace"))
        except (FileNotFoundError, ProcessLookupError):
            continue
        if owner == parent.pid and not over:
            yield Process(int(entry.name), started)


def _send(process: Process, number: signal.Signals) -> None:
    if look(process.pid) == process:
        with contextlib.suppress(ProcessLookupError):  # it ended between the look and the signal
            os.kill(process.pid, number)
