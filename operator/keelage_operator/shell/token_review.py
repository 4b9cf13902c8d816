"""Bearer token to pod, by TokenReview; answers are remembered by the token's digest.

A token is bound to its pod and dies with it. Within the time that an answer is
remembered a deleted pod can still speak: that is no more than what it could say before.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import msgspec

from keelage_api.errors import KeelageError
from keelage_operator.core.identity import PodIdentity
from keelage_operator.core.sidecar_template import TOKEN_AUDIENCE
from keelage_operator.shell.cluster import Cluster, Json, Refused, Unreachable

REMEMBER_S = 60.0
REFUSAL_S = 5.0
"""A refused token is not asked about again at once: a broken client must not load the API server."""

REMEMBERED_MAX = 20_000
TOKEN_BYTES_MAX = 16 * 1024
REVIEWS_MAX = 16
"""At once; after a restart every sidecar comes back within seconds."""

POD_NAME = "authentication.kubernetes.io/pod-name"
POD_UID = "authentication.kubernetes.io/pod-uid"


class ReviewUnavailable(KeelageError):
    """The API server could not say whose token it is; the caller may come again."""


@dataclass(frozen=True, slots=True)
class Unknown:
    """No pod of this cluster; `reason` is for the caller's log."""

    reason: str


class Authenticator(Protocol):
    async def review(self, token: str) -> PodIdentity | Unknown:
        """Raises ReviewUnavailable."""
        ...


class KubernetesAuthenticator:
    """Asks the API server."""

    def __init__(self, cluster: Cluster, audience: str = TOKEN_AUDIENCE) -> None:
        self._cluster = cluster
        self._audience = audience

    async def review(self, token: str) -> PodIdentity | Unknown:
        body: Json = {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenReview",
            "spec": {"token": token, "audiences": [self._audience]},
        }
        try:
            found = await self._cluster.create("/apis/authentication.k8s.io/v1/tokenreviews", body)
        except (Refused, Unreachable) as error:
            raise ReviewUnavailable(f"TokenReview: {error}") from error
        try:
            status = msgspec.convert(found.get("status"), type=_ReviewStatus)
        except msgspec.ValidationError as error:
            raise ReviewUnavailable(f"TokenReview: unexpected answer: {error}") from error
        if not status.authenticated:
            return Unknown("the token is not valid for audience " + self._audience)
        # An API server that does not know audiences leaves the list out: such an answer proves nothing.
        if self._audience not in status.audiences:
            return Unknown(f"the token is not for audience {self._audience}")
        return identity(status.user.username, status.user.extra)


class _User(msgspec.Struct, frozen=True):
    username: str = ""
    extra: dict[str, list[str]] = {}


class _ReviewStatus(msgspec.Struct, frozen=True):
    authenticated: bool = False
    audiences: tuple[str, ...] = ()
    user: _User = _User()


def identity(username: str, extra: dict[str, list[str]]) -> PodIdentity | Unknown:
    """The pod that a bound token belongs to: `system:serviceaccount:<namespace>:<name>` and two extra fields."""
    parts = username.split(":")
    names, uids = extra.get(POD_NAME, []), extra.get(POD_UID, [])
    if len(parts) != 4 or parts[:2] != ["system", "serviceaccount"]:
        return Unknown(f"{username or 'nobody'} is no service account")
    if len(names) != 1 or len(uids) != 1:
        return Unknown(f"the token of {username} is not bound to a pod")
    return PodIdentity(parts[2], names[0], uids[0], parts[3])


class TokenReviewer:
    """Remembers answers and asks once for callers that come together."""

    def __init__(self, authenticator: Authenticator, clock: Callable[[], float], wall_s: Callable[[], float]) -> None:
        """`clock` is monotonic; `wall_s` is seconds since 1970, to compare with a token's own end."""
        self._authenticator = authenticator
        self._clock = clock
        self._wall_s = wall_s
        self._known: OrderedDict[bytes, tuple[float, PodIdentity | Unknown]] = OrderedDict()
        self._asking: dict[bytes, asyncio.Future[PodIdentity | Unknown]] = {}
        self._slots = asyncio.Semaphore(REVIEWS_MAX)

    async def identify(self, token: str) -> PodIdentity | Unknown:
        """Whose token it is. Raises ReviewUnavailable."""
        if not token or len(token) > TOKEN_BYTES_MAX:
            return Unknown("there is no bearer token of a usable length")
        key = hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()
        known = self._known.get(key)
        if known is not None and self._clock() < known[0]:
            return known[1]
        asking = self._asking.get(key)
        if asking is None:
            asking = asyncio.ensure_future(self._ask(key, token))
            self._asking[key] = asking
            asking.add_done_callback(lambda done: self._done(key, done))
        # Shielded: one caller that hangs up must not take the answer from the others.
        return await asyncio.shield(asking)

    async def _ask(self, key: bytes, token: str) -> PodIdentity | Unknown:
        async with self._slots:
            answer = await self._authenticator.review(token)
        remember_s = REFUSAL_S if isinstance(answer, Unknown) else min(REMEMBER_S, self._left_s(token))
        self._known[key] = (self._clock() + remember_s, answer)
        self._known.move_to_end(key)
        while len(self._known) > REMEMBERED_MAX:
            self._known.popitem(last=False)
        return answer

    def _done(self, key: bytes, done: asyncio.Future[PodIdentity | Unknown]) -> None:
        self._asking.pop(key, None)
        if not done.cancelled():
            done.exception()  # read: every caller may be gone by now

    def _left_s(self, token: str) -> float:
        end = expiry(token)
        return REMEMBER_S if end is None else max(0.0, end - self._wall_s())


class _Claims(msgspec.Struct, frozen=True):
    exp: float


def expiry(token: str) -> float | None:
    """`exp` of a JSON Web Token, unverified: it only shortens how long an answer is remembered."""
    parts: Sequence[str] = token.split(".")
    if len(parts) != 3:
        return None
    try:
        claims = base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4))
        return msgspec.json.decode(claims, type=_Claims).exp
    except (binascii.Error, ValueError, msgspec.DecodeError):
        return None
