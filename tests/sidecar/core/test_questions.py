"""A holder asks for the account of a value until it is answered: what the ledger granted must not be forgotten."""

from __future__ import annotations

from tests.blank_journal import blank_journal

from keelage_api.proxy_config import BudgetTerms, Per
from keelage_api.sync import Right
from keelage_sidecar.core.claim import Claim, Waiter
from keelage_sidecar.core.holder import Holder
from keelage_sidecar.core.journal_format import Journal

USER = BudgetTerms("shop/user", hard=True, per=(Per.USER,))
CLAIM = (Claim("shop/user", 100, hard=True, value="alice"),)


def test_a_question_without_an_answer_is_asked_again_though_nobody_waits_any_more() -> None:
    holder = Holder(Journal(bytearray(blank_journal("0123456789abcdef"))))
    holder.obey([USER])
    waiter = holder.wait(CLAIM, until_s=1.0, now=0.0)
    assert isinstance(waiter, Waiter)
    assert [(each.value, each.min_want) for each in holder.statements(0.0)] == [("alice", 100)]
    holder.lost()  # the ledger heard it, and stored 100 for this holder
    holder.cancel(waiter.id)
    (again,) = holder.statements(2.0)
    assert (again.window, again.value, again.min_want) == ("", "alice", 0)
    holder.heard([Right("shop/user", "w.u", again.seq, granted=0, ends_in_s=100.0, value="alice")], 2.0)
    (told,) = holder.statements(4.0)
    assert (told.window, told.keep) == ("w.u", 0), "the ledger takes back what nobody asks for"


def test_a_question_names_the_windows_in_which_there_is_an_account_and_goodbyes_are_said_until_answered() -> None:
    holder = Holder(Journal(bytearray(blank_journal("0123456789abcdef"))))
    holder.obey([USER])
    holder.wait(CLAIM, until_s=90.0, now=0.0)
    (question,) = holder.statements(0.0)
    assert question.besides == ()
    holder.heard([Right("shop/user", "w.u", question.seq, granted=100, ends_in_s=10.0, value="alice")], 0.0)
    for now in (11.0, 11.2):  # its window is over, the first goodbye is not answered
        goodbye, question = holder.statements(now)
        assert (goodbye.window, goodbye.final, question.window, question.besides) == ("w.u", True, "", ("w.u",))
        holder.lost()
    goodbye, question = holder.statements(11.4)
    holder.heard([Right("shop/user", "w.u", goodbye.seq, granted=0, value="alice")], 11.4)
    (question,) = holder.statements(11.6)
    assert (question.window, question.besides) == ("", ()), "the account is closed"
