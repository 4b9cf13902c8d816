"""When batches are asked about, when they are given up, and where their results are said to be."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.sidecar.core.calls import claude, config, is_a, messages

from keelage_sidecar.core.batch import BatchOrder, Lot, LotIndex
from keelage_sidecar.core.bound import Bound
from keelage_sidecar.core.open_batch import (
    FIRST_LOOK_S,
    GIVE_UP_S,
    LOOK_MAX_S,
    OPEN_MAX,
    OpenBatch,
    OpenBatches,
    Stage,
    created_id,
    stage_of,
    through_sidecar,
)
from keelage_sidecar.core.routing import Plan, RoutingTable

FACTS = messages()
PLAN = is_a(Plan, RoutingTable.build(config()).plan(FACTS))
ORDER = BatchOrder(PLAN, (Lot(claude(), (), Bound(1, 1, 1), True),), LotIndex(), b"", ())


def batch(name: str = "b", created_s: float = 1000.0) -> OpenBatch:
    return OpenBatch(name, ORDER, (None,), (), FACTS, "kl_1", created_s)


def test_a_batch_is_looked_at_after_half_a_minute_then_less_and_less_often() -> None:
    batches, one = OpenBatches(), batch()
    batches.add(one)
    assert batches.due(1000.0 + FIRST_LOOK_S - 0.1) == ()
    now_s, pauses = 1000.0 + FIRST_LOOK_S, []
    for _ in range(12):
        assert batches.due(now_s) == (one,)
        assert not batches.looked(one, Stage.RUNNING, now_s)
        pauses.append(one.due_s - now_s)
        now_s = one.due_s
    assert pauses[:3] == [60.0, 90.0, 135.0]
    assert pauses == sorted(pauses)
    assert pauses[-1] == LOOK_MAX_S


@pytest.mark.parametrize(
    ("stage", "age_s", "given_up"),
    [
        (Stage.RUNNING, 90.0, False),
        (Stage.UNKNOWN, GIVE_UP_S - 1, False),
        (Stage.UNKNOWN, GIVE_UP_S, True),
        (Stage.RUNNING, GIVE_UP_S, True),
        (Stage.GONE, 31.0, True),
    ],
)
def test_a_batch_that_is_gone_or_says_nothing_for_two_days_is_given_up(
    stage: Stage, age_s: float, given_up: bool
) -> None:
    batches, one = OpenBatches(), batch()
    batches.add(one)
    assert batches.looked(one, stage, 1000.0 + age_s) is given_up


def test_only_one_settles_a_batch() -> None:
    batches, one = OpenBatches(), batch()
    batches.add(one)
    assert batches.find("b") is one
    assert batches.take("b") is one
    assert batches.take("b") is None
    assert batches.find("b") is None


def test_places_are_counted_from_before_the_creation() -> None:
    batches = OpenBatches()
    assert all(batches.enter() for _ in range(OPEN_MAX))
    assert not batches.enter()
    batches.leave()
    batches.add(batch())
    assert not batches.enter()
    assert len(tuple(batches.take_all())) == 1
    assert batches.enter()


@pytest.mark.parametrize(
    ("status", "body", "stage"),
    [
        (200, b'{"processing_status":"in_progress"}', Stage.RUNNING),
        (200, b'{"processing_status":"canceling"}', Stage.RUNNING),
        (200, b'{"processing_status":"ended","archived_at":null}', Stage.ENDED),
        (200, b'{"processing_status":"ended","archived_at":"2026-11-21T00:00:00Z"}', Stage.GONE),
        (404, b'{"type":"error"}', Stage.GONE),
        (200, b'{"processing_status":"paused"}', Stage.UNKNOWN),
        (200, b"[]", Stage.UNKNOWN),
        (200, b"<html>", Stage.UNKNOWN),
        (401, b'{"processing_status":"ended"}', Stage.UNKNOWN),
        (500, b"", Stage.UNKNOWN),
    ],
)
def test_the_stage_is_read_from_the_batch_object(status: int, body: bytes, stage: Stage) -> None:
    assert stage_of(status, body) is stage


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b'{"id":"msgbatch_01-a"}', "msgbatch_01-a"),
        (b'{"id":"../messages"}', None),
        (b'{"id":""}', None),
        (b'{"id":1}', None),
        (b"[]", None),
        (b"{", None),
    ],
)
def test_an_id_that_could_lead_elsewhere_is_none(body: bytes, expected: str | None) -> None:
    assert created_id(body) == expected


RESULTS = b"https://api.anthropic.com/v1/messages/batches/msgbatch_1/results"


@pytest.mark.parametrize(
    ("body", "host", "expected"),
    [
        (b'{"a":1, "results_url" : "' + RESULTS + b'","b":2}', b"h:4000", b"http://h:4000/v1/messages/batches/"),
        (b'{"results_url":"https:\\/\\/x.example\\/p\\/v1\\/messages\\/batches\\/m\\/results"}', b"h", b"http://h/v1/"),
        (b'{"results_url":"' + RESULTS + b'?beta=true"}', b"[::1]:4000", b'/results?beta=true"'),
    ],
)
def test_results_are_said_to_be_where_the_application_called(body: bytes, host: bytes, expected: bytes) -> None:
    found = through_sidecar(body, host)
    assert expected in found
    assert b"http://" + host in found
    assert b"https" not in found


def test_every_batch_of_a_list_is_led_here_and_the_rest_of_the_bytes_stay() -> None:
    one, other = RESULTS, RESULTS.replace(b"_1", b"_2")
    body = b'{"data":[ {"results_url":"%b"}, {"results_url":null} ,{"results_url": "%b"}],"x":1e2}'
    here = b"http://h/v1/messages/batches/msgbatch_%b/results"
    assert through_sidecar(body % (one, other), b"h") == body % (here % b"1", here % b"2")


@pytest.mark.parametrize(
    ("body", "host"),
    [
        (b'{"results_url":"https://elsewhere.example/file"}', b"h"),
        (b'{"results_url":"' + RESULTS + b'"}', b""),
        (b'{"results_url":"' + RESULTS + b'"}', b'h","x":"'),
        (b'{"results_url":"\\ud800"}', b"h"),
        (b'{"results_url":null}', b"h"),
    ],
)
def test_what_is_no_results_url_and_no_host_changes_nothing(body: bytes, host: bytes) -> None:
    assert through_sidecar(body, host) == body


@given(st.binary(max_size=100), st.binary(max_size=20))
def test_any_bytes_pass(body: bytes, host: bytes) -> None:
    assert through_sidecar(body, host) == body
    assert isinstance(stage_of(200, body), Stage)
    created_id(body)
