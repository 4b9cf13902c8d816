"""The server of a shared cache as the documentation names it, `rediss://valkey.caches.svc:6379`: on the node, where a
test can stop and kill it, behind a Service."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.cluster.kube import Kube
from tests.sidecar.shell.secured import authority

from keelage_dev.cluster import packages
from keelage_dev.cluster.layout import HOST_IP

HOST = "valkey.caches.svc"
PASSWORD = "password-of-the-tests"
ENCRYPTION_KEY = "answers-of-the-tests-are-sealed-with-this"
PORT = 16379  # not Redis's own: a developer's server may hold it
SERVICE = f"""
apiVersion: v1
kind: Namespace
metadata: {{name: caches}}
---
apiVersion: v1
kind: Service
metadata: {{name: valkey, namespace: caches}}
spec:
  ports: [{{port: 6379}}]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{name: valkey, namespace: caches, labels: {{kubernetes.io/service-name: valkey}}}}
addressType: IPv4
ports: [{{port: {PORT}}}]
endpoints: [{{addresses: ["{HOST_IP}"]}}]
"""


@dataclass(slots=True)
class Valkey:
    """A server with TLS, whose default user may do what docs/caching.md says that sidecars need, and nothing else."""

    folder: Path
    namespace: str
    """Of the route that shares its answers here."""
    certificate: str
    process: subprocess.Popen[bytes]

    @classmethod
    def begun(cls, folder: Path, namespace: str) -> Valkey:
        certificate, chain = authority(folder / "chain.pem", HOST)
        return cls(folder, namespace, certificate, _started(folder, chain, namespace))

    def begin_again(self) -> None:
        """Empty, as after a crash."""
        self.process = _started(self.folder, self.folder / "chain.pem", self.namespace)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def contents(self) -> dict[str, bytes]:
        """All names and their values, by a user who may do everything."""
        names = self._asked("--scan").decode().split()
        return {name: self._asked("get", name) for name in names}

    def objects(self) -> str:
        """What the documented route refers to, for its namespace."""
        keys = {"password": PASSWORD, "answers": ENCRYPTION_KEY}
        return json.dumps(
            {
                "apiVersion": "v1",
                "kind": "List",
                "items": [
                    {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "cache-keys"}, "stringData": keys},
                    {
                        "apiVersion": "v1",
                        "kind": "ConfigMap",
                        "metadata": {"name": "corp-ca"},
                        "data": {"ca.crt": self.certificate},
                    },
                ],
            }
        )

    def _asked(self, *words: str) -> bytes:
        command = ["redis-cli", "-s", str(self.folder / "socket"), "--user", "admin", *words]
        environment = {**os.environ, "REDISCLI_AUTH": PASSWORD}
        done = subprocess.run(command, capture_output=True, env=environment, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout


def _started(folder: Path, chain: Path, namespace: str) -> subprocess.Popen[bytes]:
    """Debian's redis-tools have the server under another name; its package `redis-server` would start one by itself."""
    words = ["redis-server", "--port", "0", "--bind", HOST_IP, "--tls-port", str(PORT), "--tls-auth-clients", "no"]
    words += ["--tls-cert-file", str(chain), "--tls-key-file", str(chain), "--tls-ca-cert-file", str(chain)]
    words += ["--unixsocket", str(folder / "socket"), "--dir", str(folder), "--save", "", "--loglevel", "warning"]
    rights = [f"~keelage:{namespace}:*", "+get", "+set", "+ping", "+select"]
    words += ["--user", "default", "on", f">{PASSWORD}", *rights]
    words += ["--user", "admin", "on", f">{PASSWORD}", "~*", "+@all"]
    return subprocess.Popen(words, executable="/usr/bin/redis-check-rdb", stdout=subprocess.DEVNULL)


@contextmanager
def valkey(kube: Kube, folder: Path, namespace: str) -> Iterator[Valkey]:
    """The server, found by pods under its documented name; gone afterwards."""
    packages.ensure(("redis-tools",), print)
    server = Valkey.begun(folder, namespace)
    kube.apply(SERVICE)
    try:
        yield server
    finally:
        server.kill()
        kube.kubectl("delete", "namespace", "caches", "--wait=false")
