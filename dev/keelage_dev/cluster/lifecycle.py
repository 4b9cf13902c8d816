"""Bring the cluster up, take it down, hurt one of its processes on purpose."""

from __future__ import annotations

import contextlib
import datetime
import fcntl
import json
import os
import signal
import ssl
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from keelage_dev.cluster import certificates, packages, pause, processes, products, sweep
from keelage_dev.cluster.components import Component, bridge_commands, components
from keelage_dev.cluster.configuration import PAUSE_IMAGE, configuration
from keelage_dev.cluster.errors import ClusterError
from keelage_dev.cluster.layout import BRIDGE, NODE, Layout, layout
from keelage_dev.cluster.products import Progress

READY_S = 90.0  # each component; a cold machine under load needs about 15
POLL_S = 0.1

# What the cluster needs (value) or its programs change (None): noted by `up`, put back by `down`.
SYSCTLS: dict[str, str | None] = {
    "net/ipv4/ip_forward": "1",
    # Pods on one bridge answer each other through a Service only if bridged packets are tracked too.
    "net/bridge/bridge-nf-call-iptables": "1",
    "net/ipv4/conf/all/route_localnet": None,
    "vm/overcommit_memory": None,
    "vm/panic_on_oom": None,
    "kernel/panic": None,
    "kernel/panic_on_oops": None,
    "kernel/keys/root_maxkeys": None,
    "kernel/keys/root_maxbytes": None,
}


@dataclass(frozen=True, slots=True)
class Cluster:
    """A cluster that is up. `bin_dir` holds kubectl, helm and ctr; `dir` its state and logs."""

    kubeconfig: Path
    bin_dir: Path
    dir: Path


@dataclass(frozen=True, slots=True)
class Status:
    """`down` lists the components that do not run; `node_ready` is what the API server says."""

    cluster: Cluster
    up: tuple[str, ...]
    down: tuple[str, ...]
    node_ready: bool


def quiet(line: str) -> None:
    """A Progress for callers who want none."""


def up(progress: Progress = quiet) -> Cluster:
    """Bring up what is not up; does nothing in a second or two when all is. Raises ClusterError."""
    where = layout()
    _require_root()
    with _locked(where):
        packages.ensure(packages.CLUSTER_PACKAGES, progress)
        products.build(where, progress)
        wanted = components(where)
        alive = [component for component in wanted if processes.running(where, component.name)]
        if not alive:
            # Nothing, or the ruins of an unclean end: begin on clean ground.
            sweep.sweep(where)
        _prepare(where)
        began = time.monotonic()
        for component in wanted:
            _ensure_component(where, component, progress)
        if not _node_ready(where):
            progress("waiting for the node to be Ready")
            _wait(lambda: _node_ready(where), "the node did not become Ready", where.logs / "kubelet.log")
        _wait(lambda: _default_account(where), "the ServiceAccount `default` did not appear", where.logs)
        if len(alive) < len(wanted):
            progress(f"the cluster is up after {time.monotonic() - began:.1f} s: KUBECONFIG={where.kubeconfig}")
    return Cluster(where.kubeconfig, where.bin_dir, where.state)


def down() -> None:
    """Stop everything and leave nothing behind but the cache of programs."""
    where = layout()
    _require_root()
    with _locked(where):
        sweep.sweep(where)


def status() -> Status:
    """What runs now."""
    where = layout()
    names = [component.name for component in components(where)]
    alive = tuple(name for name in names if processes.running(where, name))
    return Status(
        cluster=Cluster(where.kubeconfig, where.bin_dir, where.state),
        up=alive,
        down=tuple(name for name in names if name not in alive),
        node_ready="kube-apiserver" in alive and _node_ready(where),
    )


def kill(name: str, number: signal.Signals = signal.SIGKILL) -> None:
    """Signal one component (SIGSTOP and SIGCONT too); `up` or `restart` brings a dead one back."""
    processes.send(layout(), name, number)


def restart(name: str, progress: Progress = quiet) -> None:
    """Stop one component and start it again; returns when it is healthy."""
    where = layout()
    component = _component(where, name)
    with _locked(where):
        process = processes.running(where, name)
        if process is not None:
            processes.send(where, name, signal.SIGCONT)  # a stopped process would not see the SIGTERM
            processes.stop(process)
        _ensure_component(where, component, progress)


def load_image(tar: Path) -> None:
    """Import a docker-archive or OCI tar, so that pods find it with imagePullPolicy Never or IfNotPresent."""
    _ctr(layout(), "images", "import", str(tar))


def image_names() -> list[str]:
    """References of every image that the cluster has, e.g. `docker.io/keelage/sidecar:dev`."""
    return _ctr(layout(), "images", "ls", "-q").split()


def blob_digests() -> frozenset[str]:
    """Digests of every layer, manifest and configuration that the cluster has."""
    return frozenset(_ctr(layout(), "content", "ls", "-q").split())


def tag_image(source: str, target: str) -> None:
    """Let `target` name what `source` names, whatever it named before."""
    _ctr(layout(), "images", "tag", "--force", source, target)


def _require_root() -> None:
    if os.geteuid() != 0:
        raise ClusterError("the cluster needs root (network, mounts, control groups): run this as root")


