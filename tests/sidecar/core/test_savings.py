"""What was saved is told once, whatever becomes of the messages."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from keelage_api.sync import SavedBy, Saving, SyncRequest
from keelage_api.v1alpha1.llmroute import LLMRouteStatus
from keelage_operator.core.identity import PodIdentity
from keelage_operator.core.savings import SavingsBook, Sum
from keelage_sidecar.core.savings import Savings

POD = PodIdentity("shop", "web-1", "uid-1")


def test_what_comes_while_a_word_is_under_way_waits_for_the_next_one() -> None:
    savings = Savings()
    savings.count("assistant", SavedBy.CASCADE, 7, hits=1)
    first = savings.tell()
    assert first == (1, (Saving("assistant", SavedBy.CASCADE, 7, 1, 1),))
    savings.count("assistant", SavedBy.CASCADE, -2)
    assert savings.tell() == first
    savings.heard()
    assert savings.tell() == (2, (Saving("assistant", SavedBy.CASCADE, -2, 1, 0),))
    savings.heard()
    assert savings.tell() == (2, ())
    ((route, by, total),) = savings.totals()
    assert (route, by, total.amount, total.tries, total.hits) == ("assistant", SavedBy.CASCADE, 5, 2, 1)


EVENTS = st.lists(
    st.one_of(st.tuples(st.just("saved"), st.integers(-50, 50)), st.tuples(st.just("told"), st.booleans()))
)


@given(EVENTS)
def test_answers_that_are_lost_neither_lose_nor_double_what_was_saved(events: list[tuple[str, int]]) -> None:
    savings, book, saved = Savings(), SavingsBook(), 0
    for what, value in [*events, ("told", True), ("told", True)]:
        if what == "saved":
            savings.count("assistant", SavedBy.PROMPT_CACHE, value)
            saved += value
            continue
        seq, told = savings.tell()
        book.hear(POD, SyncRequest("inc", savings=told, savings_seq=seq))
        if value:
            savings.heard()
    shown = book.shown("shop", "assistant", "uid", LLMRouteStatus())
    assert shown.get(SavedBy.PROMPT_CACHE, Sum()).amount == saved
