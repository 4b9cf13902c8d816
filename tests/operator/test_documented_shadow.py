"""The documented manifest in shadow is obeyed as docs/routing.md says."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
import pytest
import yaml

from keelage_operator.check import check
from keelage_operator.cli import main
from keelage_operator.core.compile import BudgetManifest, RouteManifest, compile_namespace
from keelage_operator.core.price_book import price_book
from keelage_operator.explain_request import explain_request
from keelage_operator.local_folder import read_folder
from keelage_sidecar.core.log_line import ShadowBudget, ShadowRule
from keelage_sidecar.shell.choice_metrics import ChoiceMetrics
from keelage_sidecar.shell.exposition import exposition

ROOT = Path(__file__).parents[2]
PATH = ROOT / "docs" / "examples" / "shadow.yaml"
ROUTE, BUDGET = yaml.safe_load_all(PATH.read_text())
PAGE = (ROOT / "docs" / "routing.md").read_text()


def test_nothing_is_wrong_with_the_manifest() -> None:
    assert check(PATH).findings == ()


def test_the_rule_that_the_page_shows_is_in_it() -> None:
    shown = re.search(r"```yaml\nrules:\n(- name: triage-on-fast\n.*?)```", PAGE, re.DOTALL)
    assert shown is not None
    assert yaml.safe_load(shown[1])[0] in ROUTE["spec"]["rules"]


def test_sidecars_are_told_what_is_in_shadow() -> None:
    found = compile_namespace("shop", [RouteManifest.of(ROUTE)], [BudgetManifest.of(BUDGET)], price_book())
    config = found.config_for({"app": "shadow"})
    assert [(rule.name, rule.shadow) for rule in config.rules] == [("triage-on-fast", True), ("all", False)]
    [terms] = config.budgets
    assert (terms.shadow, terms.hard) == (True, False)


def test_the_lines_that_the_page_shows_are_those_that_are_written() -> None:
    shown = re.search(r'```json\n("shadow_rule".*?)```', PAGE, re.DOTALL)
    assert shown is not None
    line = msgspec.json.decode("{" + shown[1] + "}")
    rule = msgspec.convert(line["shadow_rule"], ShadowRule)
    assert msgspec.to_builtins(rule) == line["shadow_rule"]
    again = msgspec.structs.replace(rule)
    assert rule.cost_picodollars is not None
    assert rule.difference_picodollars is not None
    again.compare(rule.cost_picodollars, rule.cost_picodollars - rule.difference_picodollars)
    assert again == rule
    budgets = msgspec.convert(line["shadow_budgets"], list[ShadowBudget])
    assert msgspec.to_builtins(budgets) == line["shadow_budgets"]


def test_the_plan_that_the_page_shows_is_what_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shown = re.search(r"\n[$] keelage (plan -f new.yaml [^\n]*)\n(.*?)```", PAGE, re.DOTALL)
    assert shown is not None
    live = "".join(line for line in PATH.read_text().splitlines(keepends=True) if "mode: Shadow" not in line)
    (tmp_path / "new.yaml").write_text(live)
    (tmp_path / "docs").symlink_to(ROOT / "docs")
    monkeypatch.chdir(tmp_path)
    assert main(shown[1].split()) == 0
    assert capsys.readouterr().out == shown[2]


def test_the_metrics_that_the_page_names_are_those_of_the_scrape() -> None:
    named = set(re.findall(r"`(keelage_shadow_\w+)", PAGE))
    assert named == set(re.findall(r"# TYPE (keelage_shadow_\w+)", exposition(ChoiceMetrics().families()).decode()))


def test_what_is_in_shadow_is_explained_beside_what_is_done(tmp_path: Path) -> None:
    secret = {"kind": "Secret", "apiVersion": "v1", "metadata": {"name": "llm-keys"}, "stringData": {"anthropic": "a"}}
    (tmp_path / "all.yaml").write_text(yaml.safe_dump_all([ROUTE, BUDGET, secret]))
    body = b'{"model": "claude-sonnet-4-5", "max_tokens": 5, "messages": [{"role": "user", "content": "hi"}]}'
    folder = read_folder(tmp_path)
    text = explain_request(folder, ((b"x-keelage-feature", b"triage"),), body, 0.0, "/v1/messages").text
    assert "rule triage-on-fast is in shadow: it would take the call: tier fast, model claude-haiku-4-5" in text
    assert "LLMRoute shadow, rule all, tier deep: the first that matches\n" in text
    assert "counts what it costs (Shadow)" in text
    assert "as budgets are used up" not in text
    assert "in shadow" not in explain_request(folder, (), body, 0.0, "/v1/messages").text
