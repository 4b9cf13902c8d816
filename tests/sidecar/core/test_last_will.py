"""The last will: at each instant it says no less than the holder has spent or may still spend."""

from __future__ import annotations

from collections.abc import Callable

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from tests.blank_journal import blank_journal

from keelage_api.proxy_config import BudgetTerms, Per
from keelage_api.sync import Right, Statement
from keelage_api.will import ACCOUNTS_MAX, RECORD_BYTES, Will, read_will
from keelage_sidecar.core.claim import Charge, Claim, Hold
from keelage_sidecar.core.holder import Holder
from keelage_sidecar.core.journal_format import Journal

KEY = bytes(range(32))
W = "2026-11"


class Paper:
    """A WillFile that remembers what was written, and may fail."""

    def __init__(self) -> None:
        self.content = b""
        self.writes = 0
        self.broken = False
        self.stuck = False

    def write(self, record: bytes) -> bool:
        assert len(record) <= RECORD_BYTES
        self.writes += 1
        if self.broken or self.stuck:
            return False
        self.content = record
        return True

    def erase(self) -> bool:
        if not self.stuck:
            self.content = b""
        return not self.stuck

    def read(self) -> Will | None:
        return read_will(self.content.decode(), [KEY])


def promised(paper: Paper, budget: str = "shop/a", window: str = W) -> int:
    will = paper.read()
    promise = will.on(budget, window) if will is not None else None
    assert promise is not None
    return promise.promised


def claims(amount: int, *budgets: str, hard: bool = True) -> tuple[Claim, ...]:
    return tuple(Claim(budget, amount, hard) for budget in budgets or ("shop/a",))


def grant(holder: Holder, granted: int, window: str = W, now: float = 0.0) -> tuple[Statement, ...]:
    told = holder.statements(now)
    holder.declare()
    rights = [Right(each.budget, each.window or window, each.seq, granted, ends_in_s=100.0) for each in told]
    holder.heard(rights, now)
    return told


def new_holder(*budgets: str, hard: bool = True, granted: int = 0) -> tuple[Paper, Holder]:
    paper = Paper()
    holder = Holder(Journal(bytearray(blank_journal("0123456789abcdef"))), paper)
    holder.obey(tuple(BudgetTerms(name, hard=hard) for name in budgets or ("shop/a",)))
    holder.will.take_key(KEY.hex())
    if granted:
        grant(holder, granted)
    return paper, holder


def must_hold(answer: Hold | None) -> Hold:
    assert isinstance(answer, Hold)
    return answer


def test_a_reservation_is_in_the_will_before_it_is_given() -> None:
    paper, holder = new_holder(granted=1000)
    must_hold(holder.try_reserve(claims(10), 0.0))
    assert 10 <= promised(paper) <= 1000


def test_not_every_call_writes() -> None:
    paper, holder = new_holder(granted=100_000)
    for _ in range(100):
        holder.settle(must_hold(holder.try_reserve(claims(100), 0.0)), Charge(50))
    assert paper.writes <= 5


def test_an_idle_holder_leaves_the_exact_truth() -> None:
    paper, holder = new_holder(granted=1000)
    holder.settle(must_hold(holder.try_reserve(claims(100), 0.0)), Charge(37))
    assert holder.tend_will()
    assert not holder.tend_will()
    assert promised(paper) == 37


def test_what_is_in_flight_stays_promised_while_nothing_moves() -> None:
    paper, holder = new_holder(granted=1000)
    must_hold(holder.try_reserve(claims(100), 0.0))
    holder.tend_will()
    holder.tend_will()
    assert promised(paper) == 100


def test_nothing_beyond_a_hard_lease_is_promised() -> None:
    paper, holder = new_holder(granted=100)
    must_hold(holder.try_reserve(claims(90), 0.0))
    assert promised(paper) == 100


def test_what_is_given_back_is_not_promised_any_more() -> None:
    paper, holder = new_holder(granted=1000)
    holder.settle(must_hold(holder.try_reserve(claims(10), 0.0)), Charge(10))
    (told,) = holder.statements(50.0)
    holder.declare()
    assert promised(paper) <= told.keep


def test_a_call_that_cost_more_than_its_bound_is_in_the_will_at_once() -> None:
    paper, holder = new_holder(granted=1000)
    holder.settle(must_hold(holder.try_reserve(claims(10), 0.0)), Charge(5000))
    assert promised(paper) >= 5000