def _component(where: Layout, name: str) -> Component:
    known = {component.name: component for component in components(where)}
    if name not in known:
        raise ClusterError(f"no component {name!r}; there are: {', '.join(known)}")
    return known[name]


def _prepare(where: Layout) -> None:
    """Files, kernel settings and the bridge: everything that processes find when they start."""
    where.config.mkdir(parents=True, exist_ok=True)
    products.link_programs(where)
    certificates.make(where, datetime.datetime.now(datetime.UTC))
    for name, text in configuration(where).items():
        path = where.config / name
        path.parent.mkdir(parents=True, exist_ok=True)
        # Only when it differs: kube-proxy ends itself when its file is written, even with the same text.
        if not path.exists() or path.read_text("utf-8") != text:
            path.write_text(text, "utf-8")
    if not where.saved_sysctls.exists():
        present = {name: Path("/proc/sys", name) for name in SYSCTLS if Path("/proc/sys", name).exists()}
        before = {name: path.read_text("utf-8").strip() for name, path in present.items()}
        where.saved_sysctls.write_text(json.dumps(before), "utf-8")
    for name, value in SYSCTLS.items():
        path = Path("/proc/sys", name)
        if value is not None and path.exists() and path.read_text("utf-8").strip() != value:
            path.write_text(value, "utf-8")
    if not Path(f"/sys/class/net/{BRIDGE}").exists():
        for command in bridge_commands():
            subprocess.run(command, check=True)


def _ensure_component(where: Layout, component: Component, progress: Progress) -> None:
    if processes.running(where, component.name) is not None and _healthy(where, component):
        return
    began = time.monotonic()
    process = processes.running(where, component.name) or processes.start(where, component)
    log = where.logs / f"{component.name}.log"
    while not _healthy(where, component):
        if processes.ended(process, POLL_S):
            raise ClusterError(f"{component.name} ended; the last lines of {log}:\n{_tail(log)}")
        if time.monotonic() - began > READY_S:
            raise ClusterError(f"{component.name} is not healthy after {READY_S:.0f} s; see {log}:\n{_tail(log)}")
    if component.name == "containerd":
        _import_pause(where)
    progress(f"{component.name} is up after {time.monotonic() - began:.1f} s")


def _healthy(where: Layout, component: Component) -> bool:
    if component.name == "containerd":
        if not where.containerd_socket.exists():
            return False
        command = [str(where.bin_dir / "ctr"), "-a", str(where.containerd_socket), "version"]
        return subprocess.run(command, capture_output=True, check=False, timeout=20).returncode == 0
    return _get(where, component.health) == 200


def _get(where: Layout, url: str) -> int:
    """HTTP status, 0 when nobody answers. As the cluster's administrator where it speaks TLS."""
    context = None
    if url.startswith("https:"):
        context = ssl.create_default_context(cafile=str(where.certificates / "ca.crt"))
        context.load_cert_chain(where.certificates / "admin.crt", where.certificates / "admin.key")
        if "//127.0.0.1" in url:
            # Controller manager and scheduler make themselves a certificate that nobody signed.
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
    # No proxy of the environment: these are this machine's own addresses.
    opener = urllib.request.build_opener(
        urllib.request.ProxyHandler({}),
        *([urllib.request.HTTPSHandler(context=context)] if context is not None else []),
    )
    try:
        with opener.open(url, timeout=5) as reply:
            return int(reply.status)
    except urllib.error.HTTPError as refusal:
        return refusal.code
    except OSError:
        return 0


def _kubectl(where: Layout, *words: str) -> str:
    command = [str(where.bin_dir / "kubectl"), f"--kubeconfig={where.kubeconfig}", "--request-timeout=5s", *words]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout


def _node_ready(where: Layout) -> bool:
    path = '{.status.conditions[?(@.type=="Ready")].status}'
    return _kubectl(where, "get", "node", NODE, "-o", f"jsonpath={path}").strip() == "True"


def _default_account(where: Layout) -> bool:
    return bool(_kubectl(where, "get", "serviceaccount", "default", "-n", "default", "-o", "name").strip())


def _import_pause(where: Layout) -> None:
    if PAUSE_IMAGE in _ctr(where, "images", "ls", "-q").split():
        return
    tar = where.state / "pause.tar"
    tar.write_bytes(pause.archive((products.folder(products.PAUSE, where) / "pause").read_bytes(), PAUSE_IMAGE))
    _ctr(where, "images", "import", str(tar))
    tar.unlink()


def _ctr(where: Layout, *words: str) -> str:
    command = [str(where.bin_dir / "ctr"), "-a", str(where.containerd_socket), "-n", "k8s.io", *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise ClusterError(f"ctr {' '.join(words)} failed: {done.stderr.strip()[-500:]}")
    return done.stdout


def _wait(holds: Callable[[], bool], otherwise: str, log: Path) -> None:
    deadline = time.monotonic() + READY_S
    while not holds():
        if time.monotonic() > deadline:
            raise ClusterError(f"{otherwise} within {READY_S:.0f} s; see {log}")
        time.sleep(POLL_S)


def _tail(log: Path) -> str:
    return "\n".join(log.read_text("utf-8", "replace").splitlines()[-8:])


@contextlib.contextmanager
def _locked(where: Layout) -> Iterator[None]:
    """One caller at a time changes the cluster; the others wait."""
    where.cache.mkdir(parents=True, exist_ok=True)
    with where.lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
