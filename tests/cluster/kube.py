"""kubectl and helm for tests, and one namespace with a provider of its own."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
SYSTEM = "keelage-system"
KEY = "key-of-the-tests"


class KubectlFailed(Exception):
    """kubectl said no; the text is what it said."""


@dataclass(frozen=True, slots=True)
class Kube:
    kubeconfig: str
    bin_dir: Path
    tags: Mapping[str, str]
    """Of the images by name, each by its content: an operator whose code changed restarts."""

    def kubectl(self, *words: str, stdin: str | None = None, timeout_s: float = 120) -> str:
        command = [str(self.bin_dir / "kubectl"), f"--kubeconfig={self.kubeconfig}", *words]
        done = subprocess.run(command, capture_output=True, text=True, input=stdin, check=False, timeout=timeout_s)
        if done.returncode != 0:
            raise KubectlFailed(f"kubectl {' '.join(words)}: {done.stderr.strip()}")
        return done.stdout

    def helm(self, *words: str, timeout_s: float = 300) -> str:
        command = [str(self.bin_dir / "helm"), f"--kubeconfig={self.kubeconfig}", *words]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=timeout_s)
        assert done.returncode == 0, f"helm {' '.join(words)}: {done.stdout}{done.stderr}"
        return done.stdout

    def json(self, *words: str) -> Any:
        return json.loads(self.kubectl(*words, "-o", "json"))

    def apply(self, manifest: str, *words: str) -> str:
        return self.kubectl("apply", "-f", "-", *words, stdin=manifest)

    def until(self, what: str, found: Callable[[], Any], seconds: float = 120) -> Any:
        """Poll until `found` gives something true; errors of kubectl count as not yet."""
        ends = time.monotonic() + seconds
        last: object = None
        while time.monotonic() < ends:
            try:
                last = found()
                if last:
                    return last
            except KubectlFailed as failure:
                last = failure
            time.sleep(0.3)
        raise AssertionError(f"waited {seconds:.0f} s for {what}; last seen: {last}")


@dataclass(frozen=True, slots=True)
class Space:
    """A labelled namespace with a provider that bills, not injected."""

    kube: Kube
    name: str

    def kubectl(self, *words: str, stdin: str | None = None) -> str:
        return self.kube.kubectl("-n", self.name, *words, stdin=stdin)

    def apply(self, manifest: str) -> str:
        return self.kube.apply(manifest, "-n", self.name)

    def json(self, *words: str) -> Any:
        return self.kube.json("-n", self.name, *words)

    def provider(self, path: str) -> Any:
        return json.loads(
            self.kube.kubectl("get", "--raw", f"/api/v1/namespaces/{self.name}/services/provider:80/proxy{path}")
        )

    def configure(self, **settings: object) -> None:
        """Change how the provider behaves, as `/fake/config` takes it."""
        path = f"/api/v1/namespaces/{self.name}/services/provider:80/proxy/fake/config"
        self.kube.kubectl("create", "--raw", path, "-f", "-", stdin=json.dumps(settings))

    def received(self) -> list[Mapping[str, Any]]:
        """The newest requests that the provider got, each with its `json`."""
        return [each | {"json": json.loads(each["body"] or "{}")} for each in self.provider("/fake/requests")]

    def bill(self) -> int:
        """What the provider itself says it is owed, in pico-dollars."""
        return int(Decimal(self.provider("/fake/bill")["usd"]) * 10**12)

    def budget(self, name: str = "cap") -> Mapping[str, Any]:
        status: Mapping[str, Any] = self.json("get", "llmbudget", name).get("status", {})
        return status

    def savings(self, route: str, by: str) -> Mapping[str, Any]:
        """What the route's status says that was saved that way; empty: nothing yet."""
        found = self.json("get", "llmroute", route).get("status", {}).get("savings", ())
        return next((dict(each) for each in found if each["by"] == by), {})

    def condition(self, kind: str, name: str, condition: str) -> Mapping[str, Any]:
        for found in self.json("get", kind, name).get("status", {}).get("conditions", []):
            if found["type"] == condition:
                return dict(found)
        return {}

    def pods(self, selector: str) -> list[Mapping[str, Any]]:
        return list(self.json("get", "pods", "-l", selector)["items"])

    def ready(self, deployment: str, replicas: int) -> None:
        self.kube.until(
            f"{replicas} ready replicas of {self.name}/{deployment}",
            lambda: self.json("get", "deploy", deployment).get("status", {}).get("readyReplicas", 0) == replicas,
            180,
        )


PROVIDER = """
apiVersion: v1
kind: Pod
metadata: {name: provider, labels: {app: provider, keelage.dev/inject: "false"}}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: provider
    image: keelage/demo:dev
    imagePullPolicy: IfNotPresent
    command: [python3, -m, keelage_dev.provider, --listen, "0.0.0.0:8080", --key, tests=KEY, --set, output_tokens=40]
    readinessProbe: {tcpSocket: {port: 8080}, periodSeconds: 1}
---
apiVersion: v1
kind: Service
metadata: {name: provider}
spec:
  selector: {app: provider}
  ports: [{port: 80, targetPort: 8080}]
---
apiVersion: v1
kind: Secret
metadata: {name: llm-keys}
stringData: {provider: KEY, anthropic: KEY, openai: KEY}
""".replace("KEY", KEY)

ROUTE = """
apiVersion: keelage.dev/v1alpha1
kind: LLMRoute
metadata: {name: assistant}
spec:
  backends:
  - name: anthropic
    provider: Anthropic
    endpoint: http://provider.NAMESPACE.svc
    credentials: {secretKeyRef: {name: llm-keys, key: provider}}
  - name: openai
    provider: OpenAI
    endpoint: http://provider.NAMESPACE.svc
    credentials: {secretKeyRef: {name: llm-keys, key: provider}}
  tiers:
  - name: fast
    models: [{backend: anthropic, model: claude-haiku-4-5}, {backend: openai, model: gpt-4o-mini}]
  rules:
  - {name: everything, select: [{tier: fast}], retry: {attempts: 3}}
"""

BUDGET = """
apiVersion: keelage.dev/v1alpha1
kind: LLMBudget
metadata: {name: cap}
spec:
  limit: {amount: "AMOUNT", currency: USD}
  window: {every: Month, timeZone: UTC}
  enforcement: Hard
"""


def program(name: str, replicas: int, source: str, *, labels: str = "", env: str = "") -> str:
    """A Deployment whose one container runs a Python program with both SDKs at hand."""
    body = "\n".join(f"    {line}" for line in source.strip().splitlines())
    return f"""
apiVersion: v1
kind: ConfigMap
metadata: {{name: {name}}}
data:
  program.py: |
{body}
---
apiVersion: apps/v1
kind: Deployment
metadata: {{name: {name}}}
spec:
  replicas: {replicas}
  selector: {{matchLabels: {{app: {name}}}}}
  template:
    metadata: {{labels: {{app: {name}{labels}}}}}
    spec:
      terminationGracePeriodSeconds: 3
      containers:
      - name: app
        image: keelage/demo:dev
        imagePullPolicy: IfNotPresent
        command: [python3, -u, /program/program.py]
        env: [{env}]
        volumeMounts: [{{name: program, mountPath: /program}}]
      volumes: [{{name: program, configMap: {{name: {name}}}}}]
"""
