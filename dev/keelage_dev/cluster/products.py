"""The programs of the cluster: built from Go modules by name, once per version.

Each product has a go.mod of its own under dev/go/, so that no two of them fight
over a dependency's version; its go.sum pins every byte.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from keelage_dev.cluster.errors import ClusterError
from keelage_dev.cluster.layout import REPOSITORY, Layout

Progress = Callable[[str], None]

BUILD_TRIES = 3  # the module proxy's hiccups last seconds


@dataclass(frozen=True, slots=True)
class Product:
    """One go.mod. `module` names the requirement whose version is the product's."""

    name: str
    module: str
    programs: dict[str, str]  # file name -> package path
    version_variables: tuple[str, ...] = ()  # string variables that the linker sets to the version

    def version(self, go_mod: str) -> str:
        """The version that the text of its go.mod requires; 'v0' for a program of our own."""
        if not self.module:
            return "v0"
        found = re.search(rf"^(?:require)?\s*{re.escape(self.module)} (v\S+)", go_mod, re.MULTILINE)
        if found is None:
            raise ClusterError(f"dev/go/{self.name}/go.mod does not require {self.module}: add the line back")
        return found.group(1)

    def linker_flags(self, version: str) -> str:
        sets = [f"-X {variable}={version}" for variable in self.version_variables]
        if self.name == "kubernetes":
            major, minor = version.removeprefix("v").split(".")[:2]
            base = "k8s.io/component-base/version"
            sets += [f"-X {base}.gitMajor={major}", f"-X {base}.gitMinor={minor}"]
        return " ".join(["-s", "-w", *sets])


KUBERNETES = Product(
    "kubernetes",
    "k8s.io/kubernetes",
    {
        name: f"k8s.io/kubernetes/cmd/{name}"
        for name in ("kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet", "kube-proxy", "kubectl")
    },
    ("k8s.io/component-base/version.gitVersion", "k8s.io/client-go/pkg/version.gitVersion"),
)
CONTAINERD = Product(
    "containerd",
    "github.com/containerd/containerd/v2",
    {
        name: f"github.com/containerd/containerd/v2/cmd/{name}"
        for name in ("containerd", "containerd-shim-runc-v2", "ctr")
    },
    ("github.com/containerd/containerd/v2/version.Version",),
)
ETCD = Product("etcd", "go.etcd.io/etcd/server/v3", {"etcd": "go.etcd.io/etcd/server/v3"})
COREDNS = Product("coredns", "github.com/coredns/coredns", {"coredns": "."})
HELM = Product(
    "helm", "helm.sh/helm/v4", {"helm": "helm.sh/helm/v4/cmd/helm"}, ("helm.sh/helm/v4/internal/version.version",)
)
PAUSE = Product("pause", "", {"pause": "."})

PRODUCTS = (ETCD, KUBERNETES, CONTAINERD, COREDNS, PAUSE, HELM)


def go_mod(product: Product) -> Path:
    return REPOSITORY / "dev" / "go" / product.name / "go.mod"


def folder(product: Product, where: Layout) -> Path:
    """Where the product's programs are kept: one folder per version, and per text of a main program of ours."""
    version = product.version(go_mod(product).read_text("utf-8"))
    own = go_mod(product).with_name("main.go")
    suffix = f"-{hashlib.sha256(own.read_bytes()).hexdigest()[:8]}" if own.exists() else ""
    return where.cache / "bin" / f"{product.name}-{version}{suffix}"


def build_command(product: Product, package: str, target: Path, version: str) -> list[str]:
    return [
        "go",
        "build",
        "-mod=readonly",
        "-trimpath",
        "-ldflags",
        product.linker_flags(version),
        "-o",
        str(target),
        package,
    ]


def build(where: Layout, progress: Progress, products: Iterable[Product] = PRODUCTS) -> None:
    """Build what the cache lacks. Raises ClusterError with the compiler's last lines."""
    missing = [
        (product, name, package)
        for product in products
        for name, package in product.programs.items()
        if not (folder(product, where) / name).exists()
    ]
    if not missing:
        return
    if shutil.which("go") is None:
        raise ClusterError(
            "the cluster's programs are built from Go modules, and there is no `go`: install Go 1.26 or newer"
        )
    began = time.monotonic()
    for number, (product, name, package) in enumerate(missing, 1):
        progress(
            f"building {name} ({number} of {len(missing)}; {time.monotonic() - began:.0f} s so far, kept for ever)"
        )
        _build_one(product, package, folder(product, where) / name, progress)
    progress(f"built {len(missing)} programs in {time.monotonic() - began:.0f} s")


def _build_one(product: Product, package: str, target: Path, progress: Progress) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    source = go_mod(product)
    # Compiled beside its place and renamed: a build that was interrupted leaves no half program.
    with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
        draft = Path(scratch) / target.name
        command = build_command(product, package, draft, product.version(source.read_text("utf-8")))
        environment = {**os.environ, "CGO_ENABLED": "0", "GOFLAGS": "-buildvcs=false"}
        for attempt in range(1, BUILD_TRIES + 1):
            done = subprocess.run(
                command, cwd=source.parent, env=environment, capture_output=True, text=True, check=False
            )
            if done.returncode == 0:
                draft.rename(target)
                return
            if attempt < BUILD_TRIES:
                progress(f"building {target.name} failed, trying again: {done.stderr.strip().splitlines()[-1:]}")
                time.sleep(5 * attempt)
        tail = "\n".join(done.stderr.strip().splitlines()[-15:])
        raise ClusterError(f"go build of {target.name} ({product.name}) failed {BUILD_TRIES} times:\n{tail}")


def link_programs(where: Layout) -> None:
    """One folder with a link to each program, for PATH and for containerd's shim."""
    where.bin_dir.mkdir(parents=True, exist_ok=True)
    for product in PRODUCTS:
        for name in product.programs:
            link, target = where.bin_dir / name, folder(product, where) / name
            if not link.is_symlink() or link.readlink() != target:
                link.unlink(missing_ok=True)
                link.symlink_to(target)
