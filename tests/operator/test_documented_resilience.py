"""What docs/resilience.md says of failing providers is what sidecars are told."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import yaml
from tests.operator.test_documented_limits import holds, parts

from keelage_api.proxy_config import CircuitBreaker, Hedge, Retry
from keelage_operator.core.compile import RouteManifest, compile_namespace
from keelage_operator.core.price_book import price_book
from keelage_operator.explain_request import explain_request
from keelage_operator.local_folder import read_folder

ROOT = Path(__file__).parents[2]
ROUTE = yaml.safe_load((ROOT / "docs" / "examples" / "resilience.yaml").read_text())
SHOWN = re.findall(r"```yaml\n(.*?)```", (ROOT / "docs" / "resilience.md").read_text(), re.DOTALL)


def test_the_page_shows_manifests() -> None:
    assert len(SHOWN) == 4


@pytest.mark.parametrize("text", SHOWN, ids=lambda text: text.partition(":")[0])
def test_what_the_page_shows_is_a_part_of_the_documented_manifest(text: str) -> None:
    assert any(holds(whole, yaml.safe_load(text)) for whole in parts(ROUTE)), text


def test_the_documented_manifest_writes_out_the_defaults_and_is_obeyed_without_a_doubt() -> None:
    route = compile_namespace("shop", [RouteManifest.of(ROUTE)], [], price_book()).routes["search"]
    assert route.problems == ()
    assert route.route is not None
    trial, rest = route.route.rules
    assert [backend.circuit_breaker for backend in route.route.backends.values()] == [CircuitBreaker()] * 2
    assert (rest.retry, rest.hedge) == (Retry(), Hedge())
    assert [choice.weight for choice in trial.choices] == [95, 5, 0]


@pytest.mark.parametrize(
    ("user", "told"),
    [
        ("ada", "their weights: 95, 5, 0: user 'ada' always gets the first, the others are its fallbacks"),
        ("", "their weights: 95, 5, 0: calls without a user are spread by them, the others are its fallbacks"),
    ],
)
def test_the_canary_is_explained_for_a_user(tmp_path: Path, user: str, told: str) -> None:
    text, served = explained(tmp_path, user, "ranking")
    assert told in text
    assert served


def test_a_hedge_is_explained(tmp_path: Path) -> None:
    text, _ = explained(tmp_path, "", "")
    assert "hedge: if the first byte takes longer than 95 of its last 100 calls, the next one is asked as well" in text


def explained(folder: Path, user: str, feature: str) -> tuple[str, bool]:
    """A Messages call under the documented manifest, of a pod that it selects, as `keelage explain` tells it."""
    everywhere = {**ROUTE, "spec": {key: value for key, value in ROUTE["spec"].items() if key != "podSelector"}}
    secret = {"kind": "Secret", "apiVersion": "v1", "metadata": {"name": "llm-keys", "namespace": "shop"}}
    keys = {**secret, "stringData": {"anthropic": "a", "openai": "b"}}
    (folder / "all.yaml").write_text(yaml.safe_dump_all([everywhere, keys]))
    headers = ((b"x-keelage-user", user.encode()), (b"x-keelage-feature", feature.encode()))
    body = {"model": "claude-haiku-4-5", "max_tokens": 100, "messages": [{"role": "user", "content": "hello"}]}
    found = explain_request(read_folder(folder), headers, json.dumps(body).encode(), 0.0, "/v1/messages")
    return found.text, found.served
