"""One contender at a time on a core of its own: what it costs, by the kernel's own account."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from keelage_dev.bench.contender import Api, Contender, Place
from keelage_dev.bench.programs import BenchFailed, Programs

START_S = 90.0
TICKS = os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGE_SIZE")
PROXY_CORE, LOAD_CORE = "0", "1"
STREAMS = 1000
HELD_S = 20
"""Between the first and the last event of those streams: LiteLLM needs eight seconds to begin them."""
POOLED = 300
"""Connections that a contender may keep to the provider; nginx is told to keep 256."""
WARM_S = 20.0
"""Within which a contender must answer each connection once, to be measured at all."""
TURNS = 3
"""A run lasts until each connection should have been answered that often, and no longer than LONGEST_S."""
LONGEST_S = 15.0
BUSY_S = 0.05
"""CPU time in half a second that is more than idling."""


@dataclass(frozen=True, slots=True)
class Result:
    """Of one run against one contender."""

    answers: int
    failed: int
    seconds: float
    per_s: float
    p50_us: float
    p99_us: float
    first_p50_us: float
    first_p99_us: float
    events: int
    events_per_s: float
    reconnects: int
    last_failure: str
    cpu_s: float
    """Of the contender's processes during the run; 0 for direct."""

    @property
    def cpu_us_per_answer(self) -> float:
        return self.cpu_s * 1e6 / self.answers if self.answers else 0.0

    @property
    def cpu_us_per_event(self) -> float:
        return self.cpu_s * 1e6 / self.events if self.events else 0.0


@dataclass(slots=True)
class Running:
    """A contender that is up."""

    contender: Contender
    place: Place
    process: subprocess.Popen[bytes]
    start_s: float
    idle_kib: int

    def pids(self) -> list[int]:
        """The process and all below it."""
        found = [self.process.pid]
        for pid in found:
            for task in Path(f"/proc/{pid}/task").iterdir():
                found += [int(child) for child in (task / "children").read_text().split()]
        return found

    def cpu_s(self) -> float:
        total = 0
        for pid in self.pids():
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
            total += int(fields[11]) + int(fields[12])
        return total / TICKS

    def rss_kib(self) -> int:
        return sum(int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * PAGE // 1024 for pid in self.pids())

    def signal(self, number: signal.Signals) -> None:
        for pid in self.pids():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    def files(self) -> int:
        return sum(len(os.listdir(f"/proc/{pid}/fd")) for pid in self.pids())


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def started(contender: Contender, provider: int, stack: contextlib.ExitStack) -> Running:
    """The contender, answering. Raises BenchFailed."""
    home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix=f"bench-{contender.name}-")))
    place = Place(home, free_port(), provider, _two_free_ports())
    launch = contender.launch(place)
    if launch.beside:
        stack.enter_context(_process(launch.beside, {}, home / "beside.log", LOAD_CORE))
        _until(lambda: _connects(place.control), f"what stands beside {contender.name}", home / "beside.log")
    began_s = time.monotonic()
    process = stack.enter_context(_process(launch.command, launch.env, home / "output.log", PROXY_CORE))
    running = Running(contender, place, process, 0.0, 0)
    _until(lambda: _connects(place.port), contender.name, home / "output.log", process)
    running.start_s = time.monotonic() - began_s
    _until(lambda: _answers(running), contender.name, home / "output.log", process)
    time.sleep(1.0)
    running.idle_kib = running.rss_kib()
    return running


def _two_free_ports() -> int:
    while True:
        port = free_port()
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.bind(("127.0.0.1", port + 1))
            return port


@contextlib.contextmanager
def _process(command: Sequence[str], env: Mapping[str, str], log: Path, core: str) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("wb") as file:
        process = subprocess.Popen(
            ["taskset", "-c", core, *command],
            stdout=file,
            stderr=file,
            env={**os.environ, **env},
            start_new_session=True,
        )
        try:
            yield process
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGCONT)
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _until(ready: Callable[[], bool], who: str, log: Path, process: subprocess.Popen[bytes] | None = None) -> None:
    ends_s = time.monotonic() + START_S
    while not ready():
        if time.monotonic() > ends_s or (process is not None and process.poll() is not None):
            raise BenchFailed(f"{who} did not start: {log.read_text(errors='replace').strip()[-800:]}")
        time.sleep(0.002)


