"""Answers on a server that others can read."""

from __future__ import annotations

import pytest

from keelage_sidecar.core.response_cache import KeptAnswer
from keelage_sidecar.core.sealed_answer import NONCE_BYTES, Seal

SECRET = "0123456789abcdef0123456789abcdef"
ANSWER = KeptAnswer(((b"content-type", b"application/json"),), b'{"a":1}', 100.0, 1 << 50, "m", "end_turn")
KEY, NONCE = bytes(32), bytes(NONCE_BYTES)


def test_an_answer_is_read_back_with_its_age_on_another_clock() -> None:
    seal = Seal(SECRET, "shop")
    name = seal.name(KEY)
    value = seal.sealed(name, ANSWER, now_s=107.0, unix_s=1_000_007.0, nonce=NONCE)
    found = Seal(SECRET, "shop").opened(name, value, now_s=50.0, unix_s=1_000_010.0)
    assert found is not None
    assert found.kept_s == 40.0, "ten seconds ago"
    assert (found.headers, found.body, found.cost) == (ANSWER.headers, ANSWER.body, ANSWER.cost)
    assert (found.model, found.stop_reason) == ("m", "end_turn")


def test_an_answer_from_the_future_is_of_now() -> None:
    seal = Seal(SECRET, "shop")
    value = seal.sealed(b"name", ANSWER, 100.0, 2_000.0, NONCE)
    found = seal.opened(b"name", value, 50.0, 1_000.0)
    assert found is not None
    assert found.kept_s == 50.0


def test_nothing_of_call_and_answer_can_be_read() -> None:
    seal = Seal(SECRET, "shop")
    name = seal.name(b"key of the call" + bytes(17))
    value = seal.sealed(name, ANSWER, 0.0, 0.0, NONCE)
    assert name.startswith(b"keelage:shop:")
    assert name != Seal(SECRET[::-1], "shop").name(b"key of the call" + bytes(17))
    assert b"key of" not in name
    assert ANSWER.body not in value
    assert b"end_turn" not in value


@pytest.mark.parametrize("change", ["secret", "name", "namespace", "byte", "cut", "format", "empty"])
def test_what_was_not_sealed_so_is_not_read(change: str) -> None:
    seal = Seal(SECRET, "shop")
    name = seal.name(KEY)
    value = seal.sealed(name, ANSWER, 0.0, 0.0, NONCE)
    other = {
        "secret": (Seal(SECRET[::-1], "shop"), name, value),
        "name": (seal, seal.name(b"\x01" * 32), value),
        "namespace": (seal, Seal(SECRET, "other").name(KEY), value),
        "byte": (seal, name, value[:-1] + bytes([value[-1] ^ 1])),
        "cut": (seal, name, value[:20]),
        "format": (seal, name, b"\x02" + value[1:]),
        "empty": (seal, name, b""),
    }[change]
    opener, called, read = other
    assert opener.opened(called, read, 0.0, 0.0) is None
    assert seal.opened(name, value, 0.0, 0.0) is not None
