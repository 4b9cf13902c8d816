"""Which configuration is in force."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

import pytest
from tests.sidecar.shell.proxied import config_of

from keelage_api.codec import encode
from keelage_api.errors import MessageError
from keelage_api.proxy_config import ProxyConfig
from keelage_sidecar.shell.config_watch import FILE, ConfigWatch, SourceUnreachable

FIRST = config_of(["http://127.0.0.1:1"])
SECOND = config_of(["http://127.0.0.1:2"])


class Script:
    """Answers in order, then ends the watch."""

    def __init__(self, *answers: ProxyConfig | Exception) -> None:
        self._answers = list(answers)
        self.asked: list[str] = []

    async def next(self, version: str) -> ProxyConfig:
        self.asked.append(version)
        if not self._answers:
            raise asyncio.CancelledError
        answer = self._answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


async def follow(
    state: Path | None, answers: Sequence[ProxyConfig | Exception], drawn: float = 1.0
) -> tuple[ConfigWatch, list[str], list[float]]:
    """The watch after these answers, the versions obeyed and the pauses made."""
    obeyed: list[str] = []
    pauses: list[float] = []

    async def pause(seconds: float) -> None:
        pauses.append(seconds)

    watch = ConfigWatch(
        Script(*answers), state, lambda config: obeyed.append(config.version), lambda: None, lambda: drawn, pause
    )
    watch.restore()
    with pytest.raises(asyncio.CancelledError):
        await watch.run()
    return watch, obeyed, pauses


async def test_each_new_configuration_is_obeyed_once_and_kept(tmp_path: Path) -> None:
    watch, obeyed, _ = await follow(tmp_path, [FIRST, FIRST, SECOND])
    assert obeyed == [FIRST.version, SECOND.version]
    assert watch.version == SECOND.version
    assert (tmp_path / FILE).read_bytes() == encode(SECOND)
    again, obeyed, _ = await follow(tmp_path, [])
    assert obeyed == [again.version] == [SECOND.version]


async def test_a_bad_one_leaves_the_last_good_one_in_force_until_it_is_mended(tmp_path: Path) -> None:
    watch, obeyed, pauses = await follow(tmp_path, [FIRST, MessageError("format 9")])
    assert (obeyed, watch.version, watch.error) == ([FIRST.version], FIRST.version, "format 9")
    assert len(pauses) == 1
    watch, _, _ = await follow(tmp_path, [MessageError("format 9"), SECOND])
    assert (watch.version, watch.error) == (SECOND.version, "")


async def test_an_operator_that_is_away_is_asked_at_growing_intervals() -> None:
    _, _, pauses = await follow(None, [SourceUnreachable("away")] * 8)
    assert pauses == sorted(pauses)
    assert pauses[-1] == 15.0
    _, _, others = await follow(None, [SourceUnreachable("away")] * 8, drawn=0.0)
    assert others == [pause / 2 for pause in pauses]


@pytest.mark.parametrize("kept", [b"", b"{", encode(FIRST)[:-9], encode(FIRST).replace(b"127.0.0.1", b"127.0.0.9")])
async def test_a_damaged_file_is_as_good_as_none(tmp_path: Path, kept: bytes) -> None:
    (tmp_path / FILE).write_bytes(kept)
    watch, obeyed, _ = await follow(tmp_path, [])
    assert (watch.table, obeyed) == (None, [])


async def test_a_state_directory_that_cannot_be_written_is_told_and_does_not_stop_service(tmp_path: Path) -> None:
    watch, obeyed, _ = await follow(tmp_path / "missing", [FIRST])
    assert obeyed == [FIRST.version]
    assert "cannot be kept" in watch.error
