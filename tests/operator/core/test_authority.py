"""What is done about the authority's Secret, over its ten years."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from keelage_operator.core.authority import (
    BUNDLE_KEY,
    DATA_KEY,
    Authority,
    Trust,
    Unusable,
    expiry,
    leaf_renewal,
    needs_successor,
    read_trust,
    server_names,
    signer,
    write_trust,
)
from keelage_operator.shell.certificates import new_authority

NOW = datetime(2026, 11, 21, tzinfo=UTC)
FIRST = new_authority(NOW)
SECOND = new_authority(NOW + timedelta(days=2600))


def test_what_is_written_is_read_back_with_its_bundle() -> None:
    data = write_trust(Trust((FIRST,)))
    assert read_trust(data, NOW) == Trust((FIRST,))
    assert data[BUNDLE_KEY].decode() == FIRST.certificate


@pytest.mark.parametrize(
    ("data", "says"),
    [
        ({}, "no authorities.json"),
        ({DATA_KEY: b"{"}, "authorities.json"),
        ({DATA_KEY: b"\xff"}, "authorities.json"),
        ({DATA_KEY: b"[]"}, "no authority"),
        (write_trust(Trust((Authority("nonsense", "nonsense"),))), "authority 0"),
        (write_trust(Trust((Authority(FIRST.certificate, "nonsense"),))), "authority 0"),
        (write_trust(Trust((Authority(FIRST.certificate, SECOND.key),))), "do not belong together"),
    ],
)
def test_secret_that_is_no_authority_is_unusable_with_a_reason(data: dict[str, bytes], says: str) -> None:
    found = read_trust(data, NOW)
    assert isinstance(found, Unusable)
    assert says in found.reason
    assert "PRIVATE KEY" not in found.reason


def test_expired_authority_is_unusable() -> None:
    assert isinstance(read_trust(write_trust(Trust((FIRST,))), NOW + timedelta(days=3651)), Unusable)


def test_successor_joins_years_before_it_signs() -> None:
    young, old = NOW, NOW + timedelta(days=2600)
    assert not needs_successor(Trust((FIRST,)), young)
    assert needs_successor(Trust((FIRST,)), old)
    both = Trust((FIRST, SECOND))
    assert not needs_successor(both, old)
    assert signer(both, old) == FIRST, "pods that are running trust this one"
    assert signer(both, NOW + timedelta(days=3300)) == SECOND
    assert both.bundle.decode() == FIRST.certificate + SECOND.certificate


def test_only_authority_signs_to_its_end() -> None:
    assert signer(Trust((FIRST,)), NOW + timedelta(days=3600)) == FIRST


def test_expired_predecessor_leaves_the_bundle() -> None:
    later = expiry(FIRST) + timedelta(days=1)
    assert read_trust(write_trust(Trust((FIRST, SECOND))), later) == Trust((SECOND,))


def test_leaf_is_renewed_after_two_thirds() -> None:
    assert leaf_renewal(NOW, NOW + timedelta(days=9)) == NOW + timedelta(days=6)


def test_names_are_those_that_api_server_and_sidecars_call() -> None:
    assert server_names("keelage", "ops") == ("keelage.ops.svc", "keelage.ops", "keelage.ops.svc.cluster.local")
