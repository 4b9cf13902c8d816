"""The journal's file: found again after a kill, set aside when damaged."""

from __future__ import annotations

from pathlib import Path

import pytest

from keelage_api.proxy_config import BudgetTerms
from keelage_api.sync import Right
from keelage_sidecar.core.claim import Claim
from keelage_sidecar.core.holder import Holder
from keelage_sidecar.shell.journal import FILE_NAME, boot_id, open_holder


def spend(holder: Holder, amount: int) -> None:
    holder.obey((BudgetTerms("shop/month", hard=True),))
    (told,) = holder.statements(0.0)
    holder.heard([Right("shop/month", "2026-11", told.seq, 100, 60.0)], 0.0)
    assert holder.try_reserve((Claim("shop/month", amount, hard=True),), 0.0) is not None


def test_a_restarted_container_finds_its_journal(tmp_path: Path) -> None:
    first = open_holder(tmp_path, pytest.fail)
    spend(first, 30)
    again = open_holder(tmp_path, pytest.fail)
    assert again.incarnation == first.incarnation
    ((budget, window, granted, spent, reserved),) = [
        (f.budget, f.window, f.granted, f.spent, f.reserved) for f in again.figures()
    ]
    assert (budget, window, granted, spent, reserved) == ("shop/month", "2026-11", 100, 30, 0)


@pytest.mark.parametrize("damage", ["cut", "overwritten"])
def test_a_damaged_journal_is_set_aside_and_complained_of(tmp_path: Path, damage: str) -> None:
    first = open_holder(tmp_path, pytest.fail)
    path = tmp_path / FILE_NAME
    path.write_bytes(path.read_bytes()[:100] if damage == "cut" else b"x" * path.stat().st_size)
    complaints: list[str] = []
    fresh = open_holder(tmp_path, complaints.append)
    assert fresh.incarnation != first.incarnation
    assert "cannot be used" in complaints[0]
    assert (tmp_path / f"{FILE_NAME}.damaged").exists()


def test_a_restarted_container_spends_on_in_the_same_boot(tmp_path: Path) -> None:
    spend(open_holder(tmp_path, pytest.fail), 30)
    again = open_holder(tmp_path, pytest.fail)
    again.obey((BudgetTerms("shop/month", hard=True),))
    assert again.try_reserve((Claim("shop/month", 71, hard=True),), 1.0) is None
    assert again.try_reserve((Claim("shop/month", 70, hard=True),), 1.0) is not None


def test_after_a_boot_the_journal_is_not_believed(tmp_path: Path) -> None:
    first = open_holder(tmp_path, pytest.fail, boot=b"1" * 16)
    spend(first, 30)
    complaints: list[str] = []
    fresh = open_holder(tmp_path, complaints.append, boot=b"2" * 16)
    assert fresh.incarnation != first.incarnation
    assert fresh.figures() == ()
    assert "earlier boot" in complaints[0]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("66a0a5f4-b8d0-4b94-9f07-5a8a2a5ee5a5\n", "66a0a5f4b8d04b949f075a8a2a5ee5a5"),
        ("", "00" * 16),
        ("66a0", "00" * 16),
        ("not hexadecimal", "00" * 16),
    ],
)
def test_a_boot_id_is_sixteen_bytes_or_none(tmp_path: Path, text: str, found: str) -> None:
    source = tmp_path / "boot_id"
    source.write_text(text)
    assert boot_id(source).hex() == found
    assert boot_id(tmp_path / "missing") == bytes(16)


def test_a_directory_that_cannot_be_written_stops_the_start(tmp_path: Path) -> None:
    with pytest.raises(OSError):
        open_holder(tmp_path / "missing", pytest.fail)
