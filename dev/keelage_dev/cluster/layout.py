"""Where the development cluster keeps its state, and the addresses that it uses.

Everything lives on loopback and on one bridge of this machine. The ranges keep
clear of 192.0.2.0/24 and 10.255.0.0/16, which hosts of the build machines use.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[3]

BRIDGE = "cni0"
HOST_IP = "10.88.0.1"  # the bridge's own address: node, API server and DNS answer there
POD_RANGE = "10.88.0.0/16"
SERVICE_RANGE = "10.96.0.0/16"
API_SERVICE_IP = "10.96.0.1"  # the first of SERVICE_RANGE, by Kubernetes' rule
CLUSTER_DOMAIN = "cluster.local"
NODE = "keelage-dev"
API_PORT = 6443
ETCD_CLIENT_PORT = 12379  # not etcd's own 2379: a developer's etcd may hold it
ETCD_PEER_PORT = 12380


@dataclass(frozen=True, slots=True)
class Layout:
    """The two folders: `state` goes away with `down`, `cache` stays for ever."""

    state: Path
    cache: Path

    @property
    def kubeconfig(self) -> Path:
        """Full rights over the cluster."""
        return self.state / "admin.kubeconfig"

    @property
    def certificates(self) -> Path:
        return self.state / "pki"

    @property
    def logs(self) -> Path:
        return self.state / "logs"

    @property
    def run(self) -> Path:
        """Process ids and sockets."""
        return self.state / "run"

    @property
    def config(self) -> Path:
        return self.state / "config"

    @property
    def containerd_socket(self) -> Path:
        """Absolute, under the 107 bytes that a Unix socket's path may have."""
        return self.run / "containerd.sock"

    @property
    def saved_sysctls(self) -> Path:
        """JSON object of kernel settings as they were before `up`."""
        return self.state / "sysctls.json"

    @property
    def bin_dir(self) -> Path:
        """Links to every program of the cluster, whatever product it is from."""
        return self.state / "bin"

    @property
    def lock(self) -> Path:
        """Held by whoever changes the cluster; outside `state`, which comes and goes."""
        return self.cache / "cluster.lock"


def layout() -> Layout:
    """The folders that the environment asks for: KEELAGE_CLUSTER_DIR and KEELAGE_CACHE."""
    return Layout(
        state=Path(os.environ.get("KEELAGE_CLUSTER_DIR", "/var/lib/keelage-dev")).resolve(),
        cache=Path(os.environ.get("KEELAGE_CACHE", str(Path.home() / ".cache" / "keelage"))).resolve(),
    )
