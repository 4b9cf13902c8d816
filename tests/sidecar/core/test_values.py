"""Limits that hold for each value: thousands of accounts at one holder, told of in turn, forgotten when idle."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from pathlib import Path

from tests.blank_journal import blank_journal

from keelage_api.proxy_config import BudgetTerms, Per, Unit
from keelage_api.sync import Right, Statement
from keelage_sidecar.core.account import VALUED_IDLE_S
from keelage_sidecar.core.claim import Charge, Claim, DenialReason, Denied, Hold, Room, Waiter
from keelage_sidecar.core.holder import Holder
from keelage_sidecar.core.journal_format import Journal
from keelage_sidecar.core.rota import HEARTBEAT_S, STATEMENTS_MAX

MONTH = BudgetTerms("shop/month", hard=True)
USER = BudgetTerms("shop/user", hard=True, per=(Per.USER,))
SEEN = BudgetTerms("shop/seen", hard=False, per=(Per.USER,))
TOKENS = BudgetTerms("shop/tokens", hard=True, unit=Unit.TOKENS)
W = "2026-11.u"


def user(value: str, amount: int = 10) -> tuple[Claim, ...]:
    return (Claim("shop/user", amount, hard=True, value=value),)


def new_holder(*budgets: BudgetTerms, slots: int = 256) -> tuple[bytearray, Holder]:
    buffer = bytearray(blank_journal("0123456789abcdef", accounts=slots))
    holder = Holder(Journal(buffer))
    holder.obey(budgets or (USER,))
    return buffer, holder


def right(statement: Statement, granted: int, **more: object) -> Right:
    values = {
        "ends_in_s": 1000.0,
        "limit": 10_000,
        "value": statement.value,
        "window": statement.window or (W if statement.value else "2026-11"),
        **more,
    }
    return Right(statement.budget, seq=statement.seq, granted=granted, **values)  # type: ignore[arg-type]


def give(holder: Holder, granted: int, now: float, **more: object) -> tuple[Statement, ...]:
    told = holder.statements(now)
    holder.heard([right(each, max(granted, each.granted), **more) for each in told], now)
    return told


def open_accounts(holder: Holder, *values: str, granted: int = 100, now: float = 0.0) -> None:
    for value in values:
        assert isinstance(holder.wait(user(value), now + 5, now), Waiter)
    while any(each.window == "" for each in give(holder, granted, now)):
        pass
    for _, answer in holder.admit(now):
        assert isinstance(answer, Hold)
        holder.settle(answer, Charge(5))


def test_the_first_call_of_a_value_asks_for_its_account_and_the_next_ones_do_not() -> None:
    _, holder = new_holder()
    assert holder.statements(0.0) == ()
    assert holder.try_reserve(user("alice"), 0.0) is None
    assert isinstance(holder.wait(user("alice"), 5.0, 0.0), Waiter)
    (question,) = give(holder, 100, 0.0)
    assert (question.budget, question.window, question.value, question.min_want) == ("shop/user", "", "alice", 10)
    ((_, hold),) = holder.admit(0.0)
    assert isinstance(hold, Hold)
    assert [(it.budget, it.window, it.value, it.reserved) for it in holder.figures()] == [("shop/user", W, "alice", 10)]
    assert isinstance(holder.try_reserve(user("alice"), 0.0), Hold)
    assert holder.try_reserve(user("bob"), 0.0) is None


def test_an_answer_for_another_value_is_void() -> None:
    _, holder = new_holder()
    holder.wait(user("alice"), 5.0, 0.0)
    (question,) = holder.statements(0.0)
    holder.heard([right(question, 100, value="bob")], 0.0)
    assert holder.figures() == ()


def test_one_value_does_not_spend_what_another_was_granted() -> None:
    _, holder = new_holder()
    open_accounts(holder, "alice", "bob")
    assert isinstance(holder.try_reserve(user("alice", 95), 0.0), Hold)
    assert holder.try_reserve(user("alice", 1), 0.0) is None
    assert isinstance(holder.try_reserve(user("bob", 95), 0.0), Hold)


def test_a_value_that_is_idle_is_given_up_forgotten_and_opened_again_by_its_next_call() -> None:
    buffer, holder = new_holder()
    open_accounts(holder, "alice")
    later = VALUED_IDLE_S
    (told,) = holder.statements(later)
    assert (told.value, told.spent, told.granted, told.final) == ("alice", 5, 5, True)
    holder.heard([right(told, 5)], later)
    assert holder.figures() == ()
    assert Holder(Journal(bytearray(buffer))).figures() == ()
    open_accounts(holder, "alice", now=later + 1)
    (figure,) = holder.figures()
    assert (figure.value, figure.spent) == ("alice", 5)


def test_a_value_with_a_call_in_flight_is_not_given_up() -> None:
    _, holder = new_holder()
    open_accounts(holder, "alice")
    assert isinstance(holder.try_reserve(user("alice"), 1.0), Hold)
    (told,) = holder.statements(1000.0)
    assert not told.final


def test_a_value_keeps_its_lease_while_the_ledger_is_away_though_it_is_idle() -> None:
    _, holder = new_holder()
    open_accounts(holder, "alice")
    give(holder, 100, 30.0)
    for now in (45.1, 100.0, 160.0):
        assert [each.final for each in holder.statements(now)] == [False]
        holder.lost()
    assert isinstance(holder.try_reserve(user("alice", 10), 200.0), Hold)


def test_a_restarted_container_keeps_the_leases_of_values_until_the_ledger_answers() -> None:
    buffer = bytearray(blank_journal("0123456789abcdef", b"boot of the node"))
    holder = Holder(Journal(buffer, b"boot of the node"))
    holder.obey((USER,))
    open_accounts(holder, "alice")
    again = Holder(Journal(bytearray(buffer), b"boot of the node"))
    again.obey((USER,))
    (told,) = again.statements(1.0)
    assert (told.value, told.final) == ("alice", False)
    again.lost()
    assert isinstance(again.try_reserve(user("alice", 10), 1.0), Hold)


def test_a_call_that_comes_while_its_value_is_given_up_is_served() -> None:
    _, holder = new_holder()
    open_accounts(holder, "alice")
    (goodbye,) = holder.statements(100.0)
    assert goodbye.final
    assert holder.try_reserve(user("alice"), 100.1) is None
    holder.wait(user("alice"), 105.0, 100.1)
    holder.heard([right(goodbye, 5)], 100.2)
    (question,) = give(holder, 100, 100.3)
    assert question.window == ""
    ((_, answer),) = holder.admit(100.3)
    assert isinstance(answer, Hold)


def test_one_exchange_tells_no_more_than_it_may_and_the_others_come_next() -> None:
    _, holder = new_holder(MONTH, USER, slots=4096)
    give(holder, 100, 0.0)
    values = [f"user-{number}" for number in range(1000)]
    open_accounts(holder, *values)
    for value in values:
        hold = holder.try_reserve(user(value, 1), 1.0)
        assert hold is not None
        holder.settle(hold, Charge(1))
    told: Counter[str] = Counter()
    for exchange in range(2):
        statements = give(holder, 100, 2.0 + exchange)
        assert len(statements) <= STATEMENTS_MAX
        assert "shop/month" in {each.budget for each in statements}
        told.update(each.value for each in statements if each.value)
    assert len(told) == 1000
    assert set(told.values()) == {1}
    assert [each.budget for each in give(holder, 100, 3.1)] == ["shop/month"]
    assert holder.next_at(2.0, 3.1) == 5.1


def test_what_was_told_of_a_value_and_not_answered_is_told_with_the_next_exchange() -> None:
    _, holder = new_holder()
    open_accounts(holder, "alice", "bob")
    give(holder, 100, 1.0)
    assert give(holder, 100, 2.0) == (), "all of it was heard"
    for value in ("alice", "bob"):
        hold = holder.try_reserve(user(value, 1), 2.5)
        assert hold is not None
        holder.settle(hold, Charge(1))
    alice, bob = holder.statements(3.0)
    holder.heard([right(alice, 100)], 3.0)  # another ledger has bob's, and could not be stored
    (again,) = holder.statements(4.0)
    assert (again.value, again.spent) == (bob.value, bob.spent)
    holder.lost()
    assert [each.value for each in give(holder, 100, 5.0)] == ["bob"]
    assert give(holder, 100, 6.0) == ()


def test_values_that_press_are_told_among_thousands_that_are_due() -> None:
    _, holder = new_holder(slots=4096)
    for first in (0, 1000):
        open_accounts(holder, *(f"user-{number}" for number in range(first, first + 1000)))
    holder.wait(user("user-1999", 500), 105.0, HEARTBEAT_S + 1)
    statements = holder.statements(HEARTBEAT_S + 1)
    assert len(statements) == STATEMENTS_MAX
    assert [each.min_want > 0 for each in statements if each.value == "user-1999"] == [True]
    assert holder.untold
    assert holder.next_at(2.0, HEARTBEAT_S + 1) < HEARTBEAT_S + 2


def test_what_is_given_up_is_numbered_before_what_is_asked_for() -> None:
    """The ledger holds later words of the same holder for late ones, where it has no account for them."""
    _, holder = new_holder()
    open_accounts(holder, "alice")
    holder.wait(user("bob"), 105.0, 100.0)
    goodbye, question = holder.statements(100.0)
    assert (goodbye.final, question.window) == (True, "")
    assert goodbye.seq < question.seq


def test_accounts_beyond_the_journal_are_refused_and_say_so() -> None:
    _, holder = new_holder(slots=1)
    open_accounts(holder, "alice")
    holder.wait(user("bob"), 5.0, 0.0)
    give(holder, 100, 0.0)
    ((_, denied),) = holder.admit(5.0)
    assert isinstance(denied, Denied)
    assert denied.reason is DenialReason.WINDOW_UNKNOWN
    assert "shop/user has no account" in denied.message


def test_a_denial_names_the_value_and_its_kind() -> None:
    _, holder = new_holder()
    open_accounts(holder, "alice")
    denied = holder.wait(user("alice", 10_001), 5.0, 0.0)
    assert isinstance(denied, Denied)
    assert denied.value == "alice"
    assert "LLMBudget shop/user, User alice can never pay" in denied.message


def test_tokens_are_charged_and_named_as_tokens() -> None:
    _, holder = new_holder(TOKENS)
    give(holder, 20_000, 0.0, window="2026-11.tokens", limit=20_000)
    claims = (Claim("shop/tokens", 12_000, hard=True, unit=Unit.TOKENS),)
    hold = holder.try_reserve(claims, 0.0)
    assert hold is not None
    holder.settle(hold, Charge(picodollars=10**9, tokens=9_000))
    assert [figure.spent for figure in holder.figures()] == [9_000]
    denied = holder.wait((Claim("shop/tokens", 30_000, hard=True, unit=Unit.TOKENS),), 5.0, 0.0)
    assert isinstance(denied, Denied)
    assert denied.message == (
        "LLMBudget shop/tokens can never pay for a request of up to 30000 tokens: its whole limit is 20000 tokens; "
        "lower max_tokens or raise spec.limit.tokens"
    )


def test_a_lease_of_dollars_pays_for_no_tokens_when_the_limit_counts_those_now() -> None:
    """The ledger may be away when the limit changes, and the sidecar's container may even be restarted meanwhile."""
    buffer, holder = new_holder(MONTH)
    give(holder, 10**12, 0.0, window="2026-11", limit=10**12)
    money = (Claim("shop/month", 10**9, hard=True),)
    assert holder.try_reserve(money, 0.1) is not None
    tokens = BudgetTerms("shop/month", hard=True, unit=Unit.TOKENS)
    claims = (Claim("shop/month", 1_000, hard=True, unit=Unit.TOKENS),)
    holder.obey((tokens,))
    assert holder.try_reserve(claims, 0.2) is None
    restarted = Holder(Journal(bytearray(buffer)))
    restarted.obey((tokens,))
    assert restarted.try_reserve(claims, 0.2) is None
    for now in (0.3, 0.35):
        give(holder, 5_000, now, window="2026-11.tokens", limit=5_000)
    assert holder.try_reserve(claims, 0.4) is not None
    assert holder.try_reserve(money, 0.4) is None, "a call that was planned before"


