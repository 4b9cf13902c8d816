"""A tier that is too slow, from a raw client to fake providers: another one takes over, and gives back."""

from __future__ import annotations

from pathlib import Path

import msgspec
import orjson
import pytest
from tests.sidecar.shell.proxied import HAIKU, World, request, until, world
from tests.sidecar.shell.test_cascade import MESSAGES, OPUS, asked, body, cascading

from keelage_api.codec import seal
from keelage_api.proxy_config import Cascade, LatencyBudget, ProxyConfig
from keelage_dev.provider import FakeProvider
from keelage_sidecar.core.log_line import Late
from keelage_sidecar.core.pace import Pace

FIVE = LatencyBudget(95, 5_000, "fast")


def budgeted(url: str, **budgets: object) -> ProxyConfig:
    """Calls go to tier deep; the rule has a cascade from fast to deep as well."""
    config = cascading(url, Cascade("fast", "deep", prefix="UNCERTAIN"))
    deep = config.tiers["r/deep"]
    rule = msgspec.structs.replace(config.rules[0], tier="deep", choices=deep, **budgets)
    return seal(msgspec.structs.replace(config, rules=(rule,)))


def pace_of(here: World, measure: str) -> Pace:
    """Of the deep tier's model."""
    track = here.means.health._tracks["r/anthropic", OPUS]
    return track.streamed if measure == "firstTokenWithin" else track.whole


def slow(here: World, measure: str, seconds: float = 9.0, count: int = 20) -> None:
    """As if so many calls of the deep tier had taken so long."""
    for _ in range(count):
        pace_of(here, measure).took(seconds)


@pytest.mark.parametrize(
    ("field", "measure", "stream"),
    [
        ("first_token_within", "firstTokenWithin", True),
        ("answer_within", "answerWithin", True),
        ("answer_within", "answerWithin", False),
    ],
)
async def test_another_tier_takes_over_until_probes_are_fast_again(
    tmp_path: Path, field: str, measure: str, stream: bool
) -> None:
    async with (
        FakeProvider(replies={"*": "UNCERTAIN"}) as provider,
        world(budgeted(provider.url, **{field: FIVE}), tmp_path) as here,
    ):
        first = await here.post(MESSAGES, body(MESSAGES, stream))
        assert "x-keelage-latency" not in first.headers
        assert pace_of(here, measure).count == 1
        slow(here, measure)
        moved = await here.post(MESSAGES, body(MESSAGES, stream))
        assert (moved.status, moved.headers["x-keelage-latency"]) == (200, "otherwise")
        assert "x-keelage-cascade" not in moved.headers, "it would lead back to the slow tier"
        assert here.records[-1].latency == Late(measure, "deep")
        assert asked(provider) == [OPUS, HAIKU]
        here.later_s += 10.5
        for _ in range(5):
            probe = await here.post(MESSAGES, body(MESSAGES, stream))
            assert "x-keelage-latency" not in probe.headers
        assert asked(provider)[2:] == [OPUS] * 5
        assert b"".join(line.line() for line in here.records).count(b'"latency":') == 1


async def test_a_first_token_is_only_known_of_streams(tmp_path: Path) -> None:
    async with (
        FakeProvider() as provider,
        world(budgeted(provider.url, first_token_within=FIVE), tmp_path) as here,
    ):
        await here.post(MESSAGES, body(MESSAGES, True))
        slow(here, "firstTokenWithin")
        assert "x-keelage-latency" not in (await here.post(MESSAGES, body(MESSAGES, False))).headers
        assert "x-keelage-latency" in (await here.post(MESSAGES, body(MESSAGES, True))).headers


@pytest.mark.parametrize(("later_s", "counted"), [(6.0, 1), (1.0, 0)])
async def test_who_left_before_the_first_token_says_that_it_was_slow_if_it_was(
    tmp_path: Path, later_s: float, counted: int
) -> None:
    async with (
        FakeProvider(schedule=["hang"]) as provider,
        world(budgeted(provider.url, first_token_within=FIVE), tmp_path) as here,
    ):
        _, writer = await here.connect()
        writer.write(request("POST", MESSAGES, orjson.dumps(body(MESSAGES, True))))
        await until(lambda: bool(provider.requests()))
        here.later_s += later_s
        writer.close()
        await until(lambda: bool(here.records))
        assert pace_of(here, "firstTokenWithin").count == counted
