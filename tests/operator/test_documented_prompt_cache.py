"""What docs/caching.md says of prompt caches and long conversations is what sidecars are told and do."""

from __future__ import annotations

import re
from decimal import Decimal
from pathlib import Path

import orjson
import pytest
import yaml
from tests.operator.test_documented_limits import holds, parts

from keelage_api.proxy_config import History, PromptCaching, Summary
from keelage_operator.check import check
from keelage_operator.core.compile import RouteManifest, compile_namespace
from keelage_operator.core.price_book import price_book
from keelage_operator.explain_request import explain_request
from keelage_operator.local_folder import read_folder
from keelage_sidecar.core import prompt_cache, prompt_cache_book, prompt_cache_key, summaries

ROOT = Path(__file__).parents[2]
PATH = ROOT / "docs" / "examples" / "prompt-cache.yaml"
ROUTE = yaml.safe_load(PATH.read_text())
PAGE = (ROOT / "docs" / "caching.md").read_text().partition("\n## Kept answers\n")[0]
SHOWN = [text for text in re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL) if text.startswith("rules:")]


def explained(folder: Path, turns: int, words: int, **fields: object) -> str:
    """What becomes of a conversation of so many turns, of so many words each."""
    spec = {key: value for key, value in ROUTE["spec"].items() if key != "podSelector"}
    (folder / "route.yaml").write_text(yaml.safe_dump({**ROUTE, "spec": spec}))
    said: list[dict[str, object]] = []
    for number in range(turns):
        said += [{"role": "user", "content": f"{number} " * words}, {"role": "assistant", "content": "Indeed."}]
    body = {"model": "auto", "max_tokens": 100, "messages": said[:-1], **fields}
    return explain_request(read_folder(folder), (), orjson.dumps(body), 0.0, "/v1/messages").text


@pytest.mark.parametrize(
    ("turns", "words", "told"),
    [
        (11, 100, "history: the oldest turn sent, too: short enough for that"),
        (20, 2000, "history: a summary of the 10 oldest turns is asked of tier fast first"),
        (20, 2000, "prompt cache: breakpoints for 5m in tools, system, documents and the newest turn"),
        (1, 9000, "bound: "),
    ],
)
def test_what_becomes_of_the_prompt_is_explained(tmp_path: Path, turns: int, words: int, told: str) -> None:
    assert told in explained(tmp_path, turns, words)


def test_the_explained_bound_is_that_of_what_is_sent(tmp_path: Path) -> None:
    text = explained(tmp_path, 1, 1, system="lorem " * 3000, inference_geo="global")
    assert "prompt cache: breakpoints for 5m in tools, system and documents" in text
    found = re.search(r"bound: at most ([0-9.]+) USD .*\n +input: at most (\d+) tokens", text)
    assert found is not None
    assert Decimal(found[1]) == Decimal(int(found[2]) * 375 + 100 * 1500) / 10**8


@pytest.mark.parametrize("text", SHOWN)
def test_what_the_page_shows_is_a_part_of_the_documented_manifest(text: str) -> None:
    (rule,) = yaml.safe_load(text)["rules"]
    assert any(holds(whole, rule) for whole in parts(ROUTE)), text


def test_nothing_is_wrong_with_the_manifest_and_sidecars_are_told_of_it() -> None:
    assert check(PATH).findings == ()
    found = compile_namespace("shop", [RouteManifest.of(ROUTE)], [], price_book())
    nightly, chat = found.config_for({"app": "copilot"}).rules
    assert (nightly.prompt_cache, nightly.history) == (PromptCaching(long=True), None)
    assert (chat.prompt_cache, chat.history) == (PromptCaching(), History(10, Summary(8000, "fast")))
    assert chat.stop_sequences == ("\n\nHuman:",)


def test_the_least_tokens_on_the_page_are_those_that_are_used() -> None:
    rows = re.findall(r"\| (\d+) \| (.*?) \|", PAGE)
    told = {name: int(tokens) for tokens, names in rows for name in re.findall(r"claude-[a-z]+-[0-9-]*[0-9]", names)}
    assert {name: prompt_cache.least_tokens(name) for name in told} == told
    assert prompt_cache.LEAST_TOKENS.keys() <= told.keys()
    assert rows[-1][0] == str(prompt_cache.LEAST_TOKENS_ELSE)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("a token for five bytes", prompt_cache.BYTES_PER_TOKEN == 5),
        ("blocks of 4 KiB or more", prompt_cache.DOCUMENT_BYTES == 4096),
        ("After 20 calls", prompt_cache_book.CALLS_MIN == 20),
        ("100 calls and a minute", (prompt_cache_book.CALLS_MANY, prompt_cache_book.MANY_S) == (100, 60)),
        ("Ten minutes later", prompt_cache_book.REST_BASE_S == 600),
        ("up to two hours", prompt_cache_book.REST_MAX_S == 7200),
        ("a\ntwentieth of the prompts' price", prompt_cache_book.PAYS_PERCENT == 5),
        ("calls of 4 KiB or more get a `prompt_cache_key`", prompt_cache_key.BYTES_MIN == 4096),
        ("of 1,024 tokens at most", summaries.OUTPUT_TOKENS_MAX == 1024),
        ("30 s at most", summaries.TIMEOUT_S == 30),
        ("for 30 s nobody waits", summaries.PAUSE_S == 30),
        ("2 MiB of them", summaries.KEPT_BYTES_MAX == 2 * 1024 * 1024),
    ],
)
def test_figures_on_the_page_are_those_of_the_code(text: str, value: bool) -> None:
    assert text in PAGE
    assert value
