"""Three hundred worlds in which everything goes wrong; `make simulate` lives through more."""

from __future__ import annotations

from collections import Counter

import pytest
from tests.simulation.world import simulate

PARTS = 12
WORLDS = 25


@pytest.mark.parametrize("part", range(PARTS))
def test_no_fault_breaks_a_promise(part: int) -> None:
    counts: Counter[str] = Counter()
    for seed in range(part * WORLDS, (part + 1) * WORLDS):
        counts += simulate(seed)
    assert counts["served"] > 100, f"too little happened: {counts}"
    assert counts["BudgetExhausted"] > 100, f"no limit was reached: {counts}"


def test_a_seed_names_one_world() -> None:
    assert simulate(7) == simulate(7)
