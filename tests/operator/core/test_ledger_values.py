"""Ledgers with an account for each value: what is folded, what comes late, what was lost."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from random import Random
from typing import TypeVar

import pytest
from msgspec.structs import replace

from keelage_api.sync import Right, Statement
from keelage_api.will import Promise, Will, account_of
from keelage_api.window import Window
from keelage_operator.core.ledger import (
    LEARNING_S,
    VALUES_MAX,
    Account,
    Applied,
    Checkpoint,
    Evidence,
    Heard,
    LedgerRecord,
    Row,
    apply,
    committed,
    pods,
    pods_gone,
    rebuild,
)
from keelage_operator.core.ledger_account import ROWS_PER_POD_MAX
from keelage_operator.core.ledger_figures import Bounds, figures, tally

T = TypeVar("T")

WINDOW = Window("2026-11.u", datetime(2026, 11, 1, tzinfo=UTC), datetime(2026, 12, 1, tzinfo=UTC))
BLANK = LedgerRecord(WINDOW.starts_at, WINDOW.ends_at)
NOW = 1_000


def says(
    holder: str,
    value: str,
    seq: int,
    granted: int = 0,
    spent: int = 0,
    reserved: int = 0,
    want: int = 0,
    keep: int = -1,
    final: bool = False,
    uncertain: int = 0,
) -> Heard:
    statement = Statement("shop/day", WINDOW.id, seq, granted, spent, reserved, want, want, keep, final, value)
    return Heard(holder, replace(statement, uncertain=uncertain))


def hear(record: LedgerRecord, *batch: Heard, cap: int = 100, now_s: int = NOW) -> Applied:
    return apply(record, batch, cap, now_s)


def only(applied: Applied) -> Right:
    ((_, right),) = applied.rights
    return right


def test_each_value_has_the_whole_limit_and_a_right_names_it() -> None:
    applied = hear(BLANK, says("a.1", "alice", 1, want=100), says("a.1", "bob", 2, want=60))
    assert [(right.value, right.granted, right.limit) for _, right in applied.rights] == [
        ("alice", 100, 100),
        ("bob", 60, 100),
    ]
    assert only(hear(applied.record, says("b.1", "bob", 1, want=60))).granted == 0
    assert only(hear(applied.record, says("b.1", "carol", 1, want=60))).granted == 60


def test_what_everybody_used_of_an_account_is_told() -> None:
    first = hear(BLANK, says("a.1", "alice", 1, want=60)).record
    told = hear(first, says("a.1", "alice", 2, granted=60, spent=25, reserved=5, keep=60)).record
    assert only(hear(told, says("b.1", "alice", 1, want=10))).used == 25


def test_a_goodbye_leaves_a_sum_and_a_number_and_no_row() -> None:
    first = hear(BLANK, says("a.1", "alice", 1, want=60)).record
    applied = hear(first, says("a.1", "alice", 3, granted=40, spent=40, keep=40, final=True))
    assert applied.urgent
    assert only(applied).granted == 40
    assert applied.record.accounts == {"alice": Account(settled=40)}
    assert applied.record.seen == {"a.1": 3}
    assert pods(applied.record) == {"a"}


def test_words_about_a_row_that_was_folded_are_void() -> None:
    first = hear(BLANK, says("a.1", "alice", 1, want=60)).record
    folded = hear(first, says("a.1", "alice", 3, granted=40, spent=40, keep=40, final=True)).record
    for late in (
        says("a.1", "alice", 1, want=60),
        says("a.1", "alice", 2, granted=60, spent=30, reserved=10),
        says("a.1", "alice", 3, granted=40, spent=40, keep=40, final=True),
    ):
        applied = hear(folded, late)
        assert applied.record == folded
        assert (applied.rights, applied.urgent) == ((), False)


def test_a_goodbye_that_is_said_again_since_its_answer_was_lost_is_counted_once() -> None:
    first = hear(BLANK, says("a.1", "alice", 1, want=60)).record
    folded = hear(first, says("a.1", "alice", 2, granted=40, spent=40, keep=40, final=True)).record
    again = hear(folded, says("a.1", "alice", 3, granted=40, spent=40, keep=40, final=True))
    assert only(again).granted == 40
    assert again.record.accounts == {"alice": Account(settled=40)}
    assert again.record.seen == {"a.1": 3}


def test_a_restarted_holder_that_goes_on_where_it_was_folded_is_counted_once() -> None:
    first = hear(BLANK, says("a.1", "alice", 1, want=60), says("b.1", "alice", 1, want=10)).record
    folded = hear(first, says("a.1", "alice", 2, granted=40, spent=40, keep=40, final=True)).record
    applied = hear(folded, says("a.1", "alice", 9, granted=40, spent=40, want=20))
    account = applied.record.account("alice")
    assert only(applied).granted == 60
    assert (account.settled, account.rows["a.1"].spent, committed(applied.record)) == (0, 40, 70)


def test_a_holder_that_forgot_an_account_opens_it_at_nothing() -> None:
    first = hear(BLANK, says("a.1", "alice", 1, want=60)).record
    folded = hear(first, says("a.1", "alice", 2, granted=40, spent=40, keep=40, final=True)).record
    applied = hear(folded, says("a.1", "alice", 3, want=30))
    assert (only(applied).spent, only(applied).granted, only(applied).used) == (0, 30, 40)
    assert committed(applied.record) == 70


def test_a_question_of_a_holder_that_has_an_account_here_opens_no_other() -> None:
    """It was folded, the answer was lost, and a leader whose clock names this window hears a question for another."""
    granted = hear(BLANK, says("a.1", "alice", 1, want=60)).record
    folded = hear(granted, says("a.1", "alice", 2, granted=45, spent=45, final=True)).record
    question = says("a.1", "alice", 3, want=30)
    asked = hear(folded, Heard("a.1", replace(question.statement, besides=(WINDOW.id,))))
    assert (asked.record, asked.rights) == (folded, ())
    again = hear(asked.record, says("a.1", "alice", 4, granted=45, spent=45, final=True))
    assert (again.record.account("alice").settled, only(again).spent) == (45, 45), "counted once"
    elsewhere = hear(again.record, Heard("a.1", replace(question.statement, seq=5, besides=("2026-10.u",))))
    assert only(elsewhere).granted == 30, "it has heard that the account is closed"


def test_an_account_is_stored_before_its_holder_has_one() -> None:
    assert hear(BLANK, says("a.1", "alice", 1)).urgent


def test_an_account_in_which_nothing_was_spent_is_not_kept() -> None:
    first = hear(BLANK, says("a.1", "alice", 1, want=60)).record
    assert hear(first, says("a.1", "alice", 2, final=True)).record.accounts == {}


def test_numbers_of_a_pod_that_is_gone_are_forgotten_and_its_rows_closed() -> None:
    first = hear(BLANK, says("a.1", "alice", 1, want=60), says("a.1", "bob", 2, want=60)).record
    folded = hear(first, says("a.1", "alice", 3, granted=40, spent=40, keep=40, final=True)).record
    gone = pods_gone(folded, {"a": None})
    assert gone.seen == {}
    assert gone.accounts == {"alice": Account(settled=40), "bob": Account(forfeited=60)}
    assert committed(gone) == committed(folded)


def test_a_will_speaks_of_each_value() -> None:
    first = hear(BLANK, says("a.1", "alice", 1, want=60), says("a.1", "bob", 2, want=60)).record
    will = Will("1", 2, {account_of("shop/day", WINDOW.id, "bob"): Promise(0, 20)})
    gone = pods_gone(first, {"a": Evidence("a.1", will, "shop/day", WINDOW.id)})
    assert gone.accounts == {"alice": Account(forfeited=60), "bob": Account(settled=20, settled_uncertain=20)}


def test_a_pod_that_loses_its_journal_at_every_start_does_not_fill_the_numbers() -> None:
    record = BLANK
    for number in range(50):
        record = hear(record, says(f"a.{number}", "alice", 1)).record
        record = hear(record, says(f"a.{number}", "alice", 2, final=True)).record
    assert list(record.seen) == [f"a.{number}" for number in range(50 - ROWS_PER_POD_MAX, 50)]


def test_more_values_than_an_object_holds_are_refused_with_a_remedy_but_not_what_was_spent() -> None:
    full = replace(BLANK, accounts={f"u{number}": Account(settled=1) for number in range(VALUES_MAX)})
    refused = only(hear(full, says("a.1", "one-more", 1, want=5)))
    assert refused.granted == 0
    assert "shop/day" in refused.error
    assert "spec.per" in refused.error
    assert only(hear(full, says("a.1", "u7", 2, want=5))).granted == 5
    claimed = hear(full, says("a.1", "one-more", 3, granted=5, spent=4))
    assert committed(claimed.record) == VALUES_MAX + 5


def test_an_object_that_cannot_grow_grants_nothing_and_still_hears_what_is_given_back() -> None:
    first = hear(BLANK, says("a.1", "alice", 1, want=60)).record
    applied = apply(
        first,
        [says("b.1", "alice", 1, want=5), says("a.1", "alice", 2, granted=60, want=20), says("a.1", "bob", 3, want=1)],
        100,
        NOW,
        full=True,
    )
    rights = {(holder, right.value): right for holder, right in applied.rights}
    assert rights["a.1", "alice"].granted == 60
    assert "podSelector" in rights["b.1", "alice"].error
    assert "podSelector" in rights["a.1", "bob"].error
    assert set(applied.record.account("alice").rows) == {"a.1"}


def test_a_shard_that_was_lost_counts_its_checkpoint_on_every_account() -> None:
    record = rebuild(WINDOW, 70, NOW, valued=True)
    asked = hear(record, says("a.1", "alice", 1, want=50)).record
    assert committed(asked) == 70
    later = NOW + LEARNING_S
    assert only(hear(asked, says("a.1", "alice", 2, want=50), now_s=later)).granted == 0
    assert only(hear(asked, says("a.1", "alice", 2, want=30), now_s=later)).granted == 30
    new = hear(asked, says("a.1", "never-heard-of", 2, want=50), now_s=later)
    assert (only(new).granted, only(new).used) == (0, 70)


def test_claims_after_a_loss_show_whose_it_was_but_free_nothing() -> None:
    record = rebuild(WINDOW, 70, NOW, valued=True)
    claimed = hear(record, says("a.1", "alice", 5, granted=50, spent=40, keep=50)).record
    assert (claimed.account().recovered, committed(claimed)) == (20, 70)
    assert only(hear(claimed, says("b.1", "bob", 1, want=31), now_s=NOW + LEARNING_S)).granted == 0


def test_what_is_spent_without_a_right_after_a_loss_claims_nothing_of_what_was_lost() -> None:
    """As of a budget that only observes, for each user."""
    record = rebuild(WINDOW, 600, NOW, valued=True)
    told = hear(record, says("a.1", "alice", 1, spent=10, reserved=30), says("b.1", "bob", 1, granted=50, spent=55))
    assert told.record.account().recovered == 550
    assert told.record.account("alice").committed == 40


def test_a_lost_shard_is_made_again_from_what_was_last_stored_without_a_floor() -> None:
    stored = hear(BLANK, says("a.1", "alice", 1, want=60)).record
    again = rebuild(WINDOW, 60, NOW, stored, valued=True)
    assert (again.floor, committed(again)) == (0, 60)
    assert again.account("alice").rows["a.1"].granted == 60


def test_a_checkpoint_without_shards_may_be_any_of_them() -> None:
    assert Checkpoint("w", 7).of(3, valued=True) == 7
    assert Checkpoint("w", 7, (1, 2, 4)).of(2, valued=True) == 4
    assert Checkpoint("w", 7, (1, 2, 4)).of(0, valued=False) == 7


def test_a_lowered_limit_makes_its_holders_give_back_until_it_is_kept() -> None:
    first = hear(BLANK, says("a.1", "alice", 1, want=90)).record
    bounds = Bounds(50)
    assert tally(first, bounds).pending_recall == 40
    lowered = hear(first, says("a.1", "alice", 2, granted=90, spent=20, reserved=10, keep=90), cap=50)
    assert only(lowered).tight
    back = hear(lowered.record, says("a.1", "alice", 3, granted=40, spent=20, reserved=10, keep=40), cap=50)
    assert not only(back).tight
    assert tally(back.record, bounds).pending_recall == 0


def test_nobody_hurries_over_what_is_spent_already() -> None:
    spent = hear(BLANK, says("a.1", "alice", 1, granted=120, spent=110, reserved=10)).record
    applied = hear(spent, says("a.1", "alice", 2, granted=120, spent=110, reserved=10, keep=120))
    assert not only(applied).tight
    assert tally(spent, Bounds(100, hard=False)).pending_recall == 0
    assert tally(spent, Bounds(100)).pending_recall == 10


def test_what_may_be_overdrawn_is_granted_and_shown() -> None:
    first = hear(BLANK, says("a.1", "alice", 1, want=130), cap=150).record
    told = hear(first, says("a.1", "alice", 2, granted=130, spent=130), cap=150).record
    found = figures(WINDOW, Bounds(100, 50), [tally(told, Bounds(100, 50))], NOW)
    assert (found.overdrawn, found.cap, found.values_exhausted, found.fullest) == (30, 150, 0, 130)


def test_figures_of_many_shards_are_their_sums() -> None:
    bounds = Bounds(100)
    one = replace(
        BLANK,
        accounts={
            "alice": Account(settled=90, forfeited=10),
            "bob": Account(settled=3, rows={"a.1": Row(granted=20, spent=7, reserved=4, heard_s=NOW - 90)}),
        },
    )
    two = replace(
        BLANK,
        accounts={"carol": Account(settled=11, rows={"a.1": Row(granted=5, heard_s=NOW), "b.1": Row(granted=2)})},
    )
    tallies = [tally(one, bounds), tally(two, bounds)]
    found = figures(WINDOW, bounds, tallies, NOW)
    assert (found.spent, found.reserved, found.leased, found.forfeited) == (111, 4, 20, 10)
    assert found.committed == committed(one) + committed(two) == sum(each.committed for each in tallies)
    assert found.unheard == 2, "a.1 spoke lately of another value"
    assert (found.reporting, found.silent) == (1, 1)
    assert (found.values, found.values_exhausted, found.fullest) == (3, 1, 100)
    assert found.top == (("alice", 90), ("carol", 11), ("bob", 10))


@pytest.mark.parametrize(("values", "crowded"), [(VALUES_MAX - 1, False), (VALUES_MAX, True)])
def test_a_ledger_that_takes_no_more_values_says_so(values: int, crowded: bool) -> None:
    bounds = Bounds(10)
    record = replace(BLANK, accounts={f"u{number}": Account(settled=1) for number in range(values)})
    assert figures(WINDOW, bounds, [tally(BLANK, bounds), tally(record, bounds)], NOW).crowded is crowded


VALUES = ("alice", "bob")
CAP = 10


@dataclass
class HolderAccount:
    granted: int = 0
    spent: int = 0
    uncertain: int = 0
    reserved: int = 0
    asked: int = 0
    """Number of the newest statement; only its answer counts."""
    closing: bool = False
    open: bool = False


@dataclass
class Sidecar:
    """The holder's rules in a few lines; `core/holder` has them with all that is beside."""

    name: str
    seq: int = 0
    accounts: dict[str, HolderAccount] = field(default_factory=dict)

    def on(self, value: str) -> HolderAccount:
        return self.accounts.setdefault(value, HolderAccount())


