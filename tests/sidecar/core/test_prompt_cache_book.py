"""When breakpoints are given up, and when they are tried again."""

from __future__ import annotations

from itertools import product

import pytest
from msgspec.structs import replace
from tests.sidecar.core.calls import HAIKU, claude, is_a, messages

from keelage_api.proxy_config import ModelChoice, PromptCaching, Rule
from keelage_api.usage import TokenUsage
from keelage_sidecar.core.prompt_cache import Extent
from keelage_sidecar.core.prompt_cache_book import (
    CALLS_MANY,
    CALLS_MIN,
    KEPT_MAX,
    MANY_S,
    REST_BASE_S,
    REST_MAX_S,
    TRANSITIONS,
    Account,
    Marked,
    PromptCacheBook,
    Signal,
    State,
    advance,
    saved_by_caching,
)

LIFE_S = 300.0
WRITE = TokenUsage(input_tokens=100, cache_write_5m_tokens=10_000, output_tokens=10)
READ = TokenUsage(input_tokens=100, cache_read_tokens=10_000, output_tokens=10)
NOTHING = TokenUsage(input_tokens=10_100, output_tokens=10)
RULE = Rule("assistant", "all", (ModelChoice("assistant/anthropic"),), prompt_cache=PromptCaching())
SYSTEM = "x" * 30_000
TALK = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}, {"role": "user", "content": "c"}]


def standing(account: Account) -> State:
    """Its state; asked by a call, since a type checker takes an attribute for what it was last compared with."""
    return account.state


def judged(account: Account, usages: list[TokenUsage], now_s: float) -> State:
    """A window of CALLS_MIN calls with these usages in turn, the last one when an entry's life is over."""
    for number in range(CALLS_MIN):
        when_s = now_s + LIFE_S if number == CALLS_MIN - 1 else now_s
        assert account.is_open(when_s)
        account.learn(usages[number % len(usages)], HAIKU, when_s)
    return standing(account)


@pytest.mark.parametrize(("state", "signal"), list(product(State, Signal)))
def test_each_state_answers_each_signal_by_the_table_alone(state: State, signal: Signal) -> None:
    assert advance(state, signal) is TRANSITIONS.get((state, signal), state)


@pytest.mark.parametrize(
    ("usage", "saved"),
    [
        (WRITE, -10_000 * 250_000),
        (READ, 10_000 * 900_000),
        (NOTHING, 0),
        (replace(WRITE, cache_write_5m_tokens=0, cache_write_1h_tokens=10_000), -10_000 * 1_000_000),
    ],
)
def test_savings_are_what_the_same_answer_would_have_cost_without_caches_less_its_cost(
    usage: TokenUsage, saved: int
) -> None:
    assert saved_by_caching(usage, HAIKU) == (saved, 10_100 * 1_000_000 + 10 * 5_000_000)


@pytest.mark.parametrize(
    ("usages", "state"),
    [
        ([READ], State.ON),
        ([WRITE, READ], State.ON),
        ([WRITE, WRITE, WRITE, READ], State.ON),
        ([*[WRITE] * 4, READ], State.OFF),
        ([WRITE], State.OFF),
        ([NOTHING], State.OFF),
        ([NOTHING, READ], State.ON),
    ],
)
def test_they_are_given_up_where_reads_have_not_repaid_the_writes(usages: list[TokenUsage], state: State) -> None:
    assert judged(Account(LIFE_S, 0.0), usages, 0.0) is state


def test_many_calls_are_judged_before_an_entrys_life_is_over_but_not_within_seconds() -> None:
    account = Account(LIFE_S, 0.0)
    for _ in range(CALLS_MANY * 3):
        account.learn(WRITE, HAIKU, MANY_S - 1)
    assert standing(account) is State.ON
    account.learn(WRITE, HAIKU, MANY_S)
    assert standing(account) is State.OFF


def test_few_calls_are_not_judged_at_all() -> None:
    account = Account(LIFE_S, 0.0)
    for number in range(CALLS_MIN - 1):
        account.learn(WRITE, HAIKU, 1000.0 * number)
    assert standing(account) is State.ON


def test_after_a_rest_they_are_tried_again_and_stay_if_they_pay() -> None:
    account = Account(LIFE_S, 0.0)
    judged(account, [WRITE], 0.0)
    due_s = LIFE_S + REST_BASE_S
    assert not account.is_open(due_s - 1)
    assert account.is_open(due_s)
    assert standing(account) is State.TRYING
    assert judged(account, [WRITE, READ], due_s) is State.ON


