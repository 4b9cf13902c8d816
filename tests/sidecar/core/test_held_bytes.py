"""Memory for answers: who finds none left copies and holds back no more."""

from __future__ import annotations

import pytest

from keelage_sidecar.core.answer_copy import AnswerCopy
from keelage_sidecar.core.held_bytes import HeldBytes


@pytest.mark.parametrize(("bytes_max", "all_max", "fits"), [(6, 9, True), (5, 9, False), (9, 6, True), (9, 5, False)])
def test_a_copy_is_made_as_far_as_there_is_memory(bytes_max: int, all_max: int, fits: bool) -> None:
    memory = HeldBytes(all_max)
    copy = AnswerCopy(bytes_max, memory)
    copy.begin(200, [])
    for piece in (b"[1,", b"23]", b""):
        copy.add(piece)
    copy.whole = True
    assert (copy.sound(), memory.bytes) == ((b"[1,23]", 6) if fits else (None, 0))
    copy.drop()
    assert memory.bytes == 0


def test_one_that_was_too_long_takes_nothing_of_what_follows() -> None:
    memory = HeldBytes(100)
    copy = AnswerCopy(3, memory)
    for _ in range(9):
        copy.add(b"1234")
    assert (copy.cut, memory.bytes) == (True, 0)


def test_who_takes_the_last_of_it_hears_so_and_it_comes_back() -> None:
    memory = HeldBytes(10)
    assert [memory.take(4), memory.take(6), memory.take(1)] == [True, True, False]
    memory.give_back(7)
    assert memory.take(0)
