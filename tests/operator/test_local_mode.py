"""Local mode: manifests compile, status goes to a file, the commands print and exit as told."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from keelage_api.errors import KeelageError
from keelage_api.money import parse_usd
from keelage_api.sync import Statement, SyncRequest
from keelage_operator import local_mode
from keelage_operator.cli import main
from keelage_operator.local_folder import read_folder
from keelage_operator.local_mode import Objects, Options, compile_folder, problems, unselective
from keelage_sidecar.settings import Address

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
NOW = "2026-11-21T12:00:00Z"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The examples, to be changed."""
    there = tmp_path / "manifests"
    there.mkdir()
    for path in EXAMPLES.glob("*.yaml"):
        (there / path.name).write_text(path.read_text())
    return there


def test_the_examples_are_good() -> None:
    compiled = compile_folder(read_folder(EXAMPLES), Objects(Path("unused")), NOW)
    assert list(problems(compiled)) == []
    config = compiled.config_for({})
    assert [rule.name for rule in config.rules] == ["everything"]
    assert [budget.name for budget in config.budgets] == ["shop/shop-month"]


def test_pod_selectors_select_local_mode() -> None:
    raw = {"spec": {"podSelector": {"matchLabels": {"a": "b"}}, "applies": {"podSelector": {}, "routes": ["x"]}}}
    assert unselective(raw) == {"spec": {"applies": {"routes": ["x"]}}}


def test_generation_rises_with_the_spec_and_creation_stays(folder: Path) -> None:
    objects = Objects(Path("unused"))
    compile_folder(read_folder(folder), objects, NOW)
    compile_folder(read_folder(folder), objects, "2027-01-01T00:00:00Z")
    assert generation_and_creation(objects) == (1, NOW)
    budget = folder / "budget.yaml"
    budget.write_text(budget.read_text().replace('"0.50"', '"0.75"'))
    compile_folder(read_folder(folder), objects, "2027-01-01T00:00:00Z")
    assert generation_and_creation(objects) == (2, NOW)


def generation_and_creation(objects: Objects) -> tuple[object, object]:
    metadata = objects.known["LLMBudget/shop-month"]["metadata"]
    assert isinstance(metadata, dict)
    return metadata["generation"], metadata["creationTimestamp"]


def test_an_object_that_left_the_folder_leaves_the_status(folder: Path) -> None:
    objects = Objects(Path("unused"))
    compile_folder(read_folder(folder), objects, NOW)
    (folder / "budget.yaml").unlink()
    compile_folder(read_folder(folder), objects, NOW)
    assert sorted(objects.known) == ["LLMRoute/assistant"]


async def test_the_last_good_route_stays_in_force_when_the_newest_is_bad(folder: Path, tmp_path: Path) -> None:
    said: list[str] = []
    state, credentials = tmp_path / "state", tmp_path / "credentials"
    state.mkdir()
    credentials.mkdir()
    local = local_mode.Local(Options(folder, state, Address("127.0.0.1", 0)), credentials, said.append)
    await local.begin()
    local.write_status()
    good = (await local.configs.next("")).version
    await local.books.stop_leading()

    route = folder / "route.yaml"
    route.write_text(route.read_text().replace("tier: fast}", "tier: fsat}"))
    again = local_mode.Local(Options(folder, state, Address("127.0.0.1", 0)), credentials, said.append)
    await again.begin()
    assert (await again.configs.next("")).version == good
    assert any("fsat" in text or "everything" in text for text in said)
    await again.books.stop_leading()


async def test_thresholds_are_said_once_and_refusals_exhaust(folder: Path, tmp_path: Path) -> None:
    """Over a restart too: the status in the state directory remembers."""
    said: list[str] = []
    state, credentials = tmp_path / "state", tmp_path / "credentials"
    state.mkdir()
    credentials.mkdir()
    budget = folder / "budget.yaml"
    budget.write_text(budget.read_text() + "  thresholds: [{percent: 80}]\n")
    options = Options(folder, state, Address("127.0.0.1", 0))
    name, first = "shop/shop-month", parse_usd("0.48")

    local = local_mode.Local(options, credentials, said.append)
    await local.begin()
    await local.ledger.sync(SyncRequest("a", statements=(Statement(name, "", 1, want=first, min_want=first),)))
    await local.ledger.sync(SyncRequest("a", statements=(Statement(name, "", 2, granted=first, spent=first),)))
    local.write_status()
    local.write_status()
    assert len(said) == 1
    assert said[0].startswith("LLMBudget shop-month: 80% of 0.50 USD are used: 0.48 spent since")
    assert shown(local) == "Active"
    asks = Statement(name, "", 3, granted=first, spent=first, want=first, min_want=first)
    await local.ledger.sync(SyncRequest("a", statements=(asks,)))
    local.write_status()
    assert shown(local) == "Exhausted"
    await local.books.stop_leading()

    again = local_mode.Local(options, credentials, said.append)
    await again.begin()
    told = Statement(name, "", 4, granted=first, spent=first)  # by the same sidecar, out of its journal
    await again.ledger.sync(SyncRequest("a", statements=(told,)))
    again.write_status()
    assert len(said) == 1
    assert shown(again) == "Exhausted"
    await again.books.stop_leading()


def shown(local: local_mode.Local) -> object:
    objects = json.loads((local._options.state / local_mode.OBJECTS_FILE).read_text())
    return objects["LLMBudget/shop-month"]["status"]["state"]


def test_secrets_are_written_for_this_user_alone(folder: Path, tmp_path: Path) -> None:
    local_mode.write_credentials(read_folder(folder), tmp_path)
    written = tmp_path / "llm-keys" / "anthropic"
    assert written.read_text() == "fake-anthropic-key"
    assert written.stat().st_mode & 0o777 == 0o600


def test_two_processes_cannot_share_a_state_directory(tmp_path: Path) -> None:
    with local_mode._alone(tmp_path), pytest.raises(KeelageError, match="--state"), local_mode._alone(tmp_path):
        pass


def test_check_says_what_is_wrong_and_fails(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "-f", str(folder)]) == 0
    assert "good" in capsys.readouterr().out
    budget = folder / "budget.yaml"
    budget.write_text(budget.read_text().replace("timeZone: UTC", "timeZone: Mars/Base"))
    assert main(["check", "-f", str(folder)]) == 1
    printed = capsys.readouterr().out
    assert "Mars/Base" in printed
    assert "LLMBudget shop-month" in printed


def test_a_folder_that_is_not_there_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "-f", "no-such-folder"]) == 2
    assert "no such file or folder" in capsys.readouterr().err


def test_a_listen_address_that_is_none_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["run", "-f", ".", "--listen", "4000"])
    assert "is not host:port" in capsys.readouterr().err