def test_what_just_breaks_even_goes_on_but_does_not_begin_again() -> None:
    even = [*[WRITE] * 15, *[READ] * 5]
    assert 0 <= sum(saved_by_caching(each, HAIKU)[0] for each in even) < 20 * 10_150 * 1_000_000 // 20
    account = Account(LIFE_S, 0.0)
    assert judged(account, even, 0.0) is State.ON
    assert judged(account, [WRITE], LIFE_S) is State.OFF
    assert judged(account, even, 2 * LIFE_S + REST_BASE_S) is State.OFF


def test_each_loss_in_a_row_doubles_the_rest_up_to_two_hours() -> None:
    account = Account(LIFE_S, 0.0)
    now_s, rests = 0.0, []
    for _ in range(7):
        judged(account, [WRITE], now_s)
        began_s = now_s + LIFE_S
        now_s = began_s
        while not account.is_open(now_s):
            now_s += REST_BASE_S
        rests.append(now_s - began_s)
    assert rests == [min(REST_MAX_S, REST_BASE_S * 2**each) for each in range(7)]
    judged(account, [READ], now_s)
    judged(account, [WRITE], now_s + LIFE_S)
    assert account.is_open(now_s + 2 * LIFE_S + REST_BASE_S)


def test_who_began_before_they_were_given_up_says_nothing_more() -> None:
    account = Account(LIFE_S, 0.0)
    judged(account, [WRITE], 0.0)
    for _ in range(CALLS_MANY):
        account.learn(READ, HAIKU, LIFE_S + 1)
    assert standing(account) is State.OFF


def mark(book: PromptCacheBook, now_s: float = 0.0, **fields: object) -> Marked:
    return is_a(Marked, book.marked(messages(system=SYSTEM, **fields), claude(), RULE, now_s))


def lose(book: PromptCacheBook, now_s: float, **fields: object) -> None:
    """A window in which what is written is never read."""
    for number in range(CALLS_MIN):
        when_s = now_s + (LIFE_S if number == CALLS_MIN - 1 else 0)
        assert mark(book, when_s, **fields).learn(WRITE, claude(), when_s) == -10_000 * 250_000


def test_a_conversation_loses_the_breakpoint_of_its_turns_first() -> None:
    book = PromptCacheBook()
    assert mark(book, messages=TALK).extent is Extent.TURNS
    lose(book, 0.0, messages=TALK)
    left = mark(book, LIFE_S, messages=TALK)
    assert (left.extent, left.facts.body.count(b"cache_control")) == (Extent.FIXED, 1)
    lose(book, LIFE_S, messages=TALK)
    bare = mark(book, 2 * LIFE_S, messages=TALK)
    assert (bare.extent, bare.account, bare.facts) == (None, None, messages(system=SYSTEM, messages=TALK))
    assert bare.learn(NOTHING, claude(), 0.0) is None
    assert {key.extent: state for key, state in book.states()} == {
        Extent.TURNS: State.OFF,
        Extent.FIXED: State.OFF,
    }


def test_rules_and_models_are_judged_apart() -> None:
    book = PromptCacheBook()
    lose(book, 0.0)
    facts = messages(system=SYSTEM)
    others = ((claude(), replace(RULE, name="other")), (replace(claude(), model="claude-opus-4-5"), RULE))
    for candidate, rule in others:
        assert is_a(Marked, book.marked(facts, candidate, rule, LIFE_S)).extent is Extent.FIXED
    assert mark(book, LIFE_S).extent is None


def test_nothing_is_marked_that_is_too_short_or_that_the_rule_leaves_alone() -> None:
    book = PromptCacheBook()
    assert book.marked(messages(), claude(), RULE, 0.0) is None
    assert book.marked(messages(system=SYSTEM), claude(), replace(RULE, prompt_cache=None), 0.0) is None
    short = messages(messages=[{"role": "user", "content": "x" * 30_000}])
    assert book.marked(short, claude(), RULE, 0.0) is None


def test_invented_models_do_not_fill_the_book() -> None:
    book = PromptCacheBook()
    for number in range(KEPT_MAX + 2):
        book.marked(messages(system=SYSTEM), replace(claude(), model=f"m{number}"), RULE, 0.0)
    assert len(book.states()) == 2


def test_where_no_breakpoint_pays_is_told_and_where_some_do_is_not() -> None:
    book = PromptCacheBook()
    call = messages(system=SYSTEM, messages=TALK)
    assert book.resting() == ()
    for extent in (Extent.TURNS, Extent.FIXED):
        marked = is_a(Marked, book.marked(call, claude(), RULE, 0.0))
        assert marked.extent is extent
        assert marked.account is not None
        assert book.resting() == ()
        assert judged(marked.account, [WRITE], 0.0) is State.OFF
    assert [(each.route, each.rule, each.model) for each in book.resting()] == [("assistant", "all", claude().model)]
    rested_s = LIFE_S + REST_BASE_S
    assert is_a(Marked, book.marked(call, claude(), RULE, rested_s)).extent is Extent.TURNS
    assert book.resting() == ()
