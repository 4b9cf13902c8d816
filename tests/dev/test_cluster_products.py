"""What is built for the cluster, and under which name it is kept."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import pytest

from keelage_dev.cluster.errors import ClusterError
from keelage_dev.cluster.packages import installed
from keelage_dev.cluster.pause import archive
from keelage_dev.cluster.products import COREDNS, KUBERNETES, PAUSE, PRODUCTS, build_command, go_mod


def test_the_version_comes_from_the_products_own_go_mod() -> None:
    assert (
        KUBERNETES.version("require (\n\tk8s.io/api v0.36.3\n\tk8s.io/kubernetes v1.36.3 // indirect\n)\n") == "v1.36.3"
    )
    assert COREDNS.version("require github.com/coredns/coredns v1.14.7\n") == "v1.14.7"
    assert PAUSE.version("module x\n") == "v0"


def test_a_go_mod_without_its_product_is_refused_with_the_line_that_it_lacks() -> None:
    with pytest.raises(ClusterError, match=r"dev/go/kubernetes/go\.mod does not require k8s\.io/kubernetes"):
        KUBERNETES.version("module x\n")


def test_every_product_has_a_go_mod_that_names_its_version() -> None:
    for product in PRODUCTS:
        assert product.version(go_mod(product).read_text("utf-8")).startswith("v")


def test_kubernetes_is_told_its_version_by_the_linker() -> None:
    command = build_command(KUBERNETES, "k8s.io/kubernetes/cmd/kubelet", Path("/out/kubelet"), "v1.36.3")
    flags = command[command.index("-ldflags") + 1]
    assert "-X k8s.io/component-base/version.gitVersion=v1.36.3" in flags
    assert "-X k8s.io/component-base/version.gitMinor=36" in flags
    assert command[-1] == "k8s.io/kubernetes/cmd/kubelet"


def test_a_package_that_was_removed_does_not_count_as_installed() -> None:
    assert installed("runc installed\nbuildah config-files\nunknown-line\n") == {"runc"}


def test_the_pause_image_is_the_same_bytes_each_time_and_names_its_only_layer() -> None:
    first = archive(b"program", "localhost/pause:1")
    assert archive(b"program", "localhost/pause:1") == first
    with tarfile.open(fileobj=io.BytesIO(first)) as tar:
        manifest_file = tar.extractfile("manifest.json")
        assert manifest_file is not None
        (manifest,) = json.loads(manifest_file.read())
        assert manifest["RepoTags"] == ["localhost/pause:1"]
        assert set(tar.getnames()) == {manifest["Config"], *manifest["Layers"], "manifest.json"}