def _connects(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _answers(running: Running) -> bool:
    """Whether a call comes back as the provider answers it; a proxy may listen long before."""
    headers = dict(line.split(": ", 1) for line in running.contender.headers(Api.MESSAGES, running.place))
    request = urllib.request.Request(
        f"http://127.0.0.1:{running.place.port}{Api.MESSAGES.value}",
        body(Api.MESSAGES),
        {**headers, "content-type": "application/json"},
    )
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return bool(answer.status == 200)
    except OSError:
        time.sleep(0.1)
        return False


def body(api: Api, *, stream: bool = False, size: int = 1024) -> bytes:
    """A request of about that many bytes, most of it one message."""
    model = "claude-haiku-4-5" if api is Api.MESSAGES else "gpt-4o-mini"
    cap = "max_tokens" if api is Api.MESSAGES else "max_completion_tokens"
    fixed = {"model": model, cap: 300, "stream": stream, "messages": [{"role": "user", "content": ""}]}
    words = "A sentence of plain words that a person might write. " * (size // 50 + 1)
    room = max(0, size - len(json.dumps(fixed)))
    fixed["messages"] = [{"role": "user", "content": words[:room]}]
    return json.dumps(fixed, separators=(",", ":")).encode()


@dataclass(frozen=True, slots=True)
class Shot:
    """What the load does in one run."""

    api: Api
    connections: int
    seconds: float
    stream: bool = False
    size: int = 1024


def fire(
    programs: Programs, shot: Shot, port: int, headers: Sequence[str], running: Running | None, *, count: int = 0
) -> Result:
    """One run. `running` None: straight to the provider; `count`: so many calls, however long they take."""
    with _load(programs, shot, port, headers, -count or shot.seconds) as command:
        before_s = running.cpu_s() if running is not None else 0.0
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        after_s = running.cpu_s() if running is not None else 0.0
    if done.returncode != 0:
        raise BenchFailed(f"load: {done.stderr.strip()}")
    return Result(**json.loads(done.stdout), cpu_s=after_s - before_s)


def warmed(programs: Programs, shot: Shot, port: int, headers: Sequence[str]) -> Shot | None:
    """The shot, longer where the contender is slow; None: it did not answer each connection once in time."""
    began_s = time.monotonic()
    with _load(programs, shot, port, headers, -shot.connections) as command:
        try:
            subprocess.run(command, capture_output=True, check=True, timeout=WARM_S)
        except subprocess.TimeoutExpired:
            return None
    turn_s = time.monotonic() - began_s
    return replace(shot, seconds=max(shot.seconds, min(LONGEST_S, TURNS * turn_s)))


@contextlib.contextmanager
def holding(programs: Programs, shot: Shot, running: Running) -> Iterator[None]:
    """Calls that are begun and then held open."""
    headers = running.contender.headers(shot.api, running.place)
    with _load(programs, shot, running.place.port, headers, 0) as command, subprocess.Popen(command) as process:
        try:
            yield
        finally:
            process.terminate()


def stream_kib(programs: Programs, provider: int, running: Running) -> float:
    """Memory that each of a thousand open streams takes; meant for a contender that has not had so many yet."""
    pace(provider, gap_us=HELD_S * 1_000_000, events=2)
    before_kib, before_files = running.rss_kib(), running.files()
    with holding(programs, Shot(Api.MESSAGES, STREAMS, 0, stream=True), running):
        seen = 0
        for _ in range(40):
            time.sleep(0.5)
            now = running.files()
            if now == seen:
                break
            seen = now
        open_kib = running.rss_kib()
    # What is measured next must not pay for the end of these; some go on until the provider has said all.
    for _ in range(6 * HELD_S):
        cpu_s = running.cpu_s()
        time.sleep(0.5)
        if running.files() <= before_files + POOLED and running.cpu_s() - cpu_s < BUSY_S:
            break
    return (open_kib - before_kib) / STREAMS


@contextlib.contextmanager
def _load(programs: Programs, shot: Shot, port: int, headers: Sequence[str], seconds: float) -> Iterator[list[str]]:
    """The command, while the file that it reads is there."""
    with tempfile.NamedTemporaryFile(suffix=".json") as file:
        file.write(body(shot.api, stream=shot.stream, size=shot.size))
        file.flush()
        command = ["taskset", "-c", LOAD_CORE, str(programs.load), str(port), str(shot.connections)]
        yield [*command, str(seconds), shot.api.value, file.name, *headers]


def pace(provider: int, *, delay_us: int = 0, gap_us: int = 0, events: int = 100) -> None:
    """How the provider streams from now on."""
    urllib.request.urlopen(
        f"http://127.0.0.1:{provider}/pace?delay={delay_us}&gap={gap_us}&events={events}", timeout=5
    ).close()


@contextlib.contextmanager
def providing(programs: Programs) -> Iterator[int]:
    """The provider on the load's core; its port."""
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="bench-provider-") as home:
        log = Path(home) / "log"
        with _process([str(programs.provider), str(port)], {}, log, LOAD_CORE) as process:
            _until(lambda: _connects(port), "the provider", log, process)
            yield port
