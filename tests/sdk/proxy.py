"""`keelage run` as a user starts it, with a route to the fake provider and a budget that is never reached."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

__all__ = ["ProxyFailed", "manifests", "running", "unlimited"]

READY = "listening on "
STOP_S = 20.0


class ProxyFailed(RuntimeError):
    """The proxy ended before it listened; the text is what it said."""


def manifests(provider_url: str, anthropic_key: str, openai_key: str) -> str:
    """A Secret, a route that keeps every model's name, and a budget above all that the tests may spend."""
    return f"""\
apiVersion: v1
kind: Secret
metadata: {{name: llm-keys, namespace: shop}}
stringData: {{anthropic: {anthropic_key}, openai: {openai_key}}}
---
apiVersion: keelage.dev/v1alpha1
kind: LLMRoute
metadata: {{name: everything, namespace: shop}}
spec:
  backends:
  - name: anthropic
    provider: Anthropic
    endpoint: {provider_url}
    credentials: {{secretKeyRef: {{name: llm-keys, key: anthropic}}}}
    circuitBreaker: {{consecutiveFailures: 1000, failurePercent: 100, minCalls: 10000}}   # each failure is ordered
  - name: openai
    provider: OpenAI
    endpoint: {provider_url}
    credentials: {{secretKeyRef: {{name: llm-keys, key: openai}}}}
    circuitBreaker: {{consecutiveFailures: 1000, failurePercent: 100, minCalls: 10000}}   # each failure is ordered
  tiers:
  - name: as-asked
    models: [{{backend: anthropic}}, {{backend: openai}}]
  rules:
  - name: everything
    select: [{{tier: as-asked}}]
    retry: {{attempts: 3, backoff: {{base: 10ms, max: 100ms}}, budget: {{minRetries: 10000}}}}
---
apiVersion: keelage.dev/v1alpha1
kind: LLMBudget
metadata: {{name: plenty, namespace: shop}}
spec:
  limit: {{amount: "100.00", currency: USD}}
  window: {{every: Month, timeZone: UTC}}
  enforcement: Hard
"""


def unlimited(provider_url: str) -> str:
    """The same without the budget: nothing is refused for its cost."""
    text = manifests(provider_url, "sk-fake-anthropic", "sk-fake-openai")
    return "---\n".join(part for part in text.split("---\n") if "LLMBudget" not in part)


@contextlib.contextmanager
def running(folder: Path, text: str) -> Iterator[str]:
    """The base URL of a proxy that obeys the manifests in `text`. Raises `ProxyFailed`."""
    (folder / "manifests").mkdir()
    (folder / "manifests" / "all.yaml").write_text(text)
    command = [sys.executable, "-m", "keelage_operator.cli", "run", "-f", str(folder / "manifests")]
    command += ["--listen", f"127.0.0.1:{_free_port()}", "--state", str(folder / "state")]
    with subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True) as process:
        try:
            yield f"http://{_address(process)}"
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()


def _address(process: subprocess.Popen[str]) -> str:
    """Read standard error up to the line that names the address; go on reading, or the pipe would fill."""
    assert process.stderr is not None
    said: list[str] = []
    for line in process.stderr:
        said.append(line)
        _, found, address = line.rstrip().rpartition(READY)
        if found:
            log = threading.Thread(target=_drain, args=(process,), daemon=True)
            log.start()
            return address.split()[0]
    raise ProxyFailed("".join(said[-30:]))


def _drain(process: subprocess.Popen[str]) -> None:
    assert process.stderr is not None
    echo = os.environ.get("KEELAGE_TEST_LOG")
    with contextlib.suppress(ValueError):  # closed at the end of the test
        for line in process.stderr:
            if echo:
                print(line, end="")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port
