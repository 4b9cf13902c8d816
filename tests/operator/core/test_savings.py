"""What a route's status says to be saved outlives sidecars and leaders."""

from __future__ import annotations

from keelage_api.sync import SavedBy, Saving, SyncRequest
from keelage_api.v1alpha1.llmroute import LLMRouteStatus
from keelage_api.v1alpha1.manifest import Parsed, parse
from keelage_operator.core.identity import PodIdentity
from keelage_operator.core.savings import ROUTES_MAX, SavingsBook, Sum, savings_status

POD = PodIdentity("shop", "web-1", "uid-1")
NONE = LLMRouteStatus()


def told(amount: int, *, seq: int, run: int = 0, route: str = "assistant") -> SyncRequest:
    return SyncRequest("inc", run=run, savings_seq=seq, savings=(Saving(route, SavedBy.CASCADE, amount, 4, 3),))


def test_a_word_that_is_heard_twice_counts_once_and_a_new_run_counts_from_one_again() -> None:
    book = SavingsBook()
    assert book.hear(POD, told(5, seq=1))
    assert not book.hear(POD, told(5, seq=1))
    assert book.hear(POD, told(6, seq=2))
    assert not book.hear(POD, told(5, seq=1)), "belated"
    assert book.hear(POD, told(7, seq=1, run=1))
    assert not book.hear(POD, SyncRequest("inc", run=1, savings_seq=1))
    assert book.shown("shop", "assistant", "uid", NONE) == {SavedBy.CASCADE: Sum(18, 12, 9)}
    assert book.shown("blog", "assistant", "uid", NONE) == {}


def test_the_next_leader_goes_on_from_the_status() -> None:
    first = SavingsBook()
    first.hear(POD, told(2_500_000_000_000, seq=1))
    written = {"savings": savings_status(first.shown("shop", "assistant", "uid", NONE))}
    assert written == {
        "savings": [
            {
                "by": "Cascade",
                "saved": "2.50 USD",
                "hitRate": "75%",
                "tries": 4,
                "hits": 3,
                "picodollars": 2_500_000_000_000,
            }
        ]
    }
    status = parse(LLMRouteStatus, written)
    assert isinstance(status, Parsed)
    second = SavingsBook()
    second.hear(POD, told(-1, seq=2))
    for _ in range(2):
        shown = second.shown("shop", "assistant", "uid", status.value)
        assert shown == {SavedBy.CASCADE: Sum(2_499_999_999_999, 8, 6)}
    assert second.shown("shop", "assistant", "another", NONE) == {}, "another route of that name"


def test_names_of_routes_that_sidecars_invent_are_bounded() -> None:
    book = SavingsBook()
    for number in range(ROUTES_MAX + 2):
        book.hear(POD, told(1, seq=number + 1, route=f"r{number}"))
    assert book.shown("shop", f"r{ROUTES_MAX - 1}", "uid", NONE)
    assert not book.shown("shop", f"r{ROUTES_MAX + 1}", "uid", NONE)
