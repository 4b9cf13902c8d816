"""The smallest scope, searched to its end; `make search` goes further."""

from __future__ import annotations

from tests.simulation.search import search


def test_no_order_of_events_without_a_fault_breaks_a_promise() -> None:
    states, all_of_them = search(limit=2, faults=0, states_max=100_000)
    assert all_of_them
    assert states > 1000


def test_the_nearest_states_with_two_faults_break_no_promise() -> None:
    states, _ = search(limit=4, faults=2, states_max=6000)
    assert states >= 6000
