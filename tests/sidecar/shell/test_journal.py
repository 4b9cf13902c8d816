"""The journal's file: found again after a kill, set aside when damaged."""

from __future__ import annotations

from pathlib import Path

import pytest

from keelage_api.proxy_config import BudgetTerms
from keelage_api.sync import Right
from keelage_sidecar.core.claim import Claim
from keelage_sidecar.core.holder import Holder
from keelage_sidecar.shell.journal import FILE_NAME, open_holder


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
    assert "damaged" in complaints[0]
    assert (tmp_path / f"{FILE_NAME}.damaged").exists()


def test_a_directory_that_cannot_be_written_stops_the_start(tmp_path: Path) -> None:
    with pytest.raises(OSError):
        open_holder(tmp_path / "missing", pytest.fail)