def test_a_window_that_counts_something_else_than_the_configuration_says_is_not_opened() -> None:
    _, holder = new_holder(TOKENS)
    give(holder, 10**12, 0.0, window="2026-11", limit=10**12)
    assert holder.figures() == ()


def test_how_much_of_a_limit_is_used_counts_what_everybody_and_what_was_spent_here_since() -> None:
    _, holder = new_holder(MONTH)
    assert holder.used_percent("shop/month") is None
    give(holder, 100, 0.0, limit=200, used=120, spent=20)
    assert holder.used_percent("shop/month") == 60
    hold = holder.try_reserve((Claim("shop/month", 60, hard=True),), 0.0)
    assert hold is not None
    assert holder.room(hold.claims[0], 0.0) == Room(20, 20)
    holder.settle(hold, Charge(40))
    assert holder.used_percent("shop/month") == 80
    assert holder.room(hold.claims[0], 0.0) == Room(40, 40)


def test_an_observed_call_of_an_unknown_value_is_counted_when_it_ends() -> None:
    _, holder = new_holder(SEEN)
    claims = (Claim("shop/seen", 50, hard=False, value="alice"),)
    hold = holder.try_reserve(claims, 0.0)
    assert hold is not None
    (question,) = give(holder, 0, 0.0)
    assert (question.value, question.window) == ("alice", "")
    holder.settle(hold, Charge(40))
    assert [(figure.value, figure.spent) for figure in holder.figures()] == [("alice", 40)]


