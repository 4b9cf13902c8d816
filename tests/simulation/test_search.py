"""The smallest scopes, searched to their end; `make search` goes further."""

from __future__ import annotations

import pytest
from tests.simulation.search import Kept, Pod, Scope, State, broken, canonical, search

from keelage_operator.core.ledger import RowState


@pytest.mark.parametrize(
    "scope", [Scope(2, 2, 0), Scope(1, 2, 1, valued=True), Scope(1, 2, 0, 3, True), Scope(1, 2, 2)]
)
def test_no_order_of_events_breaks_a_promise(scope: Scope) -> None:
    states, all_of_them = search(scope, states_max=100_000)
    assert all_of_them
    assert states > 100


def test_the_nearest_states_with_two_faults_break_no_promise() -> None:
    states, _ = search(Scope(holders=3, limit=4, faults=2, valued=True), states_max=4000)
    assert states >= 4000


def test_which_pod_is_which_makes_no_other_state() -> None:
    one, other = Pod(granted=1, spent=1), Pod(seq=1)
    assert canonical(State(0, 0, 0, (one, other), 1)) == canonical(State(0, 0, 0, (other, one), 1))


def test_a_broken_promise_is_seen() -> None:
    scope, row = Scope(1, 2, 0), Kept(1, 1, 0, 0, 1, RowState.OUTSTANDING)
    assert broken(State(2, 0, 0, (Pod(rows=(row,)),), 0), scope).startswith("I1")
    assert broken(State(0, 0, 0, (Pod(granted=2, rows=(row,)),), 0), scope).startswith("I2")
    assert broken(State(0, 0, 0, (Pod(granted=1, reserved=1, rows=(row,)),), 1), scope).startswith("billed")
