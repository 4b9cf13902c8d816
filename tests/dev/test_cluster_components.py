"""Command lines and configuration files of the development cluster."""

from __future__ import annotations

import ipaddress
import json
from pathlib import Path

import pytest

from keelage_dev.cluster import layout as places
from keelage_dev.cluster.components import components
from keelage_dev.cluster.configuration import configuration
from keelage_dev.cluster.layout import Layout
from keelage_dev.cluster.processes import LONG_RUNNING, program_of

WHERE = Layout(state=Path("/state"), cache=Path("/cache"))


def command_of(name: str) -> tuple[str, ...]:
    (found,) = [component.command for component in components(WHERE) if component.name == name]
    return found


def test_each_component_starts_after_those_that_it_needs() -> None:
    order = [component.name for component in components(WHERE)]
    for first, then in (
        ("etcd", "kube-apiserver"),
        ("kube-apiserver", "kube-controller-manager"),
        ("containerd", "kubelet"),
        ("kube-apiserver", "coredns"),
    ):
        assert order.index(first) < order.index(then)


@pytest.mark.parametrize("reserved", ["10.255.0.0/16", "192.0.2.0/24"])
def test_no_range_of_the_cluster_touches_the_networks_of_build_machines(reserved: str) -> None:
    for own in (places.POD_RANGE, places.SERVICE_RANGE):
        assert not ipaddress.ip_network(own).overlaps(ipaddress.ip_network(reserved))


def test_the_api_server_sends_webhooks_straight_to_endpoints_and_listens_on_the_bridge_only() -> None:
    command = command_of("kube-apiserver")
    assert "--enable-aggregator-routing=true" in command
    assert "--bind-address=10.88.0.1" in command
    assert "--authorization-mode=Node,RBAC" in command


def test_pods_ask_the_clusters_own_name_server_and_never_the_machines() -> None:
    files = configuration(WHERE)
    kubelet = json.loads(files["kubelet.yaml"])
    assert kubelet["clusterDNS"] == [places.HOST_IP]
    assert kubelet["resolvConf"] == "/state/config/resolv.conf"
    assert files["resolv.conf"] == f"nameserver {places.HOST_IP}\n"
    assert "forward" not in files["Corefile"]


def test_the_machines_connection_tracking_and_loopback_routing_stay_as_they_are() -> None:
    proxy = json.loads(configuration(WHERE)["kube-proxy.yaml"])
    assert proxy["conntrack"]["maxPerCore"] == 0
    assert proxy["iptables"]["localhostNodePorts"] is False


def test_every_component_is_recognised_by_its_command_line_when_its_pid_file_is_lost() -> None:
    for component in components(WHERE):
        line = b"\0".join(word.encode() for word in component.command)
        assert program_of(line, WHERE) == component.name
        assert component.name in LONG_RUNNING


def test_a_shim_is_recognised_by_containerds_socket() -> None:
    line = (
        b"/cache/bin/containerd-v2/containerd-shim-runc-v2\0-namespace\0k8s.io\0-address\0/state/run/containerd.sock\0"
    )
    assert program_of(line, WHERE) == "containerd-shim-runc-v2"


@pytest.mark.parametrize(
    "line",
    [
        b"/usr/bin/containerd\0--config=/etc/containerd/config.toml",
        b"/usr/bin/kubectl\0--kubeconfig=/state/admin.kubeconfig",
        b"/usr/bin/kubelet\0--config=/state-of-another/kubelet.yaml",
        b"",
    ],
)
def test_processes_of_others_are_not_taken_for_the_clusters(line: bytes) -> None:
    assert program_of(line, WHERE) == ""
