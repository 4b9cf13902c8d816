"""The record of a last will: what is read is what was written by the one who has the key, or nothing."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keelage_api.will import (
    ACCOUNTS_MAX,
    RECORD_BYTES,
    Promise,
    Will,
    account_of,
    incarnation_in,
    read_will,
    write_will,
)

KEY = b"k" * 32
AMOUNTS = st.integers(0, (1 << 63) - 1)
ACCOUNTS = st.text("0123456789abcdef", min_size=16, max_size=16)
WILLS = st.builds(
    Will,
    incarnation=st.text("0123456789abcdef", min_size=16, max_size=16),
    seq=st.integers(0, (1 << 63) - 1),
    promises=st.dictionaries(ACCOUNTS, st.builds(Promise, AMOUNTS, AMOUNTS), max_size=ACCOUNTS_MAX),
)
ONE = Will("0123456789abcdef", 7, {account_of("shop/month", "2026-11"): Promise(5, 9)})


@given(WILLS)
def test_a_record_is_read_as_it_was_written_and_fits(will: Will) -> None:
    record = write_will(will, KEY)
    assert len(record) <= RECORD_BYTES
    assert read_will(record.decode(), [KEY]) == will
    assert incarnation_in(record.decode()) == will.incarnation


@given(WILLS, st.integers(0, RECORD_BYTES), st.characters(codec="ascii"))
def test_a_changed_record_is_none(will: Will, place: int, other: str) -> None:
    text = write_will(will, KEY).decode()
    place %= len(text)
    changed = text[:place] + other + text[place + 1 :]
    assert changed == text or read_will(changed, [KEY]) is None


@given(WILLS, st.integers(1, RECORD_BYTES))
def test_a_torn_record_is_none(will: Will, cut: int) -> None:
    text = write_will(will, KEY).decode()
    assert read_will(text[: -min(cut, len(text))], [KEY]) is None


@pytest.mark.parametrize("message", ["OOM killed: {}", "{{}} {}", "{}   \n", "{keelage-will-1 {}"])
def test_text_of_the_runtime_may_stand_around_it(message: str) -> None:
    text = write_will(ONE, KEY).decode()
    assert read_will(message.replace("{}", text), [b"older", KEY]) == ONE


def test_another_key_reads_nothing() -> None:
    assert read_will(write_will(ONE, KEY).decode(), [b"x" * 32]) is None
    assert read_will(write_will(ONE, KEY).decode(), []) is None
    assert read_will("Error: exit 137", [KEY]) is None


def test_of_several_records_the_last_one_counts() -> None:
    newer = Will(ONE.incarnation, 8)
    text = (write_will(ONE, KEY) + write_will(newer, KEY)).decode()
    assert read_will(text, [KEY]) == newer


def test_an_account_that_is_not_named_has_no_promise() -> None:
    assert ONE.on("shop/month", "2026-11") == Promise(5, 9)
    assert ONE.on("shop/month", "2026-12") is None
