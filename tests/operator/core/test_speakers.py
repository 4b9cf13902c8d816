"""Which sidecars count as present."""

from __future__ import annotations

import dataclasses

import pytest

from keelage_operator.core import speakers as module
from keelage_operator.core.speakers import SILENT_AFTER_S, Speaker, Speakers

ONE = Speaker("uid-1", "web-1", "shop", "v1", "", (), heard_s=100.0)


def test_new_word_is_told_from_a_repeated_one() -> None:
    speakers = Speakers()
    assert speakers.heard(ONE)
    assert not speakers.heard(dataclasses.replace(ONE, heard_s=102.0))
    assert speakers.heard(dataclasses.replace(ONE, heard_s=104.0, config_version="v2"))
    assert speakers.heard(dataclasses.replace(ONE, heard_s=106.0, config_version="v2", config_error="bad"))


def test_namespace_lists_its_own_by_name_while_they_speak() -> None:
    speakers = Speakers()
    other = dataclasses.replace(ONE, pod_uid="uid-0", pod_name="web-0", heard_s=110.0)
    elsewhere = dataclasses.replace(ONE, pod_uid="uid-9", namespace="lab")
    for speaker in (ONE, other, elsewhere):
        speakers.heard(speaker)
    assert speakers.of_namespace("shop", 120.0) == (other, ONE)
    assert speakers.of_namespace("shop", 101.0 + SILENT_AFTER_S) == (other,)
    assert speakers.drop_silent(101.0 + SILENT_AFTER_S) == (ONE, elsewhere)
    assert speakers.of_namespace("shop", 101.0) == (other,)


def test_goodbye_removes_the_pod() -> None:
    speakers = Speakers()
    speakers.heard(ONE)
    speakers.forget("uid-1")
    speakers.forget("uid-1")
    assert speakers.of_namespace("shop", 100.0) == ()


def test_register_is_bounded_and_the_longest_silent_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SPEAKERS_MAX", 2)
    speakers = Speakers()
    for number in (1, 2):
        speakers.heard(dataclasses.replace(ONE, pod_uid=f"uid-{number}"))
    speakers.heard(dataclasses.replace(ONE, pod_uid="uid-1", heard_s=101.0))
    speakers.heard(dataclasses.replace(ONE, pod_uid="uid-3"))
    assert {s.pod_uid for s in speakers.of_namespace("shop", 101.0)} == {"uid-1", "uid-3"}


@pytest.mark.parametrize(("count", "interval_s"), [(1, 2.0), (700, 2.0), (1050, 3.0), (1400, 4.0), (2000, 4.0)])
def test_the_more_sidecars_there_are_the_less_often_each_speaks(count: int, interval_s: float) -> None:
    speakers = Speakers()
    for number in range(count):
        speakers.heard(dataclasses.replace(ONE, pod_uid=f"uid-{number}"))
    assert speakers.interval_s == interval_s
