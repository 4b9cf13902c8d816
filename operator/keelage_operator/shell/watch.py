"""kopf as the watcher: event handlers that hand every object to the catalog, and nothing else.

kopf owns the thread and the loop that it runs in, since it takes every task of its loop
for its own. No handler here has a state: no finalizers, no annotations, no Events. An
error of a stream that kopf cannot mend ends it, and with it the process.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import cast

import kopf

from keelage_api.v1alpha1.metadata import GROUP, VERSION
from keelage_operator.shell.catalog import Kind, Seen
from keelage_operator.shell.cluster import Json

LOG = logging.getLogger(__name__)

INJECTED_LABEL = "keelage.dev/injected"
INJECTED_SELECTOR = f"{INJECTED_LABEL}=true"
"""Only injected pods are watched: the others of a large cluster cost nothing."""

SERVER_TIMEOUT_S = 300  # the API server takes whole numbers only
CLIENT_TIMEOUT_S = 330.0
CONNECT_TIMEOUT_S = 10.0
"""Watches that are never renewed die unnoticed (nolar/kopf#955): the server ends them, else the client does."""

STOP_TIMEOUT_S = 5.0

HUNG_S = 60.0
"""Without an answer of the watcher's own loop."""


class Patience:
    """Pauses between attempts to reach the API server, in seconds; they never end.

    With kopf's own nine an outage of a minute would end every replica, and what they
    know, and the kubelet would be slow to start them again.
    """

    def __iter__(self) -> Iterator[float]:
        yield from (1.0, 1.0, 2.0, 3.0, 5.0)
        while True:
            yield 10.0


class Watch:
    """`observe` and `gone` are called in the loop that `start` was called in."""

    def __init__(
        self,
        observe: Callable[[Seen], object],
        gone: Callable[[Seen], object],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._observe = observe
        self._gone = gone
        self._stop: tuple[asyncio.AbstractEventLoop, asyncio.Event] | None = None
        self._stopping = False
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ended: asyncio.Future[None] | None = None
        self._clock = clock
        self.last_event_s = clock()
        """When anything was last heard, on the monotonic clock."""
        self._asked_s: float | None = None
        self._missed_s: float | None = None
        self._deaf = False

    @property
    def alive(self) -> bool:
        return self._thread is not None and self._thread.is_alive()

    def well(self) -> bool:
        """Whether the watcher's loop answers, and tells what there is to tell; asks it anew.

        Silence alone is no sign: in a quiet cluster nothing happens for days.
        """
        if self._deaf:
            return False
        if self._stop is None or not self.alive:
            return True  # not begun, or its end ends the process
        now_s = self._clock()
        if self._asked_s is None:
            self._asked_s = now_s
            with suppress(RuntimeError):  # its loop has ended meanwhile
                self._stop[0].call_soon_threadsafe(self._answer)
        asked_s = self._asked_s
        return asked_s is None or now_s - asked_s < HUNG_S

    def _answer(self) -> None:
        self._asked_s = None

    def missed(self) -> None:
        """A list found what was not told. Once may be chance; again, later and without a word in between, is a
        dead watch."""
        now_s = self._clock()
        if self._missed_s is None or self.last_event_s >= self._missed_s:
            self._missed_s = now_s
        elif now_s - self._missed_s >= HUNG_S:
            LOG.error("the watch tells nothing while objects change: the process is to be restarted")
            self._deaf = True

    async def run(self) -> None:
        """Watch until cancelled; returns or raises if the watcher ends by itself."""
        self._loop = asyncio.get_running_loop()
        self._ended = self._loop.create_future()
        self._thread = threading.Thread(target=self._main, name="watch", daemon=True)
        self._thread.start()
        try:
            await asyncio.shield(self._ended)
        finally:
            self._request_stop()
            await asyncio.to_thread(self._thread.join, STOP_TIMEOUT_S)

    def _main(self) -> None:
        failure: BaseException | None = None
        try:
            asyncio.run(self._kopf())
        except BaseException as error:  # noqa: BLE001 - whatever ended the thread ends the process, in its main loop
            failure = error
        assert self._loop is not None
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._end, failure)

    async def _kopf(self) -> None:
        # An event of kopf's own loop: with one of `threading` kopf cannot end by itself when a watch fails.
        stop = asyncio.Event()
        self._stop = (asyncio.get_running_loop(), stop)
        if self._stopping:
            return
        await kopf.operator(
            registry=self._registry(),
            settings=_settings(),
            # Of no use without peers, but made from the user's name otherwise, and the image's user has none.
            identity="keelage",  # type: ignore[arg-type]  # a NewType of str that kopf keeps to itself
            clusterwide=True,
            standalone=True,
            stop_flag=stop,
        )

    def _request_stop(self) -> None:
        self._stopping = True
        if self._stop is not None and self.alive:
            loop, event = self._stop
            with suppress(RuntimeError):  # its loop has ended meanwhile
                loop.call_soon_threadsafe(event.set)

    def _end(self, failure: BaseException | None) -> None:
        assert self._ended is not None
        if self._ended.done():
            return
        if failure is None:
            self._ended.set_result(None)
        else:
            LOG.error("the watcher ended: %s", failure or type(failure).__name__)
            self._ended.set_exception(failure if isinstance(failure, Exception) else RuntimeError(str(failure)))

    def _registry(self) -> kopf.OperatorRegistry:
        """A registry of its own, so that nothing registers itself by being imported."""
        registry = kopf.OperatorRegistry()

        async def login(settings: kopf.OperatorSettings, **_: object) -> kopf.ConnectionInfo | None:
            return kopf.login_with_service_account(settings=settings) or kopf.login_with_kubeconfig(settings=settings)

        kopf.on.login(registry=registry)(login)
        kopf.on.event(GROUP, VERSION, Kind.ROUTE.value, registry=registry, id="route")(self._handler(Kind.ROUTE))
        kopf.on.event(GROUP, VERSION, Kind.BUDGET.value, registry=registry, id="budget")(self._handler(Kind.BUDGET))
        kopf.on.event("", "v1", Kind.POD.value, registry=registry, id="pod")(self._handler(Kind.POD))
        return registry

    def _handler(self, kind: Kind) -> Callable[..., object]:
        async def hand_over(event: dict[str, object], **_: object) -> None:
            seen = Seen.of(kind, cast(Json, event["object"]))
            assert self._loop is not None
            deleted = event["type"] == "DELETED"
            self._loop.call_soon_threadsafe(self._take, self._gone if deleted else self._observe, seen)

        return hand_over

    def _take(self, sink: Callable[[Seen], object], seen: Seen) -> None:
        self.last_event_s = self._clock()
        sink(seen)


def _settings() -> kopf.OperatorSettings:
    settings = kopf.OperatorSettings()
    settings.posting.enabled = False
    settings.scanning.disabled = True
    settings.watching.server_timeout = SERVER_TIMEOUT_S
    settings.watching.client_timeout = CLIENT_TIMEOUT_S
    settings.watching.connect_timeout = CONNECT_TIMEOUT_S
    settings.queueing.exit_timeout = 0.2  # nothing is under way that a handler would have to end
    settings.networking.error_backoffs = Patience()
    settings.networking.connect_timeout = CONNECT_TIMEOUT_S
    settings.watching.label_selectors["", "v1", Kind.POD.value] = INJECTED_SELECTOR
    return settings
