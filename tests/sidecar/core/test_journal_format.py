"""The journal, cut at every store: what is read back never tells less than was spent."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.blank_journal import blank_journal

from keelage_api.account import rate_kind
from keelage_api.proxy_config import Per, Unit
from keelage_sidecar.core.journal_format import HOLDS, Journal, JournalError, journal_bytes


class Killed(Exception):
    """The process ends between two stores."""


class Words:
    """The journal's words as the kernel sees them: every store counts, one of them is the last."""

    def __init__(self, words: memoryview[int], left: int) -> None:
        self._words = words
        self.left = left

    def __getitem__(self, index: int) -> int:
        return self._words[index]

    def __setitem__(self, index: int, value: int) -> None:
        if self.left <= 0:
            raise Killed
        self.left -= 1
        self._words[index] = value


def open_blank() -> tuple[bytearray, Journal]:
    buffer = bytearray(blank_journal("0123456789abcdef"))
    journal = Journal(buffer)
    assert journal.recover() == ()
    return buffer, journal


def cut(journal: Journal, stores: int) -> None:
    journal._words = Words(journal._words, stores)  # type: ignore[assignment]


def spent_in(buffer: bytearray) -> dict[tuple[str, str], int]:
    return {(entry.budget, entry.window): entry.spent for entry in Journal(bytearray(buffer)).recover()}


def test_what_was_written_is_read_back() -> None:
    buffer, journal = open_blank()
    slot = journal.open_account("shop/month", "2026-11")
    assert slot is not None
    journal.set_granted(slot, 9 * 10**18)
    journal.set_spent(slot, 5, 2)
    journal.reserve(slot, 7)
    done = journal.reserve(slot, 100)
    journal.settle(done, slot, 8, 3)
    again = Journal(bytearray(buffer))
    assert again.incarnation == "0123456789abcdef"
    (entry,) = again.recover()
    assert (entry.budget, entry.window, entry.granted, entry.spent) == ("shop/month", "2026-11", 9 * 10**18, 15)
    assert entry.uncertain == 10, "what was in flight is not proven"


def test_the_end_of_a_window_is_believed_only_in_the_boot_that_measured_it() -> None:
    buffer = bytearray(blank_journal("0123456789abcdef", b"a" * 16))
    journal = Journal(buffer, b"a" * 16)
    journal.recover()
    slot = journal.open_account("shop/month", "2026-11")
    assert slot is not None
    assert [entry.ends_s for entry in Journal(bytearray(buffer), b"a" * 16).recover()] == [float("-inf")]
    journal.set_ends(slot, 12.3456789)
    assert [entry.ends_s for entry in Journal(bytearray(buffer), b"a" * 16).recover()] == [12.345678]
    assert [entry.ends_s for entry in Journal(bytearray(buffer)).recover()] == [float("-inf")]
    with pytest.raises(JournalError, match="earlier boot"):
        Journal(bytearray(buffer), b"b" * 16)
    journal.close_account(slot)
    journal.open_account("shop/month", "2026-12")
    assert [entry.ends_s for entry in Journal(bytearray(buffer), b"a" * 16).recover()] == [float("-inf")]


def test_a_journal_of_an_earlier_format_is_refused_by_its_number() -> None:
    data = bytearray(blank_journal("0123456789abcdef"))
    data[8] = 1
    with pytest.raises(JournalError, match="format 1, not 4"):
        Journal(data)


def test_statement_numbers_rise_over_restarts() -> None:
    buffer, journal = open_blank()
    limit = journal.take_seqs()
    again = Journal(bytearray(buffer))
    assert again.seq_limit == limit
    assert again.take_seqs() > limit


def test_accounts_and_holds_are_bounded_and_used_again() -> None:
    _, journal = open_blank()
    slots = [journal.open_account("shop/month", str(number)) for number in range(256)]
    assert journal.open_account("shop/month", "more") is None
    assert slots[7] is not None
    journal.close_account(slots[7])
    assert journal.open_account("shop/month", "more") == slots[7]
    assert journal.open_account("s/" + "x" * 600, "more") is None
    for _ in range(3 * HOLDS):
        journal.settle(journal.reserve(0, 1), 0, 0, 0)
    assert journal.holds_left() == HOLDS


def test_a_value_is_read_back_and_slots_beyond_those_used_are_not_looked_at() -> None:
    buffer, journal = open_blank()
    slot = journal.open_account("shop/user", "2026-11.u", "alice/search")
    assert slot == 0
    assert journal.open_account("shop/user", "2026-11.u", "bob") == 1
    unused = journal_bytes(2)
    buffer[unused:] = b"\xff" * (len(buffer) - unused)
    again = Journal(buffer)
    found = [(entry.budget, entry.window, entry.value) for entry in again.recover()]
    assert found == [("shop/user", "2026-11.u", "alice/search"), ("shop/user", "2026-11.u", "bob")]
    assert again.open_account("shop/user", "2026-11.u", "carol") == 2


@given(st.integers(0, 8))
def test_a_kill_while_an_account_is_opened_leaves_none_or_a_whole_one(stores: int) -> None:
    buffer, journal = open_blank()
    used_before = journal.open_account("shop/month", "2026-11")
    assert used_before is not None
    journal.set_granted(used_before, 100)
    journal.set_spent(used_before, 30, 20)
    journal.close_account(used_before)
    cut(journal, stores)
    opened = False
    with suppress(Killed):
        journal.open_account("shop/user", "2026-11.u", "alice")
        journal.open_account("shop/user", "2026-11.u", "bob")
        opened = True
    entries = Journal(bytearray(buffer)).recover()
    found = [(entry.value, entry.granted, entry.spent, entry.uncertain) for entry in entries]
    assert found == [("alice", 0, 0, 0), ("bob", 0, 0, 0)][: 2 if opened else len(found)]


