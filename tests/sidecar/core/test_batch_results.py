"""What a batch is charged, by what its results say and do not say."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.sidecar.core.calls import claude

from keelage_api.pricing import ModelPrice, Rates
from keelage_api.usage import TokenUsage
from keelage_sidecar.core.batch import Lot, LotIndex
from keelage_sidecar.core.batch_results import BatchTally, LotSettlement, at_bound, unbilled
from keelage_sidecar.core.bound import Bound
from keelage_sidecar.core.claim import NOTHING, Charge, Claim
from keelage_sidecar.core.meter import PLAIN_BYTES_MAX

LOT = Lot(claude(), (Claim("shop/month", 10**9, True),), Bound(10**9, 300, 200), True, requests=2)
BOTH = LotIndex.of({"a": 0, "b": 0})
USAGE = {"input_tokens": 10, "output_tokens": 20, "service_tier": "batch"}
COST = (10 * 1_000_000 + 20 * 5_000_000) // 2
PAID = Charge(2 * COST, 60, 20, 40, 2)
SEEN = TokenUsage(input_tokens=20, output_tokens=40)


def line(name: str = "a", kind: str = "succeeded", usage: object = None, **message: object) -> bytes:
    result: dict[str, object] = {"type": kind}
    if kind == "succeeded":
        result["message"] = {"model": "claude-haiku-4-5", "usage": USAGE if usage is None else usage, **message}
    return orjson.dumps({"custom_id": name, "result": result}) + b"\n"


def settled(data: bytes, lots: tuple[Lot, ...] = (LOT,), index: LotIndex | None = None) -> tuple[LotSettlement, ...]:
    tally = BatchTally(lots, index or BOTH)
    tally.feed(data)
    tally.finish()
    return tally.settlements()


def times(price: ModelPrice | None, factor: int) -> ModelPrice:
    assert price is not None
    [rates] = price.tiers
    return ModelPrice((Rates(*(value * factor for value in msgspec.structs.astuple(rates))),))


def test_results_are_charged_exactly_at_half_price() -> None:
    assert settled(line("a") + line("b")) == (LotSettlement(PAID, usage=SEEN),)


@given(st.lists(st.integers(0, 2000), max_size=6))
def test_wherever_the_results_are_cut_into_chunks_they_cost_the_same(cuts: list[int]) -> None:
    data = (line("a", text="\u2028 x") + line("b")).rstrip(b"\n")
    tally = BatchTally((LOT,), BOTH)
    at = 0
    for cut in sorted(cuts):
        tally.feed(data[at:cut])
        at = max(at, min(cut, len(data)))
    tally.feed(data[at:])
    tally.finish()
    assert tally.settlements() == (LotSettlement(PAID, usage=SEEN),)


@pytest.mark.parametrize("kind", ["errored", "canceled", "expired"])
def test_what_was_not_served_costs_nothing(kind: str) -> None:
    [settlement] = settled(line("a") + line("b", kind))
    assert (settlement.charge.picodollars, settlement.doubtful) == (COST, False)


@pytest.mark.parametrize(
    "rest",
    [
        b"",
        b"not JSON\n",
        b'{"custom_id":"b"}\n',
        line("b")[:-20],
        line("a"),
        line("a", "errored"),
        line("stranger"),
        line("stranger", "expired"),
        line("b", "paused"),
        line("b", usage={}),
        line("b", usage={"input_tokens": 0, "output_tokens": 5}),
        line("b", usage={"input_tokens": 5}),
        b'{"custom_id":"b","result":{"type":"succeeded","message":"' + b"x" * PLAIN_BYTES_MAX + b'"}}\n',
    ],
)
def test_results_that_leave_a_doubt_are_charged_at_the_bound(rest: bytes) -> None:
    [settlement] = settled(line("a") + rest)
    assert settlement.doubtful
    assert settlement.charge == LOT.worst
    assert 0 < settlement.uncertain.picodollars <= LOT.worst.picodollars - COST


@pytest.mark.parametrize("more", [line("b"), line("stranger")])
def test_a_line_too_many_is_charged_and_told(more: bytes) -> None:
    [settlement] = settled((line("a") + line("b") + more) * 1000)
    assert settlement.doubtful
    assert settlement.charge.picodollars == 3000 * COST > LOT.worst.picodollars


def test_a_stranger_is_no_result_of_any_lot() -> None:
    lots = (replace(LOT, requests=1), replace(LOT, requests=1))
    index = LotIndex.of({"a": 0, "b": 1})
    assert [each.doubtful for each in settled(line("stranger") + line("b"), lots, index)] == [True, False]
    assert [each.doubtful for each in settled(line("a") + line("stranger"), lots, index)] == [True, True]


def test_a_line_that_is_too_long_to_read_does_not_hide_the_next() -> None:
    long = b'{"custom_id":"x","result":{"type":"errored","e":"' + b"x" * PLAIN_BYTES_MAX + b'"}}\n'
    tally = BatchTally((LOT,), BOTH)
    for chunk in (long[:9], long[9:-9], long[-9:] + line("a"), line("b")):
        tally.feed(chunk)
    assert tally.settlements() == (LotSettlement(PAID, usage=SEEN),)


def test_a_bill_above_the_bound_is_charged_in_full_and_told() -> None:
    [settlement] = settled(line("a", usage={"input_tokens": 10**6, "output_tokens": 1}) + line("b"))
    assert settlement.violated
    assert settlement.charge.picodollars > LOT.worst.picodollars


def test_each_result_is_counted_in_its_own_lot_at_its_own_price() -> None:
    dear = msgspec.structs.replace(claude(), model="dear", price=times(claude().price, 3))
    lots = (replace(LOT, requests=1), replace(LOT, candidate=dear, requests=1))
    one, two = settled(line("b") + line("a"), lots, LotIndex.of({"a": 0, "b": 1}))
    assert (one.charge.picodollars, two.charge.picodollars) == (COST, 3 * COST)


def test_iterations_beside_the_totals_are_billed_too() -> None:
    usage = {**USAGE, "iterations": [{"type": "compaction", "input_tokens": 10, "output_tokens": 20}]}
    [settlement] = settled(line("a", usage=usage) + line("b"))
    assert settlement.charge.picodollars == 3 * COST


def test_a_lot_of_which_nothing_will_be_known_is_charged_at_its_bound_and_one_never_made_is_free() -> None:
    assert at_bound((LOT,)) == (
        LotSettlement(Charge(10**9, 500, 300, 200, 2), doubtful=True, uncertain=Charge(10**9, 500, 300, 200)),
    )
    assert unbilled((LOT,)) == (LotSettlement(NOTHING),)
