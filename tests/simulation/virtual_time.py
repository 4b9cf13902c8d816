"""An event loop whose clock jumps to the next timer: what takes a minute takes no time, and always the same.

It waits for nothing outside itself, so it has no selector, no pipe and no threads: a heap of timers and a queue of
what is ready, run in the order of asyncio's own loop. What runs on it may belong to processes that are stopped and
go on (SIGSTOP), each with a clock of its own.
"""

from __future__ import annotations

import asyncio
import contextvars
from asyncio import events
from collections import deque
from collections.abc import Callable, Coroutine
from heapq import heappop, heappush
from typing import TypeVar, TypeVarTuple, Unpack

import msgspec

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

TURNS_MAX = 5_000_000
"""Callbacks; more is a loop that never ends."""
_PROCESS: contextvars.ContextVar[Process] = contextvars.ContextVar("process")


class _Handle(msgspec.Struct, eq=False):
    """Nothing of a TimerHandle but its interface: millions of these are made."""

    process: Process
    when_s: float
    callback: Callable[..., object]
    args: tuple[object, ...]
    gone: bool = False

    def cancel(self) -> None:
        self.gone = True
        self.args = ()

    def cancelled(self) -> bool:
        return self.gone

    def when(self) -> float:
        return self.when_s


class Process:
    """Tasks that are stopped together, and the clock that they read: seconds, `rate` for each true one."""

    def __init__(self, rate: float = 1.0, began_s: float = 0.0) -> None:
        self.rate = rate
        self.began_s = began_s
        self.stopped = False
        self.backlog: list[_Handle] = []
        self.context = contextvars.Context()
        self.context.run(_PROCESS.set, self)

    def stop(self) -> None:
        """SIGSTOP: nothing of it runs any more, while its clock goes on."""
        self.stopped = True

    def go_on(self) -> None:
        """SIGCONT: all that came due runs now."""
        self.stopped = False
        running().ready.extend(self.backlog)
        self.backlog.clear()

    def create_task(self, work: Coroutine[object, object, T]) -> asyncio.Task[T]:
        return asyncio.get_running_loop().create_task(work, context=self.context)

    def call_later(self, delay_s: float, callback: Callable[[], object]) -> None:
        """After so many true seconds."""
        loop = running()
        loop.set_timer(self, loop.true_s + delay_s, callback, ())


class VirtualLoop(asyncio.BaseEventLoop):
    """What asyncio's tasks, futures, locks and timeouts ask of a loop."""

    def __init__(self) -> None:
        super().__init__()
        self.ready: deque[_Handle] = deque()
        self._now_s = 0.0
        self._timers: list[tuple[float, int, _Handle]] = []
        self._count = 0
        self.outside = self._process = Process()
        """What belongs to no other; and whose callback runs."""
        self._failures: list[BaseException] = []

    @property
    def true_s(self) -> float:
        """Whatever the clock of the process says that runs now."""
        return self._now_s

    def time(self) -> float:
        process = self._process
        return process.began_s + self._now_s * process.rate

    # Its futures and tasks ask for it, each: no frame of Python for that.
    get_debug = staticmethod(bool)

    def call_soon(  # type: ignore[override]  # a _Handle will do
        self,
        callback: Callable[[Unpack[Ts]], object],
        *args: *Ts,
        context: contextvars.Context | None = None,
    ) -> _Handle:
        process = self._process if context is None else context.get(_PROCESS, self._process)
        handle = _Handle(process, self._now_s, callback, args)
        self.ready.append(handle)
        return handle

    def call_at(  # type: ignore[override]
        self,
        when: float,
        callback: Callable[[Unpack[Ts]], object],
        *args: *Ts,
        context: contextvars.Context | None = None,
    ) -> _Handle:
        process = self._process
        return self.set_timer(process, (when - process.began_s) / process.rate, callback, args)

    def call_later(  # type: ignore[override]
        self,
        delay: float,
        callback: Callable[[Unpack[Ts]], object],
        *args: *Ts,
        context: contextvars.Context | None = None,
    ) -> _Handle:
        process = self._process
        when = process.began_s + self._now_s * process.rate + delay
        return self.set_timer(process, (when - process.began_s) / process.rate, callback, args)

    def set_timer(
        self, process: Process, true_s: float, callback: Callable[[Unpack[Ts]], object], args: tuple[*Ts]
    ) -> _Handle:
        handle = _Handle(process, true_s * process.rate + process.began_s, callback, args)
        self._count += 1  # timers of one instant fire in the order in which they were set
        heappush(self._timers, (true_s, self._count, handle))
        return handle

    def create_future(self) -> asyncio.Future[object]:
        return asyncio.Future(loop=self)

    def create_task(  # type: ignore[override]  # generators are no coroutines here
        self,
        coro: Coroutine[object, object, T],
        *,
        name: str | None = None,
        context: contextvars.Context | None = None,
    ) -> asyncio.Task[T]:
        return asyncio.Task(coro, loop=self, name=name, context=context or self._process.context)

    def call_exception_handler(self, context: dict[str, object]) -> None:
        """A callback or a task that nobody awaits has failed: so has the test."""
        failure = context.get("exception")
        self._failures.append(failure if isinstance(failure, BaseException) else RuntimeError(str(context)))

    def turn(self, done: Callable[[], bool]) -> None:
        """Run what is ready and then what comes next, until `done`. AssertionError if that never comes."""
        ready, timers = self.ready, self._timers
        turns = 0
        while not done():
            if not ready:
                assert timers, "everybody waits and no timer runs"
                when_s, _, handle = heappop(timers)
                if handle.gone:
                    continue
                if when_s > self._now_s:
                    self._now_s = when_s
                ready.append(handle)
                while timers and timers[0][0] <= self._now_s:
                    ready.append(heappop(timers)[2])
            for _ in range(len(ready)):
                handle = ready.popleft()
                if handle.gone:
                    continue
                process = handle.process
                if process.stopped:
                    process.backlog.append(handle)
                    continue
                self._process = process
                handle.callback(*handle.args)
                turns += 1
            assert turns < TURNS_MAX, "the loop does not come to an end"
        self._process = self.outside
        if self._failures:
            raise self._failures[0]


def running() -> VirtualLoop:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop)
    return loop


def run(main: Coroutine[object, object, T]) -> T:
    """As asyncio.run, on virtual time that begins at 0."""
    loop = VirtualLoop()
    events._set_running_loop(loop)
    try:
        task = loop.create_task(main)
        try:
            loop.turn(task.done)
        finally:
            left = asyncio.all_tasks(loop)
            for each in left:
                each.cancel()
            loop.turn(lambda: all(each.done() for each in left))
        return task.result()
    finally:
        events._set_running_loop(None)
        loop.close()
