"""Take the cluster off this machine, whatever state it is in; safe to run on a clean one.

Only what is recognisably the cluster's goes: processes that name its folder,
mounts under its folder, its bridge, chains whose names begin with KUBE-.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from keelage_dev.cluster import processes
from keelage_dev.cluster.layout import BRIDGE, POD_RANGE, SERVICE_RANGE, Layout

CHAIN_PREFIXES = ("KUBE-", "CNI-")
# They would start containers or restore rules again, so they go before what they start.
END_FIRST = ("kubelet", "kube-proxy", "containerd")
# Places that its programs use whatever they are told.
SHIM_SOCKETS = Path("/run/containerd")
NETWORK_RESULTS = Path("/var/lib/cni")
LOG_LINKS = Path("/var/log/containers")
DEVICE_PLUGINS = Path("/var/lib/kubelet/device-plugins")


def sweep(where: Layout) -> None:
    """Stop and remove everything. The kernel's settings become what `up` found."""
    _end_processes(where)
    _unmount(where.state)
    _remove_network()
    _remove_cgroups()
    _restore_sysctls(where)
    _remove_outside(where)
    shutil.rmtree(where.state, ignore_errors=True)


def _end_processes(where: Layout) -> None:
    # All by SIGKILL: what they would still write is deleted next, and an API server with open
    # watches takes its whole grace period.
    for name in END_FIRST:
        for process, program in processes.belonging(where):
            if program == name:
                processes.end(process)
    for process, program in processes.belonging(where):
        if program == "containerd-shim-runc-v2":
            for first in processes.children(process):
                processes.end(first)
    for process, _ in processes.belonging(where):
        processes.end(process)


def mounts_under(mountinfo: str, folder: Path) -> list[str]:
    """Mount points in `folder`, last mounted first, from the text of /proc/self/mountinfo (proc(5))."""
    points = [line.split()[4].encode().decode("unicode_escape") for line in mountinfo.splitlines()]
    return [point for point in reversed(points) if point == str(folder) or point.startswith(f"{folder}/")]


def _unmount(folder: Path) -> None:
    for point in mounts_under(Path("/proc/self/mountinfo").read_text("utf-8"), folder):
        subprocess.run(["umount", "--lazy", point], capture_output=True, check=False)


def without_chains(saved: str, prefixes: tuple[str, ...] = CHAIN_PREFIXES) -> str:
    """Input for `iptables-restore --noflush` that takes out the chains and every rule that jumps to them.

    `saved` is the output of iptables-save. Empty if there is nothing to take out.
    """
    out: list[str] = []
    table = ""
    flushes: list[str] = []
    deletes: list[str] = []
    drops: list[str] = []
    for line in saved.splitlines():
        if line.startswith("*"):
            table, flushes, deletes, drops = line, [], [], []
        elif line.startswith(":") and line[1:].startswith(prefixes):
            name = line[1:].split()[0]
            flushes.append(f":{name} - [0:0]")  # with --noflush a chain that is named is emptied
            drops.append(f"-X {name}")
        elif line.startswith("-A "):
            words = line.split()
            jumps = "-j" in words and words[words.index("-j") + 1].startswith(prefixes)
            if jumps and not words[1].startswith(prefixes):
                deletes.append(line.replace("-A ", "-D ", 1))
        elif line == "COMMIT" and flushes:
            out += [table, *flushes, *deletes, *drops, "COMMIT"]
    return "\n".join(out) + "\n" if out else ""


def _remove_network() -> None:
    for family in ("iptables", "ip6tables"):
        if shutil.which(f"{family}-save") is None:
            continue
        saved = subprocess.run([f"{family}-save"], capture_output=True, text=True, check=False).stdout
        script = without_chains(saved)
        if script:
            subprocess.run([f"{family}-restore", "--noflush", "--wait"], input=script, text=True, check=True)
    if Path(f"/sys/class/net/{BRIDGE}").exists():
        for port in Path(f"/sys/class/net/{BRIDGE}/brif").iterdir():
            subprocess.run(["ip", "link", "delete", port.name], capture_output=True, check=False)
        subprocess.run(["ip", "link", "delete", BRIDGE], capture_output=True, check=False)
    if shutil.which("conntrack") is not None:
        for option, network in (("-s", POD_RANGE), ("-d", POD_RANGE), ("-d", SERVICE_RANGE)):
            subprocess.run(["conntrack", "-D", option, network], capture_output=True, check=False)


def _remove_cgroups() -> None:
    for top in kubepods(Path("/sys/fs/cgroup")):
        for folder, _, _ in os.walk(top, topdown=False):
            with contextlib.suppress(OSError):  # another cluster's pods still run there: theirs
                os.rmdir(folder)


def kubepods(root: Path) -> Iterator[Path]:
    """The kubelet's top group: under `root` (version 2) and under each controller's folder (version 1)."""
    for candidate in (root / "kubepods", *sorted(root.glob("*/kubepods"))):
        if candidate.is_dir() and not candidate.parent.is_symlink():
            yield candidate


def _restore_sysctls(where: Layout) -> None:
    with contextlib.suppress(FileNotFoundError, ValueError):
        saved: dict[str, str] = json.loads(where.saved_sysctls.read_text("utf-8"))
        for name, value in saved.items():
            path = Path("/proc/sys") / name
            if path.exists() and path.read_text("utf-8").strip() != value:
                path.write_text(value, "utf-8")


def _remove_outside(where: Layout) -> None:
    """What its programs leave at fixed places, unless another containerd or kubelet may use them."""
    # A process that has just ended may stay visible for a moment, until its parent takes note.
    alive = {_comm(entry) for entry in Path("/proc").glob("[0-9]*") if processes.look(int(entry.name))}
    if "containerd" not in alive:
        shutil.rmtree(SHIM_SOCKETS, ignore_errors=True)
        shutil.rmtree(NETWORK_RESULTS, ignore_errors=True)
    if "kubelet" not in alive:
        shutil.rmtree(DEVICE_PLUGINS, ignore_errors=True)
        with contextlib.suppress(OSError):  # absent, or not empty: somebody else's
            DEVICE_PLUGINS.parent.rmdir()
    if LOG_LINKS.is_dir():
        for link in LOG_LINKS.iterdir():
            if link.is_symlink() and str(link.readlink()).startswith(f"{where.state}/"):
                link.unlink()
        with contextlib.suppress(OSError):
            LOG_LINKS.rmdir()


def _comm(entry: Path) -> str:
    try:
        return (entry / "comm").read_text("utf-8").strip()
    except (FileNotFoundError, ProcessLookupError):
        return ""