def test_an_observed_call_that_ends_before_its_account_is_known_is_counted_once_it_is() -> None:
    _, holder = new_holder(SEEN)
    for charge in (Charge(40), Charge(2)):
        hold = holder.try_reserve((Claim("shop/seen", 50, hard=False, value="alice"),), 0.0)
        assert hold is not None
        holder.settle(hold, charge)
    give(holder, 0, 0.0)
    give(holder, 0, 1.0)
    assert [(figure.value, figure.spent) for figure in holder.figures()] == [("alice", 42)]


def test_an_observed_call_that_outlasts_its_idle_account_is_counted() -> None:
    _, holder = new_holder(SEEN)
    hold = holder.try_reserve((Claim("shop/seen", 50, hard=False, value="alice"),), 0.0)
    assert hold is not None
    give(holder, 0, 0.0)
    give(holder, 0, VALUED_IDLE_S + 1)
    assert holder.figures() == ()
    holder.settle(hold, Charge(40))
    give(holder, 0, VALUED_IDLE_S + 2)
    assert [(figure.value, figure.spent) for figure in holder.figures()] == [("alice", 40)]


def test_what_was_counted_for_a_budget_that_is_not_in_force_any_more_is_dropped() -> None:
    _, holder = new_holder(SEEN)
    hold = holder.try_reserve((Claim("shop/seen", 50, hard=False, value="alice"),), 0.0)
    assert hold is not None
    holder.settle(hold, Charge(40))
    holder.obey(())
    holder.obey((SEEN,))
    assert holder.statements(1.0) == ()


