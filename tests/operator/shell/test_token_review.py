"""Whose token it is: asked once, remembered for a while, never taken on trust."""

from __future__ import annotations

import asyncio
import base64
import json
from dataclasses import dataclass, field

import pytest

from keelage_operator.core.identity import PodIdentity
from keelage_operator.shell.token_review import (
    POD_NAME,
    POD_UID,
    ReviewUnavailable,
    TokenReviewer,
    Unknown,
    expiry,
    identity,
)

POD = PodIdentity("shop", "web-1", "uid-1", "default")


@dataclass
class Api:
    """An Authenticator that knows some tokens and counts."""

    known: dict[str, PodIdentity] = field(default_factory=lambda: {"good": POD})
    asked: list[str] = field(default_factory=list)
    down: bool = False
    gate: asyncio.Event | None = None
    called: asyncio.Event = field(default_factory=asyncio.Event)

    async def review(self, token: str) -> PodIdentity | Unknown:
        self.asked.append(token)
        self.called.set()
        if self.gate is not None:
            await self.gate.wait()
        if self.down:
            raise ReviewUnavailable("API server answered 500")
        return self.known.get(token, Unknown("not valid"))


@dataclass
class Clock:
    now: float = 0.0

    def __call__(self) -> float:
        return self.now


def jwt(exp: float) -> str:
    claims = base64.urlsafe_b64encode(json.dumps({"exp": exp}).encode()).decode().rstrip("=")
    return f"e30.{claims}.sig"


async def test_answer_is_remembered_for_a_minute() -> None:
    api, clock = Api(), Clock()
    reviewer = TokenReviewer(api, clock, clock)
    for clock.now in (0.0, 30.0, 59.0):
        assert await reviewer.identify("good") == POD
    assert api.asked == ["good"]
    clock.now = 60.0
    assert await reviewer.identify("good") == POD
    assert api.asked == ["good", "good"]


async def test_answer_is_forgotten_when_the_token_ends() -> None:
    token = jwt(exp=10.0)
    api, clock = Api(known={token: POD}), Clock()
    reviewer = TokenReviewer(api, clock, clock)
    assert await reviewer.identify(token) == POD
    del api.known[token]
    clock.now = 9.0
    assert await reviewer.identify(token) == POD
    clock.now = 10.0
    assert isinstance(await reviewer.identify(token), Unknown)


async def test_refused_token_may_try_again_soon() -> None:
    api, clock = Api(), Clock()
    reviewer = TokenReviewer(api, clock, clock)
    assert isinstance(await reviewer.identify("late"), Unknown)
    api.known["late"] = POD
    assert isinstance(await reviewer.identify("late"), Unknown)
    clock.now = 5.0
    assert await reviewer.identify("late") == POD


async def test_callers_that_come_together_cost_one_review() -> None:
    api = Api(gate=asyncio.Event())
    assert api.gate is not None
    reviewer = TokenReviewer(api, Clock(), Clock())
    callers = [asyncio.ensure_future(reviewer.identify("good")) for _ in range(10)]
    await api.called.wait()
    callers[0].cancel()
    await asyncio.sleep(0)
    api.gate.set()
    assert await asyncio.gather(*callers[1:]) == [POD] * 9
    assert callers[0].cancelled()
    assert api.asked == ["good"]


async def test_failure_is_not_remembered() -> None:
    api = Api(down=True)
    reviewer = TokenReviewer(api, Clock(), Clock())
    with pytest.raises(ReviewUnavailable):
        await reviewer.identify("good")
    api.down = False
    assert await reviewer.identify("good") == POD


@pytest.mark.parametrize("token", ["", "x" * 20_000])
async def test_unusable_token_is_not_asked_about(token: str) -> None:
    api = Api()
    assert isinstance(await TokenReviewer(api, Clock(), Clock()).identify(token), Unknown)
    assert api.asked == []


@pytest.mark.parametrize(
    ("username", "extra", "found"),
    [
        (
            "system:serviceaccount:shop:default",
            {POD_NAME: ["web-1"], POD_UID: ["uid-1"], "authentication.kubernetes.io/node-name": ["n"]},
            POD,
        ),
        ("system:serviceaccount:shop:default", {}, None),
        ("system:serviceaccount:shop:default", {POD_NAME: ["a", "b"], POD_UID: ["u"]}, None),
        ("system:node:n", {POD_NAME: ["web-1"], POD_UID: ["uid-1"]}, None),
        ("alice", {POD_NAME: ["web-1"], POD_UID: ["uid-1"]}, None),
        ("", {}, None),
    ],
)
def test_only_a_bound_service_account_token_names_a_pod(
    username: str, extra: dict[str, list[str]], found: PodIdentity | None
) -> None:
    result = identity(username, extra)
    assert result == found if found else isinstance(result, Unknown)


@pytest.mark.parametrize(
    ("token", "end"), [(jwt(12.5), 12.5), ("a.b", None), ("a.!!!.c", None), ("a.é.c", None), ("a.e30.c", None)]
)
def test_end_of_a_token_is_read_where_there_is_one(token: str, end: float | None) -> None:
    assert expiry(token) == end
