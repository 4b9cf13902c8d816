"""Conditions keep the time at which they turned."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from keelage_api.v1alpha1.manifest import dump
from keelage_api.v1alpha1.metadata import Condition
from keelage_operator.core.conditions import MESSAGE_LENGTH_MAX, Verdict, merge, verdict

THEN, NOW = "2026-11-01T00:00:00Z", "2026-11-21T00:00:00Z"


def shown(conditions: tuple[Condition, ...]) -> list[tuple[str, str, str, str, int]]:
    return [
        (each.type, each.status, each.reason, each.last_transition_time, each.observed_generation)
        for each in conditions
    ]


def test_new_condition_begins_now() -> None:
    (found,) = merge((), [verdict("Accepted", True, "Accepted", "fine")], 3, NOW)
    assert dump(found) == {
        "type": "Accepted",
        "status": "True",
        "observedGeneration": 3,
        "lastTransitionTime": NOW,
        "reason": "Accepted",
        "message": "fine",
    }


def test_time_moves_only_when_the_status_turns() -> None:
    old = merge((), [verdict("A", True, "Fine"), verdict("B", True, "Fine"), verdict("Gone", True, "Fine")], 1, THEN)
    new = merge(old, [verdict("A", True, "Better"), verdict("B", None, "Unsure")], 2, NOW)
    assert shown(new) == [("A", "True", "Better", THEN, 2), ("B", "Unknown", "Unsure", NOW, 2)]


def test_message_fits_the_schema() -> None:
    (found,) = merge((), [verdict("A", False, "Long", "x" * 5_000)], 1, NOW)
    assert len(found.message) == MESSAGE_LENGTH_MAX


verdicts = st.lists(
    st.builds(verdict, st.sampled_from("ABC"), st.none() | st.booleans(), st.sampled_from(["One", "Two"])),
    unique_by=lambda found: found.type,
)


@given(verdicts, verdicts)
def test_second_run_changes_nothing(before: list[Verdict], found: list[Verdict]) -> None:
    once = merge(merge((), before, 1, THEN), found, 2, NOW)
    assert merge(once, found, 2, "2027-01-01T00:00:00Z") == once
