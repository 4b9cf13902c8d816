"""Patterns match what `re` says, and never take longer than in proportion to the text."""

from __future__ import annotations

import contextlib
import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from keelage_api.linear_regex import KNOWN_MAX, STEPS_MAX, compile_pattern, literal
from keelage_api.regex_syntax import PatternError

LETTERS = "abAB 1_\n.-"
ATOMS = st.sampled_from(
    [
        r"a",
        r"b",
        r"A",
        r"1",
        r".",
        r"\.",
        r"\d",
        r"\w",
        r"\s",
        r"\S",
        r"[ab]",
        r"[^ab]",
        r"[a-b\d_]",
        r"[]a]",
        r"[a-]",
        r"\n",
        r"^",
        r"$",
        r"\b",
        r"\B",
        r"(?:)",
        r"{",
        r"[^\s]",
    ]
)
COUNTS = st.sampled_from(["*", "+", "?", "{2}", "{0,2}", "{1,}", "*?"])
PATTERNS = st.recursive(
    ATOMS,
    lambda inner: st.one_of(
        st.builds("{}{}".format, inner, inner),
        st.builds("{}|{}".format, inner, inner),
        st.builds("({})".format, inner),
        st.builds("(?:{}){}".format, inner, COUNTS),
    ),
    max_leaves=8,
)


def peer(pattern: str, flags: str) -> re.Pattern[str]:
    """Python's `$` also stands before a newline at the end; its `\\B` is not found in an empty text, as RE2's is."""
    return re.compile(flags + re.sub(r"(?<!\\)\$", r"\\Z", pattern), re.ASCII)


@given(
    PATTERNS,
    st.text(LETTERS, min_size=1, max_size=12),
    st.sampled_from(["", "(?i)", "(?s)", "(?is)"]),
    st.integers(0, 12),
)
@example("(?:a|b)*?$", "ba", "", 1)
@example("[^a]", "A", "(?i)", 0)
@example(r"\b1", "1", "", 0)
def test_what_is_found_is_what_the_standard_library_finds(pattern: str, text: str, flags: str, cut: int) -> None:
    wanted = peer(pattern, flags).search(text) is not None
    expression = compile_pattern(flags + pattern)
    assert expression.search(text) is wanted
    scan = expression.scan()
    early = scan.feed(text[:cut])
    late = scan.feed(text[cut:])
    assert not (early and not late)
    assert not (scan.hopeless and wanted)
    assert scan.end() is wanted


@given(st.text(max_size=20), st.text(max_size=5), st.text(max_size=5))
def test_a_literal_is_found_where_it_stands(text: str, before: str, after: str) -> None:
    assert compile_pattern(literal(text)).search(before + text + after)


@pytest.mark.parametrize("pattern", ["^UNSURE", r"^\s*(?:UNSURE|NOT SURE)", "(^a|^b)c", "^"])
def test_a_pattern_that_must_begin_the_text_is_given_up_with_the_first_letter_that_differs(pattern: str) -> None:
    scan = compile_pattern(pattern).scan()
    assert not scan.hopeless
    scan.feed("Paris is the capital")
    assert scan.hopeless is (pattern != "^")


@pytest.mark.parametrize(
    "pattern", ["(a*)*b", "(a|a)*b", "(a+)+c$", "(?:a?){40}a{40}b", "[ab]*a[ab]{100}c", "(.*)(.*)(.*)x"]
)
def test_no_pattern_looks_at_a_character_more_often_than_it_has_steps(pattern: str) -> None:
    expression = compile_pattern(pattern)
    assert not expression.search("a" * 3_000)
    assert len(expression._known) <= KNOWN_MAX


@pytest.mark.parametrize(
    ("pattern", "said"),
    [
        ("*a", "at character 1: nothing before"),
        ("a**", "repetition of a repetition"),
        ("a++", "repetition of a repetition"),
        ("(a", "without its )"),
        ("a)", "without its ("),
        ("[a", "without its ]"),
        (r"(a)\1", "which is not known"),
        ("(?=a)", "looks around"),
        ("(?<!a)b", "looks around"),
        ("a(?i)b", "flags stand at the beginning"),
        ("a{3,2}", "less than its least"),
        ("a{2000}", "more than 1000"),
        ("(?:a{100}){100}", f"more than {STEPS_MAX} steps"),
        ("[z-a]", "ends before it begins"),
        ("[[:alpha:]]", "write its characters"),
        (r"[\D]", "write the characters"),
        ("\\", "which is not known"),
        ("a" * 1025, "1025 characters"),
        ("(" * 60 + ")" * 60, "nested"),
    ],
)
def test_what_is_no_pattern_says_where_and_why(pattern: str, said: str) -> None:
    with pytest.raises(PatternError) as error:
        compile_pattern(pattern)
    assert said in str(error.value)


@given(st.text(st.sampled_from("ab01(){}[]|*+?^$\\.-,:=<!Pisdwb "), max_size=20))
def test_any_text_is_a_pattern_or_says_why_not(pattern: str) -> None:
    with contextlib.suppress(PatternError):
        compile_pattern(pattern).search("ab 0\n")