def test_an_observed_budget_is_promised_beyond_any_lease() -> None:
    paper, holder = new_holder(hard=False)
    grant(holder, 0)
    must_hold(holder.try_reserve(claims(70, hard=False), 0.0))
    assert promised(paper) >= 70


def test_a_will_is_as_new_as_the_newest_statement() -> None:
    paper, holder = new_holder(granted=1000)
    (told,) = holder.statements(1.0)
    holder.declare()
    will = paper.read()
    assert will is not None
    assert will.seq == told.seq


def test_a_lost_file_that_can_be_emptied_stops_nobody() -> None:
    paper, holder = new_holder(granted=1000)
    holder.settle(must_hold(holder.try_reserve(claims(10), 0.0)), Charge(10))
    paper.broken = True
    must_hold(holder.try_reserve(claims(900), 0.0))
    assert paper.content == b""


def test_while_an_old_will_cannot_be_replaced_only_what_it_promises_is_used() -> None:
    paper, holder = new_holder(granted=1000)
    holder.settle(must_hold(holder.try_reserve(claims(10), 0.0)), Charge(10))
    paper.stuck = True
    assert holder.try_reserve(claims(900), 0.0) is None
    must_hold(holder.try_reserve(claims(10), 0.0))
    paper.stuck = False
    must_hold(holder.try_reserve(claims(900), 0.0))


def test_without_a_key_nothing_is_written_and_nothing_held_up() -> None:
    paper = Paper()
    holder = Holder(Journal(bytearray(blank_journal("0123456789abcdef"))), paper)
    holder.obey((BudgetTerms("shop/a", hard=True),))
    assert not holder.will.take_key("")
    assert not holder.will.take_key("no hexadecimal")
    grant(holder, 100)
    must_hold(holder.try_reserve(claims(100), 0.0))
    assert paper.content == b""


def test_more_accounts_than_fit_are_left_out_and_not_understated() -> None:
    budgets = [f"shop/{number:02d}" for number in range(ACCOUNTS_MAX + 5)]
    paper, holder = new_holder(*budgets, granted=1 << 60)
    for name in budgets:
        must_hold(holder.try_reserve(claims(1 << 59, name), 0.0))
    will = paper.read()
    assert will is not None
    assert len(will.promises) == ACCOUNTS_MAX
    for name in budgets:
        promise = will.on(name, W)
        assert promise is None or promise.promised >= 1 << 59


def test_a_reopened_account_is_bound_by_the_will_that_stands() -> None:
    paper, holder = new_holder(granted=1000)
    holder.settle(must_hold(holder.try_reserve(claims(10), 0.0)), Charge(10))
    holder.obey(())
    grant(holder, 10, now=1.0)
    assert holder.figures() == ()
    paper.stuck = True
    holder.obey((BudgetTerms("shop/a", hard=True),))
    grant(holder, 1000, now=2.0)
    assert holder.try_reserve(claims(500), 2.0) is None


VALUES = 40


