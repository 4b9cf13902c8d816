"""What docs/routing.md says of rules and tiers is what sidecars do."""

from __future__ import annotations

import json
import re
from calendar import timegm
from pathlib import Path

import pytest
import yaml
from tests.operator.test_documented_limits import holds, parts

from keelage_operator.core.compile import BudgetManifest, RouteManifest, compile_namespace
from keelage_operator.core.price_book import price_book
from keelage_operator.explain_request import explain_request
from keelage_operator.local_folder import read_folder

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "docs" / "examples" / "selection.yaml"
ROUTE, BUDGET = yaml.safe_load_all(EXAMPLE.read_text())
PAGE = (ROOT / "docs" / "routing.md").read_text()
_RULES = PAGE.partition("\n## Which rule")[2].partition("\n## What was decided")[0]
SHOWN = re.findall(r"```yaml\n(.*?)```", _RULES, re.DOTALL)
README = re.findall(
    r"## The cheapest model that will do\n.*?```yaml\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL
)
FRIDAY_S = timegm((2026, 11, 20, 12, 0, 0))
SUNDAY_S = timegm((2026, 11, 22, 12, 0, 0))


@pytest.mark.parametrize("text", SHOWN)
def test_what_the_page_shows_is_a_part_of_the_documented_manifest(text: str) -> None:
    for rule in yaml.safe_load(text)["rules"]:
        assert any(holds(whole, rule) for whole in parts(ROUTE)), rule


def test_the_readme_shows_some_of_the_entries() -> None:
    (shown,) = (yaml.safe_load(text)["rules"][0] for text in README)
    (whole,) = (rule for rule in ROUTE["spec"]["rules"] if rule["name"] == shown["name"])
    assert shown["matches"] == whole["matches"]
    assert [entry for entry in whole["select"] if entry in shown["select"]] == shown["select"]


def test_the_documented_manifest_is_obeyed_without_a_doubt() -> None:
    found = compile_namespace("shop", [RouteManifest.of(ROUTE)], [BudgetManifest.of(BUDGET)], price_book())
    assert found.routes["concierge"].problems == ()
    assert found.budgets["concierge-month"].problems == ()


def explained(tmp_path: Path, text: str, unix_s: float = FRIDAY_S, path: str = "/v1/messages", **headers: str) -> str:
    (tmp_path / "all.yaml").write_text(EXAMPLE.read_text() + "---\n" + (ROOT / "examples" / "secret.yaml").read_text())
    named = tuple((name.replace("_", "-").encode(), value.encode()) for name, value in headers.items())
    body: dict[str, object] = {"model": "auto", "max_tokens": 9, "messages": [{"role": "user", "content": text}]}
    if path == "/v1/embeddings":
        body = {"model": "text-embedding-3-small", "input": text}
    return explain_request(read_folder(tmp_path), named, json.dumps(body).encode(), unix_s, path).text


SHORT, LONG = "Where is my parcel?", "why " * 60


@pytest.mark.parametrize(
    ("text", "fields", "rule", "entry", "tier"),
    [
        (SHORT, {}, "chat", "select[4], tier fast: the first that holds", "fast"),
        (LONG, {"x_keelage_task_type": "translate"}, "chat", "select[0], tier fast: the first that holds", "fast"),
        (LONG, {"unix_s": SUNDAY_S}, "chat", "select[2], tier fast: the first that holds", "fast"),
        ("word " * 50_000, {}, "chat", "select[3], tier deep: the first that holds", "deep"),
        ("Is it legal?", {}, "chat", "select[4], tier fast: does not hold", "deep"),
        (LONG, {}, "chat", "no entry before it holds: the default, tier deep", "deep"),
        (SHORT, {"x_tenant": "gold"}, "gold", "rule gold, tier deep: the first that matches", ""),
        (SHORT, {"path": "/v1/embeddings"}, "vectors", "rule vectors, tier vectors: the first that matches", ""),
    ],
)
def test_each_condition_of_a_call_is_explained(
    tmp_path: Path, text: str, fields: dict[str, str], rule: str, entry: str, tier: str
) -> None:
    found = explained(tmp_path, text, **fields)  # type: ignore[arg-type]  # headers, and the time in one of them
    assert f"LLMRoute concierge, rule {rule}" in found
    assert entry in found
    assert not tier or f"\ntier {tier}: " in found


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (SHORT, "does not hold: taskTypes: the call's is '', wanted translate or classify"),
        (SHORT, "does not hold: timeWindow: at 2026-11-20T12:00Z it is Fri 13:00 there, wanted Sat, Sun 00:00"),
        (SHORT, "does not hold: budgetUsed: wanted 80% of default/concierge-month: what is used"),
        (SHORT, "holds: promptWords: 4, wanted at most 40"),
        (SHORT, "holds: keywords: the prompt has none of noneOf"),
        ("A power of Attorney, legal?", "keywords: the prompt has legal, power of attorney, which noneOf bars"),
        (LONG, "not asked: classifier: tier fast would be asked about 240 characters; holds if it says SIMPLE within"
               " 2000 ms, else tier deep where nothing comes"),
    ],
)  # fmt: skip
def test_why_a_condition_holds_is_explained(tmp_path: Path, text: str, line: str) -> None:
    assert line in explained(tmp_path, text)


def test_the_page_shows_what_explain_says(tmp_path: Path) -> None:
    shown = re.findall(r"```\n\$ keelage explain(.*?)```", PAGE, re.DOTALL)[0].splitlines()[1:]
    told = [line.rstrip() for line in explained(tmp_path, SHORT).splitlines()]
    assert [line for line in shown if line != "…" and line not in told] == []
