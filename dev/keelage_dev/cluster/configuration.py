"""The configuration files of the cluster's processes. Pure: a Layout goes in, texts come out."""

from __future__ import annotations

import json

from keelage_dev.cluster.layout import BRIDGE, CLUSTER_DOMAIN, HOST_IP, NODE, POD_RANGE, Layout

PAUSE_IMAGE = "localhost/pause:1"


def configuration(where: Layout) -> dict[str, str]:
    """File name under `where.config` -> text. Two of them are for containerd and its network plugin."""
    return {
        "containerd.toml": _containerd(where),
        "cni/10-keelage.conflist": _network(where),
        "kubelet.yaml": _kubelet(where),
        "kube-proxy.yaml": _kube_proxy(where),
        "Corefile": _corefile(where),
        # For pods with dnsPolicy Default: never the machine's own name server.
        "resolv.conf": f"nameserver {HOST_IP}\n",
    }


def _containerd(where: Layout) -> str:
    # restrict_oom_score_adj: without CAP_SYS_RESOURCE runc may not lower a score, and the
    # container ends in "can't get final child's PID from pipe".
    return f"""\
version = 3
root = "{where.state}/containerd"
state = "{where.run}/containerd"
disabled_plugins = ["io.containerd.nri.v1.nri"]

[grpc]
address = "{where.containerd_socket}"

[ttrpc]
address = "{where.containerd_socket}.ttrpc"

[plugins.'io.containerd.cri.v1.runtime']
restrict_oom_score_adj = true
netns_mounts_under_state_dir = true
enable_unprivileged_ports = true
enable_unprivileged_icmp = true
device_ownership_from_security_context = true
cdi_spec_dirs = []

[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"
runtime_path = "{where.bin_dir}/containerd-shim-runc-v2"

[plugins.'io.containerd.cri.v1.runtime'.cni]
bin_dirs = ["/usr/lib/cni"]
conf_dir = "{where.config}/cni"

[plugins.'io.containerd.cri.v1.images'.pinned_images]
sandbox = "{PAUSE_IMAGE}"

[plugins.'io.containerd.internal.v1.opt']
path = "{where.state}/containerd-opt"
"""


def _network(where: Layout) -> str:
    return json.dumps(
        {
            "cniVersion": "1.0.0",
            "name": "keelage-dev",
            "plugins": [
                {
                    "type": "bridge",
                    "bridge": BRIDGE,
                    "isGateway": True,
                    "hairpinMode": True,  # a pod that is its own Service's endpoint
                    "ipMasq": False,  # pods reach each other and this machine, nothing beyond
                    "ipam": {
                        "type": "host-local",
                        "dataDir": str(where.state / "cni"),
                        "ranges": [[{"subnet": POD_RANGE, "rangeStart": "10.88.1.0"}]],
                        "routes": [{"dst": "0.0.0.0/0"}],
                    },
                }
            ],
        },
        indent=2,
    )


def _kubelet(where: Layout) -> str:
    pki = where.certificates
    return json.dumps(
        {
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "address": HOST_IP,
            "authentication": {
                "anonymous": {"enabled": False},
                "webhook": {"enabled": True},
                "x509": {"clientCAFile": str(pki / "ca.crt")},
            },
            "authorization": {"mode": "Webhook"},
            "tlsCertFile": str(pki / "kubelet-server.crt"),
            "tlsPrivateKeyFile": str(pki / "kubelet-server.key"),
            "containerRuntimeEndpoint": f"unix://{where.containerd_socket}",
            "cgroupDriver": "cgroupfs",
            "failCgroupV1": False,
            "failSwapOn": False,
            # Never evict: a developer's full disk is not the cluster's business.
            "evictionHard": {"memory.available": "0%", "nodefs.available": "0%", "imagefs.available": "0%"},
            "imageGCHighThresholdPercent": 100,
            "clusterDNS": [HOST_IP],
            "clusterDomain": CLUSTER_DOMAIN,
            "resolvConf": str(where.config / "resolv.conf"),
            "podLogsDir": str(where.state / "pod-logs"),
            "volumePluginDir": str(where.state / "volume-plugins"),
            "oomScoreAdj": 0,
            "maxPods": 250,
            # A pod's own budget of seconds decides how fast a test is; the defaults sync each minute.
            "syncFrequency": "10s",
            "configMapAndSecretChangeDetectionStrategy": "Watch",
            "nodeStatusUpdateFrequency": "5s",
            "registerWithTaints": [],
            "serializeImagePulls": False,
            "shutdownGracePeriod": "0s",
            "logging": {"verbosity": 1},
        },
        indent=2,
    )


def _kube_proxy(where: Layout) -> str:
    return json.dumps(
        {
            "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
            "kind": "KubeProxyConfiguration",
            "clientConnection": {"kubeconfig": str(where.config / "kube-proxy.kubeconfig")},
            "mode": "iptables",
            "clusterCIDR": POD_RANGE,
            "bindAddress": HOST_IP,
            "healthzBindAddress": f"{HOST_IP}:10256",
            "metricsBindAddress": "127.0.0.1:10249",
            "hostnameOverride": NODE,
            "nodePortAddresses": ["primary"],
            "oomScoreAdj": 0,
            # The machine's own connection tracking stays as it is.
            "conntrack": {"maxPerCore": 0, "min": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"},
            # No route_localnet: node ports are not for this machine's loopback.
            "iptables": {"localhostNodePorts": False, "minSyncPeriod": "0s", "syncPeriod": "30s"},
        },
        indent=2,
    )


def _corefile(where: Layout) -> str:
    # Two servers, because `template` comes before `kubernetes` in CoreDNS's fixed order. Names
    # beyond the cluster do not exist: that is told at once, instead of after a timeout.
    return f"""\
{CLUSTER_DOMAIN}:53 10.in-addr.arpa:53 {{
    bind {HOST_IP}
    errors
    ready {HOST_IP}:8181
    kubernetes {CLUSTER_DOMAIN} 10.in-addr.arpa {{
        kubeconfig {where.config}/coredns.kubeconfig
        pods insecure
        ttl 5
    }}
}}
.:53 {{
    bind {HOST_IP}
    errors
    template ANY ANY {{
        rcode NXDOMAIN
    }}
}}
"""
