"""When a summary is asked for, what it stands for, and what is done without one."""

from __future__ import annotations

import orjson
from tests.sidecar.core.calls import is_a, messages

from keelage_api.proxy_config import Summary
from keelage_sidecar.core.history import Conversation, conversation
from keelage_sidecar.core.summaries import KEPT_BYTES_MAX, PAUSE_S, Shortened, Summaries, Wanted

TERMS = Summary(over_tokens=300, tier="fast")
RULE = ("assistant", "all")
LONG = "lorem " * 40
"""With what is around it, 75 tokens or so; a turn has two."""


def talk(turns: int, keep: int = 1) -> Conversation:
    """A conversation of that many turns, of which all but `keep` are old."""
    said: list[dict[str, object]] = []
    for number in range(turns):
        said.append({"role": "user", "content": f"{number} {LONG}"})
        said.append({"role": "assistant", "content": LONG})
    return is_a(Conversation, conversation(messages(messages=said[:-1]), keep))


def contents(found: Shortened) -> list[str]:
    return [message["content"] for message in orjson.loads(found.facts.body)["messages"]]


def shorten(book: Summaries, turns: int, now_s: float = 0.0) -> Shortened | Wanted:
    return book.shorten(talk(turns), TERMS, RULE, now_s)


def test_without_terms_old_turns_are_cut() -> None:
    found = is_a(Shortened, Summaries().shorten(talk(4), None, RULE, 0.0))
    assert (found.trimmed, found.summarized) == (3, 0)
    assert contents(found) == [f"3 {LONG}"]


def test_old_turns_are_sent_until_they_are_long() -> None:
    found = is_a(Shortened, shorten(Summaries(), 2))
    assert (found.trimmed, found.summarized, len(contents(found))) == (0, 0, 3)
    assert found.facts.body == talk(2).facts.body


def test_then_a_summary_of_all_of_them_is_wanted() -> None:
    wanted = is_a(Wanted, shorten(Summaries(), 4))
    assert [f"user: {number} {LONG}" in wanted.question.text for number in range(4)] == [True, True, True, False]
    assert (wanted.otherwise.trimmed, contents(wanted.otherwise)) == (3, [f"3 {LONG}"])


def test_a_summary_serves_the_calls_that_follow_until_what_is_new_is_long() -> None:
    book = Summaries()
    book.written(is_a(Wanted, shorten(book, 4)).digest, "They said 0 to 2.")
    for turns, old in ((4, 0), (5, 2)):
        found = is_a(Shortened, shorten(book, turns))
        assert (found.trimmed, found.summarized) == (0, 3)
        assert len(contents(found)) == 1 + old + 1
        assert contents(found)[0].endswith("They said 0 to 2.")
    wanted = is_a(Wanted, shorten(book, 7))
    assert wanted.question.text.startswith("assistant: They said 0 to 2.\nuser: 3 ")
    assert "user: 2 " not in wanted.question.text
    assert (wanted.otherwise.trimmed, wanted.otherwise.summarized) == (3, 3)
    book.written(wanted.digest, "They said 0 to 5.")
    assert is_a(Shortened, shorten(book, 7)).summarized == 6


def test_another_conversation_has_another_summary() -> None:
    book = Summaries()
    book.written(is_a(Wanted, shorten(book, 4)).digest, "They said 0 to 2.")
    other = [{"role": "user", "content": f"x{number} {LONG}"} for number in range(6)]
    assert isinstance(
        book.shorten(is_a(Conversation, conversation(messages(messages=other), 1)), TERMS, RULE, 0.0), Wanted
    )


def test_after_a_failure_turns_are_cut_for_a_while_and_nobody_waits() -> None:
    book = Summaries()
    book.failed(RULE, 0.0)
    assert is_a(Shortened, shorten(book, 4, PAUSE_S - 1)).trimmed == 3
    assert isinstance(book.shorten(talk(4), TERMS, ("assistant", "other"), PAUSE_S - 1), Wanted)
    assert isinstance(shorten(book, 4, PAUSE_S), Wanted)


def test_summaries_are_bounded_and_the_least_used_go_first() -> None:
    book = Summaries()
    first = is_a(Wanted, shorten(book, 4)).digest
    book.written(first, "They said 0 to 2.")
    piece = "é" * (KEPT_BYTES_MAX // 8)
    for number in range(3):
        book.written(bytes([number]), piece)
        assert isinstance(shorten(book, 4), Shortened)
    book.written(b"3", piece)
    assert isinstance(shorten(book, 4), Shortened)
    for number in range(4, 8):
        book.written(bytes([number]), piece)
    assert isinstance(shorten(book, 4), Wanted)
