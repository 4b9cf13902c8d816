"""What docs/routing.md says of cascades and latency budgets is what sidecars are told and do."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import yaml
from tests.operator.test_documented_limits import holds, parts

from keelage_api.proxy_config import LatencyBudget
from keelage_operator.check import check
from keelage_operator.core.compile import RouteManifest, compile_namespace
from keelage_operator.core.price_book import price_book
from keelage_operator.explain_request import explain_request
from keelage_operator.local_folder import read_folder
from keelage_sidecar.core import judge, latency, pace
from keelage_sidecar.core.cascade import Outcome

ROOT = Path(__file__).parents[2]
PATH = ROOT / "docs" / "examples" / "cascade.yaml"
ROUTE = yaml.safe_load(PATH.read_text())
PAGE = (
    "\n## A cheap model first\n" + (ROOT / "docs" / "routing.md").read_text().partition("\n## A cheap model first\n")[2]
)
SHOWN = [text for text in re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL) if text.startswith("rules:")]


def test_the_page_shows_both() -> None:
    assert len(SHOWN) >= 2


@pytest.mark.parametrize("text", SHOWN[:2])
def test_what_the_page_shows_is_a_part_of_the_documented_manifest(text: str) -> None:
    (rule,) = yaml.safe_load(text)["rules"]
    assert any(holds(whole, rule) for whole in parts(ROUTE)), text


def test_nothing_is_wrong_with_the_manifest_and_sidecars_are_told_of_it() -> None:
    assert check(PATH).findings == ()
    found = compile_namespace("shop", [RouteManifest.of(ROUTE)], [], price_book())
    extract, chat, rest = found.config_for({"app": "support"}).rules
    assert extract.cascade is not None
    assert (extract.cascade.max_tokens, extract.cascade.json_schema is None) == (True, False)
    assert (chat.first_token_within, chat.answer_within) == (
        LatencyBudget(95, 5_000, "fast"),
        LatencyBudget(90, 60_000, "fast"),
    )
    assert rest.cascade is not None
    assert (rest.cascade.prefix, rest.cascade.pattern_chars) == ("UNCERTAIN", 80)


def test_every_outcome_is_explained() -> None:
    assert {f"| `{each}` |" for each in Outcome} <= set(re.findall(r"^\| `[a-z]+` \|", PAGE, re.MULTILINE))


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("longer than 1 MiB", judge.HELD_BYTES_MAX == 1024 * 1024),
        ("over its last 100 calls. With 20 or more", (pace.SAMPLES, pace.SAMPLES_MIN) == (100, 20)),
        ("after 10 s, or twice the bound", latency.PAUSE_S == 10),
        ("after 5 within the bound in a row", latency.PROBES == 5),
        ("up to 5 minutes", latency.PAUSE_MAX_S == 300),
    ],
)
def test_figures_on_the_page_are_those_of_the_code(text: str, value: bool) -> None:
    assert text in PAGE
    assert value


@pytest.mark.parametrize(
    ("feature", "told"),
    [
        ("", ["cascade: where its answer will not do, tier deep is asked as well; both are paid"]),
        (
            "chat",
            [
                f"latency budget: while more than {calls} wait longer than {bound}, tier fast takes them"
                for calls, bound in (
                    ("5 of 100 calls", "5s for the first token"),
                    ("10 of 100 calls", "60s for the answer"),
                )
            ],
        ),
    ],
)
def test_both_are_explained_for_a_call(tmp_path: Path, feature: str, told: list[str]) -> None:
    everywhere = {**ROUTE, "spec": {key: value for key, value in ROUTE["spec"].items() if key != "podSelector"}}
    (tmp_path / "all.yaml").write_text(yaml.safe_dump(everywhere))
    body = {"model": "auto", "max_tokens": 100, "stream": True, "messages": [{"role": "user", "content": "hello"}]}
    headers = ((b"x-keelage-feature", feature.encode()),)
    found = explain_request(read_folder(tmp_path), headers, json.dumps(body).encode(), 0.0, "/v1/messages")
    assert [line for line in found.text.splitlines() if line.startswith(("cascade", "latency"))] == told
