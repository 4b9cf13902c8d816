"""What two questions must share word for word before anybody is asked whether they are alike."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.sidecar.core.question_pairs import pairs

from keelage_sidecar.core.wording import TEXT_MAX, wording

PARAPHRASES = pairs("paraphrases")
NEAR_MISSES = pairs("near_misses")


def test_the_set_is_large_enough_to_mean_something() -> None:
    assert len(PARAPHRASES) >= 150
    assert len(NEAR_MISSES) >= 150
    assert len({one for _, one, _ in NEAR_MISSES}) > 150


@pytest.mark.parametrize(("kind", "one", "other"), NEAR_MISSES)
def test_a_near_miss_is_told_apart_whatever_an_embedder_says(kind: str, one: str, other: str) -> None:
    assert wording(one) != wording(other)
    assert wording(one), kind


def test_paraphrases_in_the_same_words_are_left_to_the_embedder() -> None:
    """The figures of docs/decisions/0015."""
    same = Counter(kind for kind, one, other in PARAPHRASES if wording(one) == wording(other))
    assert same == {"form": 17, "polite": 15, "synonym": 12, "order": 1}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("How do I reset my password?", "en ? | how reset my password"),
        ("Please tell me how I can reset the password, thanks!", "en ? | how reset the password"),
        ("In 2018, who won the world cup?", "en ? | in 2018, who won the world cup"),
        ("What's the sum of 1,000.50 € in US dollars?", "en ? | what the sum of 1000.50 € in US dollars is"),
        ("Was sind 1.000,50 € für dich?", "de ? | was 1000,50 Euro für dich sind"),
        ("Isn't max_tokens -5 at 10 mW?", "en ? | is not max_tokens -5 at 10 mW"),
        ('Translate "I am here" into French.', 'en . | translate "I am here" into French'),
        ("What is my IP address?", "en ? | what my IP address is"),
        ("Did Elizabeth I marry?", "en ? | did Elizabeth I marry"),
        ("Wie schalte ich das Licht ein?", "de ? | wie schalte ich das Licht ein"),
    ],
)
def test_what_is_left_of_a_question(text: str, words: str) -> None:
    assert " ".join(wording(text)) == words


@pytest.mark.parametrize("text", ["", "   ", "?!", "x" * (TEXT_MAX + 1)])
def test_what_is_no_question_has_no_words(text: str) -> None:
    assert wording(text) == ()


_FUNCTION = ["how", "do", "can", "i", "you", "not", "the", "a", "my", "is", "does", "please", "what", "who", "to", "be"]
_GERMAN = ["nicht", "ein", "aus", "wie", "ich", "die", "sie", "und", "für"]
_ODD = ["5", "0.5", "-1", "10%", "€", "3rd", "?", ",", ".", '"x"', "'y y'", "C++", "http://a/b", "who's", "don't", "US"]
_WORDS = st.sampled_from([*_FUNCTION, *_GERMAN, *_ODD])


@given(st.lists(_WORDS, max_size=12))
def test_any_text_has_a_wording_and_blanks_do_not_change_it(words: list[str]) -> None:
    assert wording("  ".join(words)) == wording(" ".join(words))


@given(st.text(max_size=200))
def test_no_text_breaks_it(text: str) -> None:
    wording(text)


_CONTENT = st.sampled_from(["cheese", "bridge", "tenant", "printer", "invoice", "garden", "river", "doctor"])
_GUARDED = st.sampled_from(
    ["7", "7.5", "-7", "7%", "not", "never", "without", "before", "after", "all", "some", "user_id", "user_ip", "'b'"]
)
_PARTIES = ["landlord", "tenant", "river", "doctor"]


@given(st.lists(_CONTENT, min_size=1, max_size=6), st.data())
def test_one_guarded_word_more_less_or_other_is_another_question(content: list[str], data: st.DataObject) -> None:
    place = data.draw(st.integers(0, len(content)))
    one = data.draw(_GUARDED)
    other = data.draw(_GUARDED.filter(lambda word: word != one))
    question = [*content[:place], one, *content[place:]]
    changed = [*content[:place], other, *content[place:]]
    told = wording("How does " + " ".join(question) + " work?")
    assert told != wording("How does " + " ".join(changed) + " work?")
    assert told != wording("How does " + " ".join(content) + " work?")


@given(
    st.permutations(["landlord", "tenant", "river", "doctor"]),
    st.permutations(["landlord", "tenant", "river", "doctor"]),
)
def test_the_same_words_in_another_order_are_another_question(one: list[str], other: list[str]) -> None:
    same = wording(f"Can the {' pay the '.join(one)}?") == wording(f"Can the {' pay the '.join(other)}?")
    assert same == (one == other)


_CODE = st.text("ab(){}[]<>.,;:!?+-*/=%&|'\"`", min_size=1, max_size=4)


@given(_CODE, _CODE)
def test_two_pieces_of_code_are_never_one(one: str, other: str) -> None:
    assert (wording(f"What does x {one} y mean?") == wording(f"What does x {other} y mean?")) == (one == other)


def test_lines_and_what_they_begin_with_count() -> None:
    assert wording("Explain if a:\n  b\n  c") != wording("Explain if a:\n  b\nc")
