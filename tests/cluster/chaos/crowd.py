"""The applications' calls, made from this one process inside the pods' networks: twenty interpreters less."""

from __future__ import annotations

import http.client
import json
import random
import re
import threading
import time
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from decimal import Decimal

from tests.cluster.chaos.network import PodNetwork
from tests.cluster.processes import process_of

PORT = 4000
"""Of the sidecar, on the pod's loopback."""
CALL_S = 45.0
"""Above the 30 s for which a sidecar may be stopped."""
PACE_S = 1.0
"""Between two calls of one caller, on average."""
HOT = 3
"""So many pods call ten times as much."""
HOT_CALLERS = 10
MAX_TOKENS = 200
MODEL = "claude-haiku-4-5"
HEADERS = {"content-type": "application/json", "anthropic-version": "2023-06-01"}

_UP_TO = re.compile(r"a request of up to ([0-9.]+) USD")


@dataclass(frozen=True, slots=True)
class Exhausted:
    """A call that was refused for good."""

    at_s: float
    """Unix seconds, when it was refused."""
    needed: int
    """Pico-dollars: what it might have cost."""


@dataclass(slots=True)
class Tally:
    """What became of the calls; filled by many threads, each under the lock."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    counts: Counter[str] = field(default_factory=Counter)
    """`ok`; `cut`: sent, and the answer did not come to its end; `nobody`: no sidecar listened;
    else the sidecar's reason for a refusal; `wrong`: anything else."""
    exhausted: list[Exhausted] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    """What nobody expects."""
    answered: set[str] = field(default_factory=set)
    """Uids of the pods in which a call was answered."""

    def count(self, outcome: str) -> None:
        with self.lock:
            self.counts[outcome] += 1

    def refuse(self, refused: Exhausted) -> None:
        with self.lock:
            self.counts["BudgetExhausted"] += 1
            self.exhausted.append(refused)

    def puzzle(self, text: str) -> None:
        with self.lock:
            self.counts["wrong"] += 1
            self.wrong.append(text)


@dataclass(slots=True)
class _Pod:
    network: PodNetwork
    left: threading.Event = field(default_factory=threading.Event)
    callers: list[threading.Thread] = field(default_factory=list)
    hot: bool = False


class Crowd:
    """Follows the pods that there are: `meet` again whenever they may have changed."""

    def __init__(self, seed: int) -> None:
        self.tally = Tally()
        self._seed = seed
        self._pods: dict[str, _Pod] = {}
        self._leaving: list[_Pod] = []

    @property
    def uids(self) -> tuple[str, ...]:
        """Of the pods that are called in, sorted."""
        return tuple(sorted(self._pods))

    def meet(self, ready: set[str], present: set[str]) -> None:
        """By uid: call in the pods that are ready, leave those that are not there any more."""
        for uid in set(self._pods) - present:
            self._leave(uid)
        for uid in sorted(ready - set(self._pods)):
            with suppress(ProcessLookupError, FileNotFoundError):  # at the next look
                self._enter(uid)

    def _enter(self, uid: str) -> None:
        hot = sum(pod.hot for pod in self._pods.values()) < HOT
        pod = self._pods[uid] = _Pod(PodNetwork(process_of(uid)), hot=hot)
        for number in range(HOT_CALLERS if hot else 1):
            caller = threading.Thread(target=self._call_on, args=(uid, pod, number), daemon=True)
            pod.callers.append(caller)
            caller.start()

    def _leave(self, uid: str) -> None:
        """Nobody waits here: a connection of a pod whose network was taken down says nothing until its time is over."""
        pod = self._pods.pop(uid)
        pod.left.set()
        self._leaving.append(pod)
        for each in [each for each in self._leaving if not any(caller.is_alive() for caller in each.callers)]:
            each.network.close()
            self._leaving.remove(each)

    def disperse(self) -> None:
        """No call is made any more; returns when all are answered or lost."""
        for pod in self._pods.values():
            pod.left.set()
        for uid in self.uids:
            self._leave(uid)
        for pod in self._leaving:
            for caller in pod.callers:
                caller.join()
            pod.network.close()
        self._leaving.clear()

    def _call_on(self, uid: str, pod: _Pod, number: int) -> None:
        dice = random.Random(f"{self._seed} {uid} {number}")
        while not pod.left.wait(dice.random() * 2 * PACE_S):
            self._call(uid, pod, dice.random() < 0.5)

    def _call(self, uid: str, pod: _Pod, stream: bool) -> None:
        try:
            socket = pod.network.connect(PORT, CALL_S)
        except OSError:
            self.tally.count("nobody")  # killed, and not up again
            return
        connection = http.client.HTTPConnection("127.0.0.1", PORT)
        connection.sock = socket
        try:
            connection.request("POST", "/v1/messages", _body(stream), HEADERS)
            answer = connection.getresponse()
            content = answer.read()
        except (OSError, http.client.HTTPException):
            self.tally.count("cut")
            return
        finally:
            connection.close()
        self._judge(uid, answer.status, dict(answer.getheaders()), content, stream)

    def _judge(self, uid: str, status: int, headers: Mapping[str, str], content: bytes, stream: bool) -> None:
        reason = headers.get("x-keelage-reason", "")
        if status == 200:
            whole = b"message_stop" in content if stream else b'"stop_reason"' in content
            self.tally.count("ok" if whole else "cut")
            with self.tally.lock:
                self.tally.answered.add(uid)
        elif reason == "BudgetExhausted":
            told = _UP_TO.search(content.decode())
            self.tally.refuse(Exhausted(time.time(), int(Decimal(told.group(1)) * 10**12) if told else 0))
        elif status == 503 and reason:
            self.tally.count(reason)
        else:
            self.tally.puzzle(f"HTTP {status} {reason}: {content[:300].decode('utf-8', 'replace')}")


def _body(stream: bool) -> bytes:
    return json.dumps(
        {
            "model": MODEL,
            "max_tokens": MAX_TOKENS,
            "messages": [{"role": "user", "content": "How much is left, and for whom? " * 3}],
            "stream": stream,
        }
    ).encode()