MEMORY = """
import sys
from pathlib import Path
from keelage_api.proxy_config import BudgetTerms, Per
from keelage_api.sync import Right
from keelage_sidecar.core.claim import Charge, Claim
from keelage_sidecar.shell.journal import open_holder

def rss():
    fields = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(fields["VmRSS"].split()[0])

holder = open_holder(Path(sys.argv[1]), print)
holder.obey((BudgetTerms("shop/user", hard=True, per=(Per.USER,)),))
before = rss()
for first in range(0, 10_000, 500):
    for number in range(first, first + 500):
        holder.wait((Claim("shop/user", 10**9, hard=True, value=f"user-{number}@example.com"),), 5.0, 0.0)
    while len(holder.figures()) < first + 500:
        holder.heard(
            [Right(each.budget, "2026-11.u", each.seq, max(each.granted, 10**10), 1e6, value=each.value, limit=10**12)
             for each in holder.statements(first / 1000)], first / 1000)
    for _, hold in holder.admit(0.0):
        holder.settle(hold, Charge(10**8 + first))
assert len(holder.figures()) == 10_000
print(rss() - before)
"""


def test_ten_thousand_users_take_no_more_than_twenty_mebibytes(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", MEMORY, str(tmp_path)], capture_output=True, text=True, check=True, timeout=120
    )
    assert int(done.stdout) <= 20 * 1024
