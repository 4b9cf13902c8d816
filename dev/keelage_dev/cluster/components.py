"""The processes of the cluster: their command lines, in the order in which they start.

Pure: a Layout goes in, words come out. Their configuration files are in configuration.py.
"""

from __future__ import annotations

from dataclasses import dataclass

from keelage_dev.cluster.layout import (
    API_PORT,
    BRIDGE,
    ETCD_CLIENT_PORT,
    ETCD_PEER_PORT,
    HOST_IP,
    NODE,
    POD_RANGE,
    SERVICE_RANGE,
    Layout,
)


@dataclass(frozen=True, slots=True)
class Component:
    """One long-running process; `health` is a URL that answers 200 once it works, or empty."""

    name: str
    command: tuple[str, ...]
    health: str = ""


def components(where: Layout) -> tuple[Component, ...]:
    """Every process, first to start first; each needs only those before it."""
    return (
        _etcd(where),
        _api_server(where),
        _controller_manager(where),
        _scheduler(where),
        _containerd(where),
        _kubelet(where),
        _kube_proxy(where),
        _coredns(where),
    )


def _program(where: Layout, name: str) -> str:
    return str(where.bin_dir / name)


def _etcd(where: Layout) -> Component:
    client, peer = f"http://127.0.0.1:{ETCD_CLIENT_PORT}", f"http://127.0.0.1:{ETCD_PEER_PORT}"
    return Component(
        "etcd",
        (
            _program(where, "etcd"),
            f"--name={NODE}",
            f"--data-dir={where.state / 'etcd'}",
            f"--listen-client-urls={client}",
            f"--advertise-client-urls={client}",
            f"--listen-peer-urls={peer}",
            f"--initial-advertise-peer-urls={peer}",
            f"--initial-cluster={NODE}={peer}",
            # A killed process loses nothing by this, only a machine that loses power.
            "--unsafe-no-fsync=true",
            "--log-level=warn",
        ),
        f"{client}/readyz",
    )


def _api_server(where: Layout) -> Component:
    pki = where.certificates
    return Component(
        "kube-apiserver",
        (
            _program(where, "kube-apiserver"),
            f"--advertise-address={HOST_IP}",
            f"--bind-address={HOST_IP}",
            f"--secure-port={API_PORT}",
            f"--etcd-servers=http://127.0.0.1:{ETCD_CLIENT_PORT}",
            f"--service-cluster-ip-range={SERVICE_RANGE}",
            "--authorization-mode=Node,RBAC",
            "--enable-admission-plugins=NodeRestriction",
            # Webhooks go straight to the addresses of EndpointSlices, as on a cloud's control plane.
            "--enable-aggregator-routing=true",
            "--allow-privileged=true",
            f"--client-ca-file={pki / 'ca.crt'}",
            f"--tls-cert-file={pki / 'kube-apiserver.crt'}",
            f"--tls-private-key-file={pki / 'kube-apiserver.key'}",
            f"--kubelet-certificate-authority={pki / 'ca.crt'}",
            f"--kubelet-client-certificate={pki / 'admin.crt'}",
            f"--kubelet-client-key={pki / 'admin.key'}",
            "--kubelet-preferred-address-types=InternalIP",
            f"--proxy-client-cert-file={pki / 'front-proxy.crt'}",
            f"--proxy-client-key-file={pki / 'front-proxy.key'}",
            f"--requestheader-client-ca-file={pki / 'front-proxy-ca.crt'}",
            "--requestheader-allowed-names=front-proxy",
            "--requestheader-extra-headers-prefix=X-Remote-Extra-",
            "--requestheader-group-headers=X-Remote-Group",
            "--requestheader-username-headers=X-Remote-User",
            "--service-account-issuer=https://kubernetes.default.svc.cluster.local",
            f"--service-account-key-file={pki / 'service-account.pub'}",
            f"--service-account-signing-key-file={pki / 'service-account.key'}",
            # Long watches are not waited for: a restart takes seconds, not a minute.
            "--shutdown-delay-duration=0s",
        ),
        f"https://{HOST_IP}:{API_PORT}/readyz",
    )


def _controller_manager(where: Layout) -> Component:
    pki, kubeconfig = where.certificates, where.config / "kube-controller-manager.kubeconfig"
    return Component(
        "kube-controller-manager",
        (
            _program(where, "kube-controller-manager"),
            f"--kubeconfig={kubeconfig}",
            f"--authentication-kubeconfig={kubeconfig}",
            f"--authorization-kubeconfig={kubeconfig}",
            "--bind-address=127.0.0.1",
            f"--root-ca-file={pki / 'ca.crt'}",
            f"--cluster-signing-cert-file={pki / 'ca.crt'}",
            f"--cluster-signing-key-file={pki / 'ca.key'}",
            f"--service-account-private-key-file={pki / 'service-account.key'}",
            f"--flex-volume-plugin-dir={where.state / 'volume-plugins'}",
            "--use-service-account-credentials=true",
            # One of each: a lease to win back would only delay a restart.
            "--leader-elect=false",
        ),
        "https://127.0.0.1:10257/healthz",
    )


def _scheduler(where: Layout) -> Component:
    kubeconfig = where.config / "kube-scheduler.kubeconfig"
    return Component(
        "kube-scheduler",
        (
            _program(where, "kube-scheduler"),
            f"--kubeconfig={kubeconfig}",
            f"--authentication-kubeconfig={kubeconfig}",
            f"--authorization-kubeconfig={kubeconfig}",
            "--bind-address=127.0.0.1",
            "--leader-elect=false",
        ),
        "https://127.0.0.1:10259/healthz",
    )


def _containerd(where: Layout) -> Component:
    return Component("containerd", (_program(where, "containerd"), f"--config={where.config / 'containerd.toml'}"))


def _kubelet(where: Layout) -> Component:
    return Component(
        "kubelet",
        (
            _program(where, "kubelet"),
            f"--config={where.config / 'kubelet.yaml'}",
            f"--kubeconfig={where.config / 'kubelet.kubeconfig'}",
            f"--root-dir={where.state / 'kubelet'}",
            f"--cert-dir={where.state / 'kubelet' / 'pki'}",
            f"--hostname-override={NODE}",
            f"--node-ip={HOST_IP}",
        ),
        "http://127.0.0.1:10248/healthz",
    )


def _kube_proxy(where: Layout) -> Component:
    return Component(
        "kube-proxy",
        (_program(where, "kube-proxy"), f"--config={where.config / 'kube-proxy.yaml'}", f"--hostname-override={NODE}"),
        f"http://{HOST_IP}:10256/livez",
    )


def _coredns(where: Layout) -> Component:
    return Component(
        "coredns",
        (_program(where, "coredns"), f"-conf={where.config / 'Corefile'}"),
        f"http://{HOST_IP}:8181/ready",
    )


def bridge_commands() -> tuple[tuple[str, ...], ...]:
    """Make the bridge that pods hang on; its address is the node's, so it must be there first."""
    return (
        ("ip", "link", "add", BRIDGE, "type", "bridge"),
        ("ip", "address", "add", f"{HOST_IP}/{POD_RANGE.split('/')[1]}", "dev", BRIDGE),
        ("ip", "link", "set", BRIDGE, "up"),
    )
