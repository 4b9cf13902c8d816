"""The operator's HTTPS border: admission and the control channel, in every replica.

Each path has its own bounds on body, time and concurrency; beyond them it answers 413,
408 and 503, and callers come again. Nothing is decided here.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

import msgspec
from aiohttp import web

from keelage_api.codec import decode, encode
from keelage_api.errors import KeelageError, MessageError
from keelage_api.mounted import MountedKey
from keelage_api.sync import CONFIG_PATH, SYNC_PATH, ConfigRequest, SyncRequest
from keelage_operator.core.identity import PodIdentity
from keelage_operator.core.inject import Injected, InjectionPlan, inject
from keelage_operator.core.price_book import Book
from keelage_operator.core.review import Request, allow, deny, read_review
from keelage_operator.core.sidecar_template import SidecarTemplate
from keelage_operator.core.validate import validate
from keelage_operator.shell.config_channel import WAIT_MAX_S, ConfigChannel, Forbidden, SyncChannel, Unavailable
from keelage_operator.shell.route_source import RouteSource
from keelage_operator.shell.token_review import ReviewUnavailable, TokenReviewer, Unknown

LOG = logging.getLogger(__name__)

INJECT_PATH = "/inject"
VALIDATE_PATH = "/validate"
PORT = 8443

BODY_S = 5.0
"""To read a body: a client that dribbles must not hold a place."""

HEAD_BYTES_MAX = 16 * 1024
"""One header field; bound service account tokens are about 1 KiB."""

GOODBYE_S = 3.0
"""For answers on the way when the server stops."""


@dataclass(frozen=True, slots=True)
class Bounds:
    body_bytes: int
    answer_s: float
    """For the answer, after the body was read."""
    at_once: int
    bytes_at_once: int = 64 * 1024 * 1024
    """Of all bodies under way: anybody in the cluster can send some, and the container's memory is limited."""


ADMISSION = Bounds(body_bytes=4 * 1024 * 1024, answer_s=4.0, at_once=128)
"""A review holds two objects of at most 1.5 MiB; the webhook's own timeout is 5 s."""

CONFIG = Bounds(body_bytes=4 * 1024, answer_s=WAIT_MAX_S + 10.0, at_once=20_000)
"""A waiting poll costs a few KiB: as many as sidecars that one replica may have to serve."""

SYNC = Bounds(body_bytes=256 * 1024, answer_s=10.0, at_once=2_000)


class CredentialsReader(Protocol):
    async def credentials_for(self, namespace: str, labels: Mapping[str, str]) -> tuple[MountedKey, ...]: ...


@dataclass(frozen=True, slots=True)
class Border:
    """What the paths need."""

    routes: RouteSource
    credentials: CredentialsReader
    """For routes that the watch has not shown yet."""
    book: Book
    template: Callable[[], SidecarTemplate]
    """Asked anew for each pod: the trust bundle in it may have changed."""
    reviewer: TokenReviewer
    configs: ConfigChannel
    syncs: SyncChannel


Answer = Callable[[web.Request, bytes], Awaitable[web.Response]]


def application(border: Border) -> web.Application:
    """The four paths, bounded."""
    app = web.Application()

    async def injecting(_: web.Request, body: bytes) -> web.Response:
        request = read_review(body)
        if not border.routes.synced():
            # Not a denial: `failurePolicy` decides, and controllers create the pod again.
            raise Unavailable("the operator is starting: routes are not listed yet")
        return _review(await _injection(request, border))

    async def validating(_: web.Request, body: bytes) -> web.Response:
        request = read_review(body)
        verdict = validate(request, border.book)
        if verdict.allowed:
            return _review(allow(request.uid))
        return _review(deny(request.uid, verdict.reason, verdict.message, code=422))

    async def configuring(request: web.Request, body: bytes) -> web.Response:
        pod = await _identify(request, border.reviewer)
        return _message(await border.configs.answer(pod, decode(ConfigRequest, body)))

    async def syncing(request: web.Request, body: bytes) -> web.Response:
        pod = await _identify(request, border.reviewer)
        return _message(await border.syncs.answer(pod, decode(SyncRequest, body)))

    app.router.add_post(INJECT_PATH, _bounded(injecting, ADMISSION))
    app.router.add_post(VALIDATE_PATH, _bounded(validating, ADMISSION))
    app.router.add_post(CONFIG_PATH, _bounded(configuring, CONFIG))
    app.router.add_post(SYNC_PATH, _bounded(syncing, SYNC))
    return app


