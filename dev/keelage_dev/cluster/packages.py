"""What the machine itself must offer: a few Debian packages, installed only when missing."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterable

from keelage_dev.cluster.errors import ClusterError
from keelage_dev.cluster.products import Progress

# runc: Debian's has seccomp, without which the default profile fails.
CLUSTER_PACKAGES = ("runc", "containernetworking-plugins", "iptables", "conntrack", "iproute2")
IMAGE_PACKAGES = ("buildah", "mmdebstrap")

TRIES = 5


def installed(dpkg_output: str) -> frozenset[str]:
    """Names in the output of `dpkg-query -W -f '${Package} ${db:Status-Status}\\n'` that are installed."""
    pairs = (line.split() for line in dpkg_output.splitlines())
    return frozenset(pair[0] for pair in pairs if pair[1:] == ["installed"])


def ensure(wanted: Iterable[str], progress: Progress) -> None:
    """Install the missing ones with apt. Raises ClusterError after TRIES failures."""
    wanted = tuple(wanted)
    query = ["dpkg-query", "-W", "-f", "${Package} ${db:Status-Status}\\n", *wanted]
    missing = sorted(set(wanted) - installed(subprocess.run(query, capture_output=True, text=True, check=False).stdout))
    if not missing:
        return
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for attempt in range(1, TRIES + 1):
        progress(f"installing Debian packages: {' '.join(missing)}")
        update = subprocess.run(
            ["apt-get", "-q", "update"], env=environment, capture_output=True, text=True, check=False
        )
        install = subprocess.run(
            ["apt-get", "-q", "-y", "--no-install-recommends", "install", *missing],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        if install.returncode == 0:
            return
        if attempt < TRIES:
            progress(f"apt-get failed, trying again in {5 * attempt} s")
            time.sleep(5 * attempt)
    tail = "\n".join((update.stderr + install.stderr).strip().splitlines()[-10:])
    raise ClusterError(f"apt-get could not install {' '.join(missing)}:\n{tail}")