def test_an_interrupted_settlement_goes_before_the_open_holds() -> None:
    buffer, journal = open_blank()
    slot = journal.open_account("shop/month", "2026-11")
    assert slot is not None
    journal.set_spent(slot, 50, 0)
    first = journal.reserve(slot, 10)
    journal.reserve(slot, 100)
    cut(journal, 2)
    with pytest.raises(Killed):
        journal.settle(first, slot, 53, 1)
    assert spent_in(buffer) == {("shop/month", "2026-11"): 153}


@pytest.mark.parametrize("stores", range(4))
def test_a_reservation_that_is_interrupted_counts_nothing_of_the_slots_last_hold(stores: int) -> None:
    buffer, journal = open_blank()
    dear, cheap = journal.open_account("shop/month", "2026-11"), journal.open_account("shop/day", "2026-11-21")
    assert dear is not None
    assert cheap is not None
    journal.settle(journal.reserve(dear, 900), dear, 900, 900)
    cut(journal, stores)
    with suppress(Killed):
        journal.reserve(cheap, 7)
    assert spent_in(buffer)["shop/day", "2026-11-21"] == (7 if stores == 3 else 0)


ACCOUNT_NAMES = [("shop/month", "2026-11"), ("shop/day", "2026-11-21")]
Step = tuple[str, int, int]
STEPS = st.lists(
    st.tuples(st.sampled_from(["reserve", "settle"]), st.integers(0, 3), st.integers(0, 100)), min_size=1, max_size=12
)


@settings(max_examples=150)
@given(STEPS, st.integers(0, 40), st.integers(0, 12))
def test_a_kill_between_any_two_stores_never_undercounts(steps: list[Step], stores: int, recovery_stores: int) -> None:
    buffer, journal = open_blank()
    slots = [journal.open_account(budget, window) for budget, window in ACCOUNT_NAMES]
    spent, doubtful = [0, 0], [0, 0]
    open_holds: list[tuple[int, int, int]] = []
    unsure = [0, 0]
    """By how much more than the least may be found: the bound of the hold that the kill interrupted."""
    cut(journal, stores)
    with suppress(Killed):
        for kind, pick, amount in steps:
            which = pick % 2 if kind == "reserve" or not open_holds else open_holds[pick % len(open_holds)][1]
            slot = slots[which]
            assert slot is not None
            if kind == "reserve":
                unsure[which] += amount
                open_holds.append((journal.reserve(slot, amount), which, amount))
                unsure[which] -= amount
            elif open_holds:
                hold, which, bound = open_holds.pop(pick % len(open_holds))
                cost = min(amount, bound)
                spent[which] += cost
                doubtful[which] += cost // 2
                unsure[which] += bound - cost
                journal.settle(hold, slot, spent[which], doubtful[which])
                unsure[which] -= bound - cost
    with suppress(Killed):
        interrupted = Journal(buffer)
        cut(interrupted, recovery_stores)
        interrupted.recover()
    found = {(entry.budget, entry.window): entry for entry in Journal(bytearray(buffer)).recover()}
    for which, account in enumerate(ACCOUNT_NAMES):
        in_flight = sum(bound for _, of, bound in open_holds if of == which)
        least, entry = spent[which] + in_flight, found[account]
        assert least <= entry.spent <= least + unsure[which]
        assert doubtful[which] + in_flight <= entry.uncertain <= entry.spent
        assert entry.spent - entry.uncertain <= spent[which] - doubtful[which], "no more is proven than was"


@given(st.integers(0, 55), st.integers(0, 255))
def test_a_damaged_header_is_refused(position: int, value: int) -> None:
    data = bytearray(blank_journal("0123456789abcdef"))
    if data[position] == value:
        return
    data[position] = value
    with pytest.raises(JournalError):
        Journal(data)


def test_a_damaged_name_or_a_stray_hold_is_refused() -> None:
    buffer, journal = open_blank()
    slot = journal.open_account("shop/month", "2026-11")
    assert slot is not None
    journal.reserve(slot, 5)
    damaged = bytearray(buffer)
    at = damaged.index(b"shop/month")
    damaged[at] ^= 1
    with pytest.raises(JournalError):
        Journal(damaged).recover()
    journal.close_account(slot)
    with pytest.raises(JournalError):
        Journal(bytearray(buffer)).recover()


def test_the_longest_names_of_budgets_and_rates_have_room() -> None:
    journal = Journal(bytearray(blank_journal("0123456789abcdef")))
    journal.recover()
    part = "n" * 63
    value = "/".join(("u" * 64, "f" * 64))
    rate = f"{part}/rate:{part}/{part}:{rate_kind(Unit.TOKENS, (Per.USER,), 3_599_999)}"
    budget = f"{part}/{'b' * 48}"
    assert journal.open_account(rate, "rate", "u" * 64) is not None
    assert journal.open_account(budget, "2026-11-21T1430Z.tokens.uf", value) is not None


@pytest.mark.parametrize("size", [0, 63, 128, journal_bytes(256) - 1, journal_bytes(256) + 1])
def test_a_journal_of_another_size_is_refused(size: int) -> None:
    with pytest.raises(JournalError):
        Journal(bytearray(blank_journal("0123456789abcdef").ljust(size, b"\0")[:size]))
