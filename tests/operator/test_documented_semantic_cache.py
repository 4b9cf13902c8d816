"""What docs/caching.md says of questions in other words is what sidecars are told and do."""

from __future__ import annotations

import re
from pathlib import Path

import orjson
import pytest
import yaml
from tests.operator.test_documented_limits import holds, parts
from tests.sidecar.core.question_pairs import pairs

from keelage_api.response_cache import ResponseCache, Semantic
from keelage_operator.core.compile import RouteManifest, compile_namespace
from keelage_operator.core.price_book import price_book
from keelage_operator.explain_request import explain_request
from keelage_operator.local_folder import read_folder
from keelage_sidecar.core import neighbours, wording
from keelage_sidecar.shell import near_answers

ROOT = Path(__file__).parents[2]
ROUTE = yaml.safe_load((ROOT / "docs" / "examples" / "semantic-cache.yaml").read_text())
_PAGE = (ROOT / "docs" / "caching.md").read_text()
PART = _PAGE.partition("\n## Questions in other words\n")[2].partition("\n## ")[0]
HOUR_MS = 3_600_000


def explained(folder: Path, text: str, **fields: object) -> str:
    spec = {key: value for key, value in ROUTE["spec"].items() if key != "podSelector"}
    (folder / "route.yaml").write_text(yaml.safe_dump({**ROUTE, "spec": spec}))
    body = {"model": "auto", "max_tokens": 100, "messages": [{"role": "user", "content": text}], **fields}
    return explain_request(read_folder(folder), (), orjson.dumps(body), 0.0, "/v1/messages").text


def test_the_page_shows_a_part_of_the_documented_manifest() -> None:
    (shown,) = re.findall(r"```yaml\n(.*?)```", PART, re.DOTALL)
    assert any(holds(whole, yaml.safe_load(shown)) for whole in parts(ROUTE))


def test_the_documented_manifest_is_obeyed_without_a_doubt() -> None:
    route = compile_namespace("shop", [RouteManifest.of(ROUTE)], [], price_book()).routes["frontdesk"]
    assert route.problems == ()
    assert route.route is not None
    semantic = Semantic("frontdesk/openai", "text-embedding-3-small", 512, 0.92, HOUR_MS, 300)
    assert route.route.rules[0].response_cache == ResponseCache(24 * HOUR_MS, sampled=True, semantic=semantic)


def test_the_questions_that_the_page_calls_one_are_one() -> None:
    said = re.findall(r"^`(How[^`]*)`, `(how[^`]*)` and `(Please[^`]*)` are one question", PART, re.MULTILINE)
    assert len({wording.wording(text) for text in said[0]}) == 1
    for one, other in (("remove", "delete"), ("buy", "purchase"), ("turn on", "enable")):
        assert wording.wording(f"How do I {one} it?") == wording.wording(f"How do I {other} it?")
    assert wording.wording("Is 1,000 much?") == wording.wording("Is 1000 much?")


def test_the_pages_figures_are_those_of_the_code() -> None:
    paraphrases, near_misses = pairs("paraphrases"), pairs("near_misses")
    agree = sum(wording.wording(one) == wording.wording(other) for _, one, other in paraphrases)
    assert f"of {len(paraphrases)} paraphrases in the repository {agree} agree" in PART
    assert f"of {len(near_misses)} near-misses" in PART
    assert f"up to {wording.TEXT_MAX:,} characters" in PART
    assert (near_answers.PAUSE_S, "for ten seconds it is left alone" in PART) == (10.0, True)
    assert (neighbours.SIDE_BY_SIDE_MAX, "Up to eight ways" in PART) == (8, True)
    assert f"and {near_answers.KNOWN_MAX} vectors more" in PART


@pytest.mark.parametrize(
    ("text", "fields", "told"),
    [
        (
            "How do I reset my password?",
            {},
            "where these agree: how reset my password\n",
        ),
        (
            "How do I reset my password?",
            {},
            "it is asked where one in the same words is kept, and reserves at",
        ),
        ("How?", {"temperature": 1}, "semantic cache: only the very same call: its temperature is above 0"),
        (
            "How?",
            {"tools": [{"name": "t", "input_schema": {}}]},
            "semantic cache: only the very same call: it has tools",
        ),
    ],
)
def test_what_it_does_for_a_call_is_explained(tmp_path: Path, text: str, fields: dict[str, object], told: str) -> None:
    assert told in explained(tmp_path, text, **fields)
