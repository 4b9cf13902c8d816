"""`keelage get` prints what kubectl would, in each form that scripts and people ask kubectl for."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from keelage_operator import local_mode
from keelage_operator.cli import main
from keelage_operator.local_folder import read_folder
from keelage_operator.local_mode import Objects, compile_folder

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
NOW = "2026-11-21T12:00:00Z"

Get = Callable[..., tuple[int, str, str]]


@pytest.fixture
def get(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Get:
    """Exit code, output and errors of `keelage get` after a run of the examples."""
    objects = Objects(tmp_path / local_mode.OBJECTS_FILE)
    compile_folder(read_folder(EXAMPLES), objects, NOW)
    objects.known["LLMBudget/shop-month"]["status"] = {"limit": "0.50 USD", "spent": "0.25", "state": "Active"}
    objects.save()

    def ask(*words: str) -> tuple[int, str, str]:
        capsys.readouterr()
        code = main(["get", *words, "--state", str(tmp_path)])
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return ask


def test_columns_are_those_of_kubectl_and_wide_has_more(get: Get) -> None:
    code, printed, _ = get("llmb")
    head, row = printed.splitlines()
    assert code == 0
    assert head.split() == ["NAME", "LIMIT", "SPENT", "LEASED", "REMAINING", "USED", "RESETS", "STATE", "AGE"]
    assert row.split()[:4] == ["shop-month", "0.50", "USD", "0.25"]
    assert "FORECAST" in get("llmb", "-o", "wide")[1]


@pytest.mark.parametrize(("form", "read"), [("json", json.loads), ("yaml", yaml.safe_load)])
def test_one_object_is_printed_whole_and_all_of_them_as_a_list(
    get: Get, form: str, read: Callable[[str], dict[str, object]]
) -> None:
    one = read(get("llmbudget", "shop-month", "-o", form)[1])
    assert (one["apiVersion"], one["kind"]) == ("keelage.dev/v1alpha1", "LLMBudget")
    assert one["status"] == {"limit": "0.50 USD", "spent": "0.25", "state": "Active"}
    written = yaml.safe_load((EXAMPLES / "budget.yaml").read_text())
    assert one["spec"] == written["spec"]
    assert read(get("llmbudget", "-o", form)[1]) == {"apiVersion": "v1", "kind": "List", "items": [one]}


def test_what_is_printed_can_be_checked_and_applied_again(get: Get, tmp_path: Path) -> None:
    again = tmp_path / "again"
    again.mkdir()
    (again / "all.yaml").write_text(get("llm", "-o", "yaml")[1])
    assert main(["check", "-f", str(again)]) == 0


def test_labels_and_annotations_are_those_of_the_manifest(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    budget = (EXAMPLES / "budget.yaml").read_text().replace("name: shop-month", "name: shop-month, labels: {team: a}")
    (tmp_path / "all.yaml").write_text(budget + "---\n" + (EXAMPLES / "route.yaml").read_text())
    objects = Objects(tmp_path / local_mode.OBJECTS_FILE)
    compile_folder(read_folder(tmp_path / "all.yaml"), objects, NOW)
    objects.save()
    assert main(["get", "llmb", "shop-month", "-o", "yaml", "--state", str(tmp_path)]) == 0
    assert yaml.safe_load(capsys.readouterr().out)["metadata"] == {
        "name": "shop-month",
        "namespace": "shop",
        "labels": {"team": "a"},
        "uid": "llmbudget/shop-month",
        "creationTimestamp": NOW,
        "generation": 1,
    }


@pytest.mark.parametrize("kinds", ["llm", "llmroute,llmbudget", "llmroutes.keelage.dev,LLMB"])
def test_several_kinds_are_told_apart_as_kubectl_does(get: Get, kinds: str) -> None:
    code, printed, _ = get(kinds)
    tables = printed.split("\n\n")
    assert code == 0
    assert [table.splitlines()[1].split()[0] for table in tables] == [
        "llmroute.keelage.dev/assistant",
        "llmbudget.keelage.dev/shop-month",
    ]
    assert get(kinds, "-o", "name")[1].split() == [
        "llmroute.keelage.dev/assistant",
        "llmbudget.keelage.dev/shop-month",
    ]


def test_an_object_is_named_behind_its_kind_too(get: Get) -> None:
    assert get("llmbudget/shop-month", "-o", "name") == (0, "llmbudget.keelage.dev/shop-month\n", "")


def test_what_is_there_is_printed_and_what_is_not_is_said(get: Get) -> None:
    code, printed, said = get("llmbudget", "shop-month", "other", "-o", "name")
    assert (code, printed) == (1, "llmbudget.keelage.dev/shop-month\n")
    assert "no LLMBudget other in " in said
    assert said.endswith(": there is shop-month\n")


def test_another_namespace_has_nothing(get: Get) -> None:
    assert get("llmb", "-n", "shop")[0] == 0
    code, printed, said = get("llmb", "-n", "elsewhere")
    assert (code, printed) == (1, "")
    assert "namespace elsewhere" in said


def test_a_state_without_a_run_says_what_to_do(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["get", "llmb", "--state", str(tmp_path)]) == 1
    assert "start `keelage run -f DIR` first" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["pods"], "there is no kind 'pods': write llmbudget, llmroute, or llm for both"),
        (["llm/shop-month"], "names an object of several kinds: write llmbudget/shop-month"),
        (["llmb", "-o", "jsonpath"], "invalid choice: 'jsonpath'"),
    ],
)
def test_what_is_not_known_is_refused_with_what_is(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["get", *words])
    assert ended.value.code == 2
    assert said in capsys.readouterr().err
