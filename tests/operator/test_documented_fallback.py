"""The fallback over both APIs that README and docs show is obeyed as it stands."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

from keelage_operator.core.compile import RouteManifest, compile_namespace
from keelage_operator.core.price_book import price_book

ROOT = Path(__file__).parents[2]
ROUTE = yaml.safe_load((ROOT / "docs" / "examples" / "fallback.yaml").read_text())


def test_the_documented_fallback_is_obeyed_without_a_doubt() -> None:
    compiled = compile_namespace("shop", [RouteManifest.of(ROUTE)], [], price_book())
    assert [route.problems for route in compiled.routes.values()] == [()]


def test_the_readme_shows_its_tier() -> None:
    section = re.search(r"\n## One SDK, any provider\n(.*?)\n## ", (ROOT / "README.md").read_text(), re.DOTALL)
    assert section is not None
    shown = re.search(r"```yaml\n(.*?)```", section[1], re.DOTALL)
    assert shown is not None
    assert yaml.safe_load(shown[1])["tiers"] == ROUTE["spec"]["tiers"]