class Scene:
    """Two sidecars, two values, one object; messages are lost, doubled and reordered as it pleases."""

    def __init__(self, seed: int, faults: bool) -> None:
        self.random = Random(seed)
        self.record = BLANK
        self.sidecars = [Sidecar("a.1"), Sidecar("b.1")]
        self.asked: list[Heard] = []
        self.told: list[tuple[str, Right]] = []
        self.charged = dict.fromkeys(VALUES, 0)
        """By all sidecars, at the most where the provider's word is missing."""
        self.billed = dict.fromkeys(VALUES, 0)
        self.lives = 1
        self.lost = self.vanished = False
        usual: tuple[Callable[[], None], ...] = (self.states, self.states, self.reserves, self.settles)
        usual += (self.says_goodbye, self.restarts)
        usual += (self.ledger_hears,) * 6 + (self.sidecar_hears,) * 6
        self.events = usual * 4 + ((self.pod_vanishes, self.object_and_leader_are_lost) if faults else ())

    def step(self) -> None:
        self.random.choice(self.events)()
        self.check()

    def somebody(self) -> tuple[Sidecar, str, HolderAccount]:
        sidecar, value = self.random.choice(self.sidecars), self.random.choice(VALUES)
        return sidecar, value, sidecar.on(value)

    def send(self, sidecar: Sidecar, value: str, want: int) -> None:
        account = sidecar.on(value)
        sidecar.seq += 1
        account.asked = sidecar.seq
        keep = max(account.granted, account.spent + account.reserved)
        self.asked.append(
            says(
                sidecar.name,
                value,
                sidecar.seq,
                account.granted,
                account.spent,
                account.reserved,
                want,
                keep,
                account.closing,
                account.uncertain,
            )
        )

    def states(self) -> None:
        sidecar, value, account = self.somebody()
        if self.random.random() < 0.3:
            account.granted = account.spent + account.reserved
        self.send(sidecar, value, 0 if account.closing else self.random.randint(0, 6))

    def says_goodbye(self) -> None:
        sidecar, value, account = self.somebody()
        if account.open and not account.reserved:
            account.closing, account.granted = True, account.spent
            self.send(sidecar, value, 0)

    def reserves(self) -> None:
        _, _, account = self.somebody()
        free = account.granted - account.spent - account.reserved
        if not account.closing and free > 0:
            account.reserved += self.random.randint(1, free)

    def settles(self) -> None:
        _, value, account = self.somebody()
        cost = self.random.randint(0, account.reserved)
        self.billed[value] += cost
        if self.random.random() < 0.3:  # cut, and some of the cost was seen
            self.charge(value, account, account.reserved, account.reserved - self.random.randint(0, cost))
        else:
            self.charge(value, account, cost, 0)
        account.reserved = 0

    def charge(self, value: str, account: HolderAccount, amount: int, uncertain: int) -> None:
        self.charged[value] += amount
        account.spent, account.uncertain = account.spent + amount, account.uncertain + uncertain

    def restarts(self) -> None:
        """With its journal, which does not know that a goodbye was said."""
        for value, account in self.random.choice(self.sidecars).accounts.items():
            self.billed[value] += self.random.randint(0, account.reserved)
            self.charge(value, account, account.reserved, account.reserved)
            account.reserved = 0
            account.closing, account.asked = False, 0

    def ledger_hears(self) -> None:
        if self.asked:
            batch = [self.taken(self.asked) for _ in range(self.random.randint(1, min(3, len(self.asked))))]
            applied = hear(self.record, *batch, cap=CAP)
            self.record = applied.record
            self.told += applied.rights

    def sidecar_hears(self) -> None:
        if not self.told:
            return
        holder, right = self.taken(self.told)
        sidecar = next((each for each in self.sidecars if each.name == holder), None)
        account = sidecar.on(right.value) if sidecar is not None else None
        if sidecar is None or account is None or right.seq != account.asked:
            return
        if account.closing:
            sidecar.accounts[right.value] = HolderAccount()
            return
        account.open = True
        account.spent = max(account.spent, right.spent)
        account.uncertain = max(account.uncertain, right.uncertain)
        account.granted = max(right.granted, right.spent, min(account.granted, account.spent + account.reserved))

    def taken(self, messages: list[T]) -> T:
        """Mostly in order; sometimes out of it, sometimes to come again."""
        index = 0 if self.random.random() < 0.7 else self.random.randrange(len(messages))
        return messages[index] if self.random.random() < 0.2 else messages.pop(index)

    def pod_vanishes(self) -> None:
        index = self.random.randrange(2)
        sidecar = self.sidecars[index]
        for value, account in sidecar.accounts.items():
            self.billed[value] += self.random.randint(0, account.reserved)
        self.asked = [heard for heard in self.asked if heard.holder != sidecar.name]
        self.record = pods_gone(self.record, {sidecar.name.partition(".")[0]: None})
        self.lives += 1
        self.vanished = True
        self.sidecars[index] = Sidecar(f"{'cd'[index]}{self.lives}.1")

    def object_and_leader_are_lost(self) -> None:
        self.record = replace(rebuild(WINDOW, committed(self.record), 0, valued=True), learning_until_s=0)
        self.lost = True

    def check(self) -> None:
        for value, billed in self.billed.items():
            account = self.record.account(value)
            own = [each.on(value) for each in self.sidecars]
            assert billed + sum(each.reserved for each in own) <= CAP, "the limit of a value"
            rights = sum(max(0, each.granted - each.spent) for each in own)
            assert billed + rights <= self.record.floor + account.committed
            assert self.lost or account.committed <= CAP, "I1"
            assert self.lost or self.vanished or account.used <= self.charged[value], "counted twice"
            told = account.settled + sum(row.spent for row in account.rows.values())
            doubtful = account.settled_uncertain + sum(row.uncertain for row in account.rows.values())
            assert doubtful <= told, "a part of it"
            assert self.lost or told - doubtful <= billed, "no more is proven than was billed"


@pytest.mark.parametrize("faults", [False, True])
def test_no_value_passes_its_limit_and_nothing_is_counted_twice(faults: bool) -> None:
    for seed in range(400):
        scene = Scene(seed, faults)
        try:
            for _ in range(120):
                scene.step()
        except AssertionError as error:
            raise AssertionError(f"seed {seed}") from error
