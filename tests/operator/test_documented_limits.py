"""The manifests that docs/budgets.md shows are those of docs/examples, which are applied and compiled by tests."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from keelage_operator.core.compile import BudgetManifest, RouteManifest, compile_namespace
from keelage_operator.core.price_book import price_book

ROOT = Path(__file__).parents[2]
DOCUMENTS = list(yaml.safe_load_all((ROOT / "docs" / "examples" / "limits.yaml").read_text()))
SHOWN = re.findall(r"```yaml\n(.*?)```", (ROOT / "docs" / "budgets.md").read_text(), re.DOTALL)


def parts(value: object) -> Iterator[object]:
    """A value and all that is in it."""
    yield value
    for child in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from parts(child)


def holds(whole: object, part: object) -> bool:
    """Whether each field of `part` is in `whole`."""
    if isinstance(whole, dict) and isinstance(part, dict):
        return all(key in whole and whole[key] == value for key, value in part.items())
    return whole == part


def test_the_page_shows_manifests() -> None:
    assert len(SHOWN) == 5


@pytest.mark.parametrize("text", SHOWN, ids=lambda text: text.splitlines()[1].strip())
def test_what_the_page_shows_is_a_part_of_the_documented_manifests(text: str) -> None:
    part = yaml.safe_load(text)
    if "rules" in part:
        (part,) = part["rules"]
    assert any(holds(whole, part) for document in DOCUMENTS for whole in parts(document)), text


def test_the_documented_manifests_are_obeyed_without_a_doubt() -> None:
    compiled = compile_namespace(
        "shop",
        [RouteManifest.of(each) for each in DOCUMENTS if each["kind"] == "LLMRoute"],
        [BudgetManifest.of(each) for each in DOCUMENTS if each["kind"] == "LLMBudget"],
        price_book(),
    )
    assert [route.problems for route in compiled.routes.values()] == [()]
    assert [budget.problems for budget in compiled.budgets.values()] == [()] * 3
