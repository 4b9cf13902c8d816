"""The last will on its way into the termination message file."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

from tests.blank_journal import blank_journal
from tests.simulation.virtual_time import run

from keelage_api.proxy_config import BudgetTerms
from keelage_api.sync import Right, SyncReply, SyncRequest
from keelage_api.will import Promise, Will, read_will
from keelage_sidecar.core.claim import Charge, Claim, Hold
from keelage_sidecar.core.holder import Holder
from keelage_sidecar.core.journal_format import Journal
from keelage_sidecar.settings import read_settings
from keelage_sidecar.shell.lease_keeper import LeaseKeeper
from keelage_sidecar.shell.will_file import TerminationFile, open_will_file

KEY = bytes(32)


class Ledger:
    """Grants all that is asked for, with a key."""

    def __init__(self, key: str = KEY.hex()) -> None:
        self.key = key
        self.seqs: list[int] = []

    async def sync(self, request: SyncRequest) -> SyncReply:
        rights = tuple(
            Right(each.budget, each.window or "w", each.seq, each.granted + each.want, ends_in_s=1000.0)
            for each in request.statements
        )
        self.seqs += [each.seq for each in request.statements]
        return SyncReply(rights, will_key=self.key)


def stands(path: Path) -> Will | None:
    return read_will(path.read_text(), [KEY])


def promise(path: Path) -> Promise:
    will = stands(path)
    found = will.on("shop/month", "w") if will is not None else None
    assert found is not None
    return found


def new_keeper(path: Path, ledger: Ledger) -> LeaseKeeper:
    path.write_text("what an earlier container left")
    holder = Holder(Journal(bytearray(blank_journal("0123456789abcdef"))), open_will_file(path, print))
    keeper = LeaseKeeper(holder, ledger, asyncio.get_running_loop().time, lambda: 0.0)
    keeper.obey((BudgetTerms("shop/month", hard=True),))
    return keeper


def test_the_file_holds_the_truth_while_calls_run_and_soon_after_them(tmp_path: Path) -> None:
    async def scene() -> None:
        path, ledger = tmp_path / "log", Ledger()
        keeper = new_keeper(path, ledger)
        running = asyncio.create_task(keeper.run())
        hold = await keeper.reserve((Claim("shop/month", 100, hard=True),), 5.0)
        assert isinstance(hold, Hold)
        assert promise(path).promised >= 100
        keeper.settle(hold, Charge(37))
        await asyncio.sleep(1.0)
        assert promise(path) == Promise(37, 37)
        running.cancel()
        await keeper.leave()
        will = stands(path)
        assert will is not None
        assert will.seq == max(ledger.seqs)

    run(scene())


def test_without_a_key_the_file_stays_empty(tmp_path: Path) -> None:
    async def scene() -> None:
        path = tmp_path / "log"
        keeper = new_keeper(path, Ledger(key=""))
        running = asyncio.create_task(keeper.run())
        assert isinstance(await keeper.reserve((Claim("shop/month", 100, hard=True),), 5.0), Hold)
        assert path.read_bytes() == b""
        running.cancel()

    run(scene())


def test_nothing_of_a_longer_record_shows_behind_a_shorter_one(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_text("before")
    file = open_will_file(path, print)
    assert file is not None
    assert file.write(b"a longer record")
    assert file.write(b"short")
    assert path.read_text().strip() == "short"
    assert file.erase()
    assert path.read_bytes() == b""


def test_a_file_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.touch()
    file = TerminationFile(os.open(path, os.O_RDONLY))
    assert not file.write(b"record")
    assert not file.erase()


def test_a_file_that_is_not_there_is_complained_of_and_done_without(tmp_path: Path) -> None:
    complaints: list[str] = []
    assert open_will_file(tmp_path / "missing", complaints.append) is None
    assert "missing" in complaints[0]
    assert open_will_file(None, complaints.append) is None
    assert len(complaints) == 1


def test_the_environment_names_the_file() -> None:
    plain = {"KEELAGE_OPERATOR": "https://keelage.test:8443"}
    assert read_settings(plain).will_file is None
    assert read_settings({**plain, "KEELAGE_WILL_FILE": "/dev/termination-log"}).will_file == Path(
        "/dev/termination-log"
    )
