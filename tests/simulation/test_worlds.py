"""A gross of worlds in which everything goes wrong, or nothing; `make simulate` lives through more."""

from __future__ import annotations

import pytest
from tests.simulation.tally import Tally
from tests.simulation.world import simulate

PARTS = 12
WORLDS = 12


@pytest.mark.parametrize("part", range(PARTS))
def test_no_fault_breaks_a_promise(part: int) -> None:
    tally = Tally()
    for seed in range(part * WORLDS, (part + 1) * WORLDS):
        tally.add(simulate(seed))
    assert tally.overrun == 0
    assert tally.counts["served"] > 100, f"too little happened: {tally.line()}"
    assert tally.counts["BudgetExhausted"] > 100, f"no limit was reached: {tally.line()}"


def test_a_seed_names_one_world() -> None:
    assert simulate(7) == simulate(7)
