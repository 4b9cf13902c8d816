"""What docs/caching.md says of kept answers is what sidecars are told."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import yaml
from tests.operator.test_documented_limits import holds, parts

from keelage_api.response_cache import CACHE_BYTES, CacheScope, ResponseCache, SharedCache
from keelage_operator.core.compile import RouteManifest, compile_namespace
from keelage_operator.core.price_book import price_book
from keelage_operator.explain_request import explain_request
from keelage_operator.local_folder import read_folder

ROOT = Path(__file__).parents[2]
ROUTE = yaml.safe_load((ROOT / "docs" / "examples" / "response-cache.yaml").read_text())
_SECTION = re.search(r"\n## Kept answers\n(.*?)(\n## |\Z)", (ROOT / "docs" / "caching.md").read_text(), re.DOTALL)
SHOWN = re.findall(r"```yaml\n(.*?)```", _SECTION.group(1), re.DOTALL) if _SECTION else []


def test_the_page_shows_manifests() -> None:
    assert SHOWN


@pytest.mark.parametrize("text", SHOWN)
def test_what_the_page_shows_is_a_part_of_the_documented_manifest(text: str) -> None:
    part = yaml.safe_load(text)
    if "rules" in part:
        (part,) = part["rules"]
    assert any(holds(whole, part) for whole in parts(ROUTE)), text


def test_the_documented_manifest_is_obeyed_without_a_doubt() -> None:
    route = compile_namespace("shop", [RouteManifest.of(ROUTE)], [], price_book()).routes["helpdesk"]
    assert route.problems == ()
    assert route.route is not None
    shared = SharedCache(
        "valkey.caches.svc",
        6379,
        "shop",
        "cache-keys/answers",
        secure=True,
        password="cache-keys/password",
        authorities=("ConfigMap/corp-ca/ca.crt",),
    )
    assert [rule.response_cache for rule in route.route.rules] == [
        ResponseCache(ttl_ms=720 * 3_600_000, shared=shared),
        ResponseCache(stale_ms=24 * 3_600_000, scope=CacheScope.NAMESPACE, sampled=True, shared=shared),
        ResponseCache(ttl_ms=600_000, scope=CacheScope.USER, bytes_max=2 * CACHE_BYTES, shared=shared),
    ]
    assert {key.path for key in route.route.credentials} >= set(shared.files)


@pytest.mark.parametrize(
    ("feature", "fields", "told"),
    [
        (
            "faq",
            {},
            "the same call of any such rule of the namespace gets the same answer for 1h; for 24h more",
        ),
        ("", {"temperature": 0}, "the same call of user 'ada' gets the same answer for 600s"),
        ("", {"temperature": 1}, "passed by: its answer is drawn at random: send `temperature: 0`, or set"),
    ],
)
def test_what_the_cache_does_for_a_call_is_explained(
    tmp_path: Path, feature: str, fields: dict[str, object], told: str
) -> None:
    spec = {key: value for key, value in ROUTE["spec"].items() if key != "podSelector"}
    (tmp_path / "route.yaml").write_text(yaml.safe_dump({**ROUTE, "spec": spec}))
    headers = ((b"x-keelage-user", b"ada"), (b"x-keelage-feature", feature.encode()))
    call = {"model": "claude-haiku-4-5", "max_tokens": 9, "messages": [{"role": "user", "content": "Hi"}], **fields}
    found = explain_request(read_folder(tmp_path), headers, json.dumps(call).encode(), 0.0, "/v1/messages")
    assert f"response cache: {told}" in found.text
