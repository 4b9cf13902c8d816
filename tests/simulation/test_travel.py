"""A run of many worlds goes on where it was stopped, and its figures are those of all of them."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.simulation.__main__ import OtherTravel, Travel, kept, resumed
from tests.simulation.scene import Kind
from tests.simulation.world import simulate


def test_a_run_that_was_stopped_goes_on_with_the_figures_that_it_had(tmp_path: Path) -> None:
    file = tmp_path / "worlds.json"
    travel = resumed(file, 1, Kind.CALM)
    assert travel == Travel(1, Kind.CALM)
    travel.tally.add(simulate(1, Kind.CALM))
    kept(file, travel)
    again = resumed(file, 1, Kind.CALM)
    assert again == travel
    for each in (again, travel):
        each.tally.add(simulate(2, Kind.CALM))
    assert again.line() == travel.line()
    assert again.tally.worlds == 2


def test_figures_of_other_worlds_are_not_added_to(tmp_path: Path) -> None:
    file = tmp_path / "worlds.json"
    kept(file, Travel(1, None))
    with pytest.raises(OtherTravel, match="SEED=1 KIND="):
        resumed(file, 2, None)
