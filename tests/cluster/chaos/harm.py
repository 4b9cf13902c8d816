"""Carries out the plan's strokes on the real cluster, each in a thread of its own, and mends everything afterwards."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack, suppress
from typing import TypeVar

from tests.cluster.chaos.network import cut, gate
from tests.cluster.chaos.plan import Fault, Stroke
from tests.cluster.conftest import leader
from tests.cluster.kube import SYSTEM, Kube, KubectlFailed, Space
from tests.cluster.processes import OPERATOR, kill, process_of, stopped

from keelage_dev import cluster

POD_RANGE = "10.88.0.0/16"
SYNC_PORT = "8443"
API_PORT = "6443"
FIND_S = 8.0
"""To find whom to hit: the API server may be away, and a process between two lives."""
Found = TypeVar("Found")


class Harm:
    def __init__(self, space: Space, deployment: str, pods: int, victims: Callable[[], tuple[str, ...]]) -> None:
        """`victims`: uids of the pods whose sidecars may be hit."""
        self._space = space
        self._deployment = deployment
        self._pods = pods
        self._victims = victims
        self._ended = threading.Event()
        self._api = threading.Lock()
        """Whoever kills the API server brings it up again before the next does."""
        self.done: Counter[Fault] = Counter()
        self.missed: list[str] = []
        """Strokes that found nobody to hit: not wrong, but not done either."""

    def run(self, strokes: tuple[Stroke, ...]) -> None:
        """Returns when the last stroke is over and everything is put back."""
        began_s = time.monotonic()
        threads = []
        with gate():
            try:
                for stroke in strokes:
                    self._ended.wait(max(0.0, began_s + stroke.at_s - time.monotonic()))
                    threads.append(threading.Thread(target=self._strike, args=(stroke,), daemon=True))
                    threads[-1].start()
            finally:
                for thread in threads:
                    thread.join()
                self._mend()
            for stroke in strokes:  # that found nobody at its time, as of the one pod that others were at
                if stroke.fault not in self.done:
                    self._strike(stroke)
                    self._mend()

    def _strike(self, stroke: Stroke) -> None:
        try:
            self._hit(stroke)
        except (ProcessLookupError, KubectlFailed, cluster.ClusterError) as missed:
            self.missed.append(f"{stroke.fault}: {missed}")
        else:
            self.done[stroke.fault] += 1

    def _hit(self, stroke: Stroke) -> None:
        match stroke.fault:
            case Fault.KILL_SIDECAR:
                os.kill(self._sidecar(stroke), signal.SIGKILL)
            case Fault.KILL_LEADER:
                kill(_leader_uid(self._space.kube), OPERATOR)
            case Fault.KILL_API_SERVER:
                with self._api:
                    cluster.kill("kube-apiserver", signal.SIGKILL)
                    self._ended.wait(stroke.lasts_s)
                    cluster.up()
            case Fault.STOP_SIDECAR:
                with stopped(self._sidecar(stroke)):
                    self._ended.wait(stroke.lasts_s)
            case Fault.STOP_LEADER:
                with stopped(process_of(_leader_uid(self._space.kube), OPERATOR)):
                    self._ended.wait(stroke.lasts_s)
            case Fault.CUT_SIDECARS:
                # The API server's own calls of the webhook come from the host and are not forwarded.
                with cut("-s", POD_RANGE, "--dport", SYNC_PORT, silently=stroke.draw < 0.5):
                    self._ended.wait(stroke.lasts_s)
            case Fault.CUT_OPERATORS:
                with ExitStack() as cuts:
                    for address in _found(lambda: _addresses(self._space.kube)):
                        cuts.enter_context(cut("-s", address, "--dport", API_PORT, silently=stroke.draw < 0.5))
                    self._ended.wait(stroke.lasts_s)
            case Fault.SCALE:
                self._scale(1)
                self._ended.wait(stroke.lasts_s)
                self._scale(self._pods)

    def _sidecar(self, stroke: Stroke) -> int:
        """The process of the one that the stroke draws, or of the next that has one."""

        def process() -> list[int]:
            uids = self._victims()
            first = int(stroke.draw * len(uids))
            for uid in (*uids[first:], *uids[:first]):
                with suppress(ProcessLookupError):
                    return [process_of(uid)]
            return []

        return _found(process)[0]

    def _scale(self, replicas: int) -> None:
        words = ("scale", "deploy", self._deployment, f"--replicas={replicas}")
        self._space.kube.until(f"{replicas} replicas to be wanted", lambda: self._space.kubectl(*words), 90)

    def _mend(self) -> None:
        with self._api:
            cluster.up()
        self._scale(self._pods)


def _found(look: Callable[[], list[Found]]) -> list[Found]:
    ends_s = time.monotonic() + FIND_S
    while True:
        try:
            found = look()
        except KubectlFailed as failure:
            if time.monotonic() > ends_s:
                raise ProcessLookupError(str(failure)) from failure
            found = []
        if found:
            return found
        if time.monotonic() > ends_s:
            raise ProcessLookupError("nobody was there to be hit")
        time.sleep(0.3)


def _leader_uid(kube: Kube) -> str:
    def uid() -> list[str]:
        name = leader(kube)
        return [str(kube.json("-n", SYSTEM, "get", "pod", name)["metadata"]["uid"])] if name else []

    return _found(uid)[0]


def _addresses(kube: Kube) -> list[str]:
    """Of the operators' pods."""
    found = kube.json("-n", SYSTEM, "get", "pods", "-l", "app.kubernetes.io/component=operator")["items"]
    return [str(pod["status"]["podIP"]) for pod in found if pod["status"].get("podIP")]
