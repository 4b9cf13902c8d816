"""Some dozens of worlds in which everything goes wrong, or nothing; `make worlds` lives through two thousand."""

from __future__ import annotations

import pytest
from tests.simulation.oracle import Rates, Used
from tests.simulation.scene import Kind
from tests.simulation.tally import Tally
from tests.simulation.virtual_time import run
from tests.simulation.world import simulate

from keelage_api.proxy_config import Quota, Unit

PARTS = 4
WORLDS = 12


def lived(seeds: range, kind: Kind | None = None) -> Tally:
    tally = Tally()
    for seed in seeds:
        tally.add(simulate(seed, kind))
    return tally


@pytest.mark.parametrize("part", range(PARTS))
def test_no_fault_breaks_a_promise(part: int) -> None:
    tally = lived(range(part * WORLDS, (part + 1) * WORLDS))
    assert tally.overrun == 0
    assert tally.counts["served"] > 100, f"too little happened: {tally.line()}"
    assert tally.counts["BudgetExhausted"] > 50, f"no limit was reached: {tally.line()}"


def test_rates_hold_over_all_sidecars() -> None:
    tally = lived(range(6), Kind.RATES)
    assert tally.counts["served"] > 50, f"too little happened: {tally.line()}"
    assert tally.counts["RateLimited"] > 100, f"no rate was reached: {tally.line()}"


def test_a_lost_node_forfeits_no_more_than_a_hundredth_of_the_limit() -> None:
    tally = lived(range(4), Kind.NODE_LOST)
    assert len(tally.lost_nodes) == 4
    assert 0 < max(tally.lost_nodes) <= 0.01


def test_nearly_all_of_a_limit_is_used_before_a_call_is_refused() -> None:
    tally = lived(range(1, 5), Kind.CALM)
    assert {kind: len(used) for kind, used in tally.used.items()} == {100: 1, 20: 3}
    assert min(tally.used[100]) >= 0.99
    assert min(tally.used[20]) >= 0.95
    assert tally.false_refusals == 0


def test_a_rate_that_is_passed_is_seen() -> None:
    quota = Quota("shop/rate:a/b:0", Unit.REQUESTS, 2, 1000, "shop/a")

    async def thrice() -> list[str]:
        rates = Rates((quota,))
        return [rates.begins(Used(quota.name, ""), 1) for _ in range(3)]

    assert [bool(wrong) for wrong in run(thrice())] == [False, False, True]


def test_a_seed_names_one_world() -> None:
    assert simulate(3) == simulate(3)