@settings(max_examples=60)
@given(st.lists(st.tuples(st.integers(0, VALUES - 1), st.integers(0, 300), st.integers(0, 12)), max_size=120))
def test_of_many_values_those_named_are_never_understated(calls: list[tuple[int, int, int]]) -> None:
    """Each step calls, or settles the oldest call, or speaks; values are named, dropped, given up and reopened."""
    paper = Paper()
    holder = Holder(Journal(bytearray(blank_journal("0123456789abcdef"))), paper)
    holder.obey((BudgetTerms("shop/u", hard=True, per=(Per.USER,)),))
    holder.will.take_key(KEY.hex())
    now, holds = 0.0, list[tuple[Hold, int]]()
    for number, amount, what in calls:
        claim = Claim("shop/u", amount, True, value=f"user-{number}")
        if what < 6:
            if (hold := holder.try_reserve((claim,), now)) is not None:
                holds.append((hold, amount))
            else:
                holder.wait((claim,), now + 1, now)
        elif what < 9 and holds:
            hold, bound = holds.pop(0)
            holder.settle(hold, Charge(bound * what // 7))  # some cost more than their bound
        else:
            now += [0.3, 2.0, 5.0, 70.0][what - 9] if what >= 9 else 0.3
            told = holder.statements(now)
            holder.declare()
            rights = [
                Right(each.budget, W, each.seq, each.granted + each.want, 1e6, value=each.value, spent=each.spent)
                for each in told
            ]
            holder.heard(rights, now)
            holds += [(answer, answer.claims[0].amount) for _, answer in holder.admit(now) if isinstance(answer, Hold)]
        will = paper.read()
        for figure in holder.figures():
            promise = will.on(figure.budget, figure.window, figure.value) if will is not None else None
            assert promise is None or figure.spent + figure.reserved <= promise.promised


class AnyOrder(RuleBasedStateMachine):
    """Calls, grants, ends of windows, restarts, failing writes, in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.buffer = bytearray(blank_journal("0123456789abcdef"))
        self.now = 0.0
        self.window = 1
        self.start()

    def start(self) -> None:
        self.paper = Paper()
        self.holder = Holder(Journal(self.buffer), self.paper)
        self.holds: list[tuple[Hold, int]] = []
        self.terms(("a", "b", "w"))

    def terms(self, names: tuple[str, ...]) -> None:
        self.holder.obey(tuple(BudgetTerms(f"shop/{name}", hard=name != "w") for name in names))

    @rule(names=st.sampled_from([("a", "b", "w"), ("a",), ("b", "w")]))
    def obeys(self, names: tuple[str, ...]) -> None:
        self.terms(names)

    @rule(key=st.sampled_from(["", KEY.hex()]))
    def gets_a_key(self, key: str) -> None:
        if self.holder.will.take_key(key):
            self.holder.declare()

    @rule(amount=st.integers(0, 400), on=st.sampled_from([("a",), ("a", "b"), ("a", "w"), ("w",)]))
    def reserves(self, amount: int, on: tuple[str, ...]) -> None:
        hold = self.holder.try_reserve(tuple(Claim(f"shop/{name}", amount, hard=name != "w") for name in on), self.now)
        if hold is not None:
            self.holds.append((hold, amount))

    @rule(part=st.integers(0, 12), pick=st.integers(0, 1000))
    def settles(self, part: int, pick: int) -> None:
        if self.holds and not self.paper.stuck:  # more than the bound cannot be refused afterwards
            hold, amount = self.holds.pop(pick % len(self.holds))
            self.holder.settle(hold, Charge(amount * part // 10))

    @rule(step=st.sampled_from([0.1, 1.0, 40.0]), granted=st.integers(0, 3000), lost=st.booleans())
    def speaks(self, step: float, granted: int, lost: bool) -> None:
        self.now += step
        told = self.holder.statements(self.now)
        self.holder.declare()
        for each in told:
            if each.keep >= 0 and (promise := self.promise(each.budget, each.window)) is not None:
                # A file that can neither be written nor erased keeps an older will: its number is below the
                # statement's, so the ledger passes it over once it has heard the statement, and has not shrunk before.
                assert promise <= each.keep or each.budget == "shop/w" or self.paper.stuck
        if lost:
            self.holder.lost()
            return
        self.holder.heard(
            [
                Right(each.budget, each.window or f"w{self.window}", each.seq, max(granted, each.granted), 50.0)
                for each in told
            ],
            self.now,
        )

    @rule()
    def the_window_ends(self) -> None:
        self.window += 1
        self.now += 50

    @rule()
    def the_shell_looks_after_it(self) -> None:
        self.holder.tend_will()

    @rule(broken=st.booleans(), stuck=st.booleans())
    def the_file_fails(self, broken: bool, stuck: bool) -> None:
        self.paper.broken, self.paper.stuck = broken, stuck

    @rule()
    def the_container_restarts(self) -> None:
        self.start()

    def promise(self, budget: str, window: str) -> int | None:
        will = self.paper.read()
        found = will.on(budget, window) if will is not None else None
        return found.promised if found is not None else None

    @invariant()
    def the_will_never_understates(self) -> None:
        for figure in self.holder.figures():
            promise = self.promise(figure.budget, figure.window)
            assert promise is None or figure.spent + figure.reserved <= promise


AnyOrder.TestCase.settings = settings(max_examples=50, stateful_step_count=30)
TestAnyOrder: Callable[..., object] = AnyOrder.TestCase