class HttpsServer:
    """Listens while the context manager is open."""

    def __init__(self, app: web.Application, context: ssl.SSLContext | None, host: str, port: int) -> None:
        self._runner = web.AppRunner(
            app,
            access_log=None,
            max_field_size=HEAD_BYTES_MAX,
            handle_signals=False,
            shutdown_timeout=GOODBYE_S,
            # An abandoned long poll ends with its connection, not with its time.
            handler_cancellation=True,
        )
        self._context = context
        self._host = host
        self._port = port

    async def __aenter__(self) -> HttpsServer:
        await self._runner.setup()
        await web.TCPSite(self._runner, self._host, self._port, ssl_context=self._context, backlog=1024).start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()

    @property
    def port(self) -> int:
        """The bound one, when 0 was asked for."""
        address = self._runner.addresses[0]
        return int(address[1])


async def _injection(request: Request, border: Border) -> bytes:
    pod = request.object
    if pod is None or request.operation != "CREATE":
        return allow(request.uid)
    metadata = pod.get("metadata")
    labels = metadata.get("labels") if isinstance(metadata, dict) else None
    known = {str(k): str(v) for k, v in labels.items()} if isinstance(labels, dict) else {}
    seen = border.routes.credentials_for(request.namespace, known)
    fresh = await border.credentials.credentials_for(request.namespace, known)
    # Both: a route that was deleted a moment ago does no harm, one that is missing does.
    plan = InjectionPlan(border.template(), (*seen, *fresh))
    result = inject(pod, plan)
    if isinstance(result, Injected):
        return allow(request.uid, result.patch, tuple(f"keelage: {text}" for text in result.warnings))
    if result.refused:
        return deny(request.uid, result.reason, f"keelage cannot inject its sidecar: {result.message}")
    return allow(request.uid)


def _bounded(answer: Answer, bounds: Bounds) -> Callable[[web.Request], Awaitable[web.Response]]:
    under_way = bytes_under_way = 0

    async def handle(request: web.Request) -> web.Response:
        nonlocal under_way, bytes_under_way
        declared = request.content_length
        size = bounds.body_bytes if declared is None else declared
        if size > bounds.body_bytes:
            return _too_large(bounds)
        if under_way >= bounds.at_once or bytes_under_way + size > bounds.bytes_at_once:
            return _refuse(503, "Busy", f"{under_way} requests are under way: come again")
        under_way += 1
        bytes_under_way += size
        try:
            return await _answered(request, answer, bounds)
        finally:
            under_way -= 1
            bytes_under_way -= size

    return handle


async def _answered(request: web.Request, answer: Answer, bounds: Bounds) -> web.Response:
    """The answer, or the refusal that each expected error stands for."""
    try:
        async with asyncio.timeout(BODY_S):
            body = await _body(request, bounds.body_bytes)
    except TimeoutError:
        return _refuse(408, "BodyTimeout", f"the body did not arrive within {BODY_S:g} s")
    if body is None:
        return _too_large(bounds)
    try:
        async with asyncio.timeout(bounds.answer_s):
            return await answer(request, body)
    except TimeoutError:
        return _refuse(503, "Timeout", f"no answer within {bounds.answer_s:g} s: come again")
    except MessageError as error:
        return _refuse(400, "BadMessage", str(error))
    except _Unauthenticated as error:
        return _refuse(401, "Unauthenticated", str(error))
    except Forbidden as error:
        return _refuse(403, "Forbidden", str(error))
    except KeelageError as error:  # Unavailable, and what ledgers and TokenReview raise: it may be better soon
        LOG.info("%s not answered: %s", request.path, error)
        return _refuse(503, "Unavailable", str(error))


async def _body(request: web.Request, bytes_max: int) -> bytes | None:
    """None: it is too large."""
    parts: list[bytes] = []
    size = 0
    async for part in request.content.iter_any():
        size += len(part)
        if size > bytes_max:
            return None
        parts.append(part)
    return b"".join(parts)


class _Unauthenticated(KeelageError):
    """No pod of this cluster speaks."""


async def _identify(request: web.Request, reviewer: TokenReviewer) -> PodIdentity:
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "bearer":
        raise _Unauthenticated("header Authorization has no bearer token")
    try:
        found = await reviewer.identify(token.strip())
    except ReviewUnavailable as error:
        raise Unavailable(str(error)) from error
    if isinstance(found, Unknown):
        raise _Unauthenticated(found.reason)
    return found


def _too_large(bounds: Bounds) -> web.Response:
    return _refuse(413, "BodyTooLarge", f"the body is larger than {bounds.body_bytes} bytes")


def _review(body: bytes) -> web.Response:
    return web.Response(body=body, content_type="application/json")


def _message(message: msgspec.Struct) -> web.Response:
    return web.Response(body=encode(message), content_type="application/json")


def _refuse(status: int, reason: str, message: str) -> web.Response:
    headers = {"Retry-After": "1"} if status == 503 else None
    body = msgspec.json.encode({"reason": reason, "message": message})
    return web.Response(status=status, body=body, content_type="application/json", headers=headers)
