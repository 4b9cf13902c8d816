"""`keelage explain`: of local mode's files, of a cluster's objects, and of a request that is not sent."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest
from tests.operator.shell.fake_cluster import FakeCluster

from keelage_api.account import account_value
from keelage_api.money import parse_usd
from keelage_api.sync import Statement, SyncRequest
from keelage_operator.cli import main
from keelage_operator.core.ledger import Account, LedgerRecord, Row
from keelage_operator.core.shard import home_of
from keelage_operator.explain_budget import NothingToExplain, Question, of_cluster, of_state
from keelage_operator.explain_request import explain_request
from keelage_operator.local_folder import read_folder
from keelage_operator.local_mode import Local, Options
from keelage_operator.shell.kubernetes_store import KubernetesStore
from keelage_operator.shell.ledger_store import LedgerKey
from keelage_sidecar.settings import Address

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
HOME = "/apis/keelage.dev/v1alpha1/namespaces/shop"
MESSAGE = {"model": "claude-opus-4-5", "max_tokens": 100, "messages": [{"role": "user", "content": "a secret plan"}]}


async def spent_state(tmp_path: Path) -> Path:
    """A state directory in which one sidecar was given 0.20 and has spent 0.05."""
    state, credentials = tmp_path / "state", tmp_path / "credentials"
    state.mkdir()
    credentials.mkdir()
    local = Local(Options(EXAMPLES, state, Address("127.0.0.1", 0)), credentials, lambda _text: None)
    await local.begin()
    name, lease = "shop/shop-month", parse_usd("0.2")
    await local.ledger.sync(SyncRequest("a", statements=(Statement(name, "", 1, want=lease, min_want=lease),)))
    told = Statement(name, "", 2, granted=lease, spent=parse_usd("0.05"), want=1, min_want=1)
    await local.ledger.sync(SyncRequest("a", statements=(told,)))
    local.write_status()
    await local.book.stop_leading()
    return state


async def test_local_mode_is_explained_from_its_files(tmp_path: Path) -> None:
    picture = await of_state(await spent_state(tmp_path), Question("shop-month"))
    assert (picture.budget, picture.window, picture.limit) == (
        "shop/shop-month",
        picture.status.window.id,
        parse_usd("0.5"),
    )
    (row,) = picture.records[0].account().rows.values()
    assert (row.granted, row.spent) == (parse_usd("0.2") + 1, parse_usd("0.05"))
    assert picture.pods == {"local": "local"}


async def test_a_limit_in_tokens_is_not_held_against_a_ledger_of_dollars(tmp_path: Path) -> None:
    state = await spent_state(tmp_path)
    window = (await of_state(state, Question("shop-month"))).window
    objects = json.loads((state / "objects.json").read_text())
    budget = objects["LLMBudget/shop-month"]
    budget["spec"]["limit"] = budget["status"]["lastAccepted"]["limit"] = {"tokens": 5000}
    budget["status"]["window"]["id"] = f"{window}.tokens"
    (state / "objects.json").write_text(json.dumps(objects))
    assert (await of_state(state, Question("shop-month", window))).limit is None


async def test_a_budget_that_is_not_there_is_named_with_a_remedy(tmp_path: Path) -> None:
    with pytest.raises(NothingToExplain, match="keelage run -f DIR"):
        await of_state(tmp_path, Question("shop-month"))
    with pytest.raises(NothingToExplain, match=r"has no ledger of window 2020-01.*there is one of 20"):
        await of_state(await spent_state(tmp_path), Question("shop-month", "2020-01"))


async def test_ledgers_that_are_not_there_are_made_of_the_status_as_the_operator_makes_them() -> None:
    """Whoever deleted one finds its money where the status says that it is, not gone."""
    cluster = cluster_with_ledgers()
    lost = {"id": "2026-12", "startsAt": "2026-12-01T00:00:00Z", "endsAt": "2027-01-01T00:00:00Z"}
    amounts = {"limit": parse_usd("5"), "spent": 30, "committed": 42}
    cluster.add(f"{HOME}/llmbudgets/month", {"status": {"window": lost, "amounts": amounts}})
    picture = await of_cluster(cluster, "shop", Question("month"))
    assert (picture.lost, [record.account() for record in picture.records]) == (1, [Account(recovered=42)])
    cluster.add(f"{HOME}/llmbudgets/month", {"status": {"window": lost | {"startsAt": "?"}, "amounts": amounts}})
    with pytest.raises(NothingToExplain, match="no ledger of window 2026-12"):
        await of_cluster(cluster, "shop", Question("month"))

    users = lost | {"id": "2026-12.u"}
    shards = {"shards": [5, 0, 7] + 29 * [0]}
    cluster.add(f"{HOME}/llmbudgets/month", {"status": {"window": users, "amounts": amounts | shards}})
    picture = await of_cluster(cluster, "shop", Question("month"))
    assert (picture.lost, [record.floor for record in picture.records]) == (2, [5, 7])


def cluster_with_ledgers() -> FakeCluster:
    cluster = FakeCluster()
    status = {"window": {"id": "2026-11"}, "amounts": {"limit": parse_usd("5")}}
    cluster.add(f"{HOME}/llmbudgets/month", {"spec": {"limit": {"amount": "5.00"}}, "status": status})
    for window in ("2026-10", "2026-11"):
        record = LedgerRecord(
            starts_at=datetime.fromisoformat(f"{window}-01T00:00:00Z"),
            ends_at=datetime.fromisoformat(f"{window}-28T00:00:00Z"),
            accounts={"": Account(rows={"uid-1.a": Row(granted=7)})},
        )
        cluster.add(
            f"{HOME}/llmledgers/month-{window}",
            {
                "metadata": {"labels": {"keelage.dev/budget": "month"}},
                "budget": "month",
                "window": window,
                "record": msgspec.to_builtins(record),
            },
        )
    cluster.add("/api/v1/namespaces/shop/pods/web-1", {"metadata": {"uid": "uid-1"}})
    return cluster


async def test_a_cluster_is_explained_from_the_namespace_alone() -> None:
    cluster = cluster_with_ledgers()
    picture = await of_cluster(cluster, "shop", Question("month"))
    assert (picture.window, picture.others, picture.limit) == ("2026-11", ("2026-10",), parse_usd("5"))
    assert picture.records[0].account().rows["uid-1.a"].granted == 7
    assert picture.pods == {"uid-1": "web-1"}
    assert {call.split(" ")[0] for call in cluster.calls} == {"GET"}
    assert all("/namespaces/shop/" in call for call in cluster.calls)
    assert (await of_cluster(cluster, "shop", Question("month", "2026-10"))).window == "2026-10"
    with pytest.raises(NothingToExplain, match="no LLMBudget week in namespace shop"):
        await of_cluster(cluster, "shop", Question("week"))


def test_the_command_prints_and_exits_as_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", "budget", "shop-month", "--state", str(tmp_path)]) == 1
    assert "no LLMBudget shop-month" in capsys.readouterr().err
    request = tmp_path / "request.json"
    request.write_text(json.dumps(MESSAGE))
    assert main(["explain", "request", "-f", str(request), "-r", str(EXAMPLES)]) == 0
    assert "rule everything" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main(["explain", "request", "-f", str(request), "-r", str(EXAMPLES), "--header", "none"])
    assert "is not NAME=VALUE" in capsys.readouterr().err


async def test_a_ledger_is_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    state = await spent_state(tmp_path)
    capsys.readouterr()
    assert await asyncio.to_thread(main, ["explain", "budget", "shop-month", "--state", str(state)]) == 0
    printed = capsys.readouterr().out
    assert "limit     0.500000000000" in printed
    assert "local   0.200000000001   0.05" in printed
    assert "the status says the same: 0.05 spent" in printed


def explained(body: object, *headers: tuple[bytes, bytes], folder: Path = EXAMPLES, path: str = "") -> tuple[str, bool]:
    found = explain_request(read_folder(folder), headers, json.dumps(body).encode(), 0.0, path)
    return found.text, found.served


def test_a_request_is_explained_by_rule_backend_bound_and_budget() -> None:
    text, served = explained(MESSAGE)
    assert served
    lines = [line.strip() for line in text.splitlines()]
    assert lines[0].startswith("POST /v1/messages (guessed; --path says it): model 'claude-opus-4-5'")
    assert lines[1] == "LLMRoute assistant, rule everything, tier fast: the first that matches"
    assert lines[2].startswith("2 backends, in this order: those of the call's own API come first; 3 attempts in all")
    assert "1. backend assistant/anthropic (http://127.0.0.1:9999), model claude-haiku-4-5" in lines
    assert "output: at most 100 tokens: 100, as the request says" in lines
    assert "2. backend assistant/openai (http://127.0.0.1:9999), model gpt-4o-mini" in lines
    assert "it speaks the other API: translated to POST /v1/chat/completions, nothing is lost" in lines
    reserved, _ = (line for line in lines if line.startswith("budget "))
    bound, _ = (line for line in lines if line.startswith("bound: "))
    amount = bound.split()[3]
    assert reserved == f"budget shop/shop-month: reserves {amount} of 0.50 USD"


def test_an_explanation_shows_neither_prompt_nor_key() -> None:
    text, _ = explained(MESSAGE)
    assert "secret plan" not in text
    assert "fake-anthropic-key" not in text


@pytest.mark.parametrize(
    ("body", "path"),
    [
        ({"model": "gpt-4o", "input": "hi"}, "/v1/responses"),
        ({"model": "text-embedding-3-small", "input": "hi"}, "/v1/embeddings"),
    ],
)
def test_the_path_of_an_input_is_guessed_by_the_model(body: dict[str, object], path: str) -> None:
    assert f"POST {path} (guessed; --path says it)" in explained(body)[0]


def test_a_cap_that_the_rule_puts_in_is_named() -> None:
    text, served = explained({"model": "gpt-4o", "messages": [{"role": "user", "content": "hi"}]})
    assert served
    assert "POST /v1/chat/completions" in text
    assert "1024, put in by the rule's output.maxTokens" in text


@pytest.mark.parametrize(
    ("change", "status", "words"),
    [
        ({"max_tokens": 2_000_000}, 400, "BudgetTooSmall: LLMBudget shop/shop-month can never pay"),
        ({"tools": [{"type": "web_search_20250305", "name": "web_search"}]}, 400, "NotBoundable: tools[0].type"),
        ({"model": 7}, 400, "BadRequest: model: a string"),
    ],
)
def test_a_refusal_has_the_words_that_the_sdk_sees(change: dict[str, object], status: int, words: str) -> None:
    text, served = explained({**MESSAGE, **change}, (b"anthropic-version", b"2023-06-01"))
    assert not served
    assert f"refused: HTTP {status}, {words}" in text
    assert "x-should-retry: false" in text
    body = json.loads(text.splitlines()[-1])
    assert (body["type"], body["error"]["type"]) == ("error", "invalid_request_error")


def test_a_path_that_is_not_metered_is_refused_in_its_own_api() -> None:
    text, served = explained({"model": "gpt-4o", "input": "hi"}, path="/v1/responses/compact")
    assert not served
    assert "refused: HTTP 400, EndpointNotMetered" in text
    assert '"error":{"message"' in text


def test_a_secret_that_is_not_in_the_folder_is_taken_to_be_in_the_cluster(tmp_path: Path) -> None:
    for name in ("route.yaml", "budget.yaml"):
        (tmp_path / name).write_text((EXAMPLES / name).read_text())
    text, served = explained(MESSAGE, folder=tmp_path)
    assert served
    assert "key: Secret llm-keys is not in the folder; taken to be in the cluster, with key anthropic" in text
    assert "budget shop/shop-month: reserves" in text


def test_a_missing_key_and_a_missing_rule_are_refusals(tmp_path: Path) -> None:
    for name in ("route.yaml", "budget.yaml", "secret.yaml"):
        (tmp_path / name).write_text((EXAMPLES / name).read_text().replace("anthropic: fake", "other: fake"))
    text, served = explained(MESSAGE, folder=tmp_path)
    assert not served
    assert "CredentialMissing: backend assistant/anthropic: Secret llm-keys with key anthropic" in text
    route = tmp_path / "route.yaml"
    matched = "- name: everything\n    matches: [{features: [chat]}]"
    route.write_text(route.read_text().replace("- name: everything", matched))
    text, served = explained(MESSAGE, folder=tmp_path)
    assert not served
    assert "HTTP 404, NoMatchingRoute" in text
    assert "rule everything" in explained(MESSAGE, (b"x-keelage-feature", b"chat"), folder=tmp_path)[0]


async def test_a_budget_with_values_is_explained_from_all_its_ledgers() -> None:
    cluster = FakeCluster()
    store = KubernetesStore(cluster)
    spec = {"limit": {"tokens": 1000}, "per": ["User"]}
    cluster.add(f"{HOME}/llmbudgets/user", {"spec": spec, "status": {"window": {"id": "2026-11.tokens.u"}}})
    for shard, value in ((3, "alice"), (30, account_value(["Zoë B."]))):
        record = LedgerRecord(
            starts_at=datetime.fromisoformat("2026-11-01T00:00:00Z"),
            ends_at=datetime.fromisoformat("2026-12-01T00:00:00Z"),
            accounts={value: Account(settled=shard)},
        )
        await store.create(LedgerKey("shop/user", "2026-11.tokens.u", shard), record)
    picture = await of_cluster(cluster, "shop", Question("user"))
    assert [list(record.accounts) for record in picture.records] == [["alice"], [account_value(["Zoë B."])]]
    assert (picture.limit, picture.others) == (1000, ())
    assert (await of_cluster(cluster, "shop", Question("user", value="alice"))).value == "alice"
    asked_by_name = await of_cluster(cluster, "shop", Question("user", value="Zoë B."))
    assert asked_by_name.value == account_value(["Zoë B."])
    with pytest.raises(NothingToExplain, match="has not heard of carol"):
        await of_cluster(cluster, "shop", Question("user", value="carol"))


@pytest.mark.parametrize(
    ("kind", "stored", "asked"),
    [
        ("u", ["team/alice"], "team/alice"),
        ("uf", ["team/alice", "search"], "team/alice/search"),
        ("uf", ["alice", "search/deep"], "alice/search/deep"),
        ("uf", ["", "search"], "-/search"),
        ("u", ["-"], "-"),
    ],
)
async def test_a_value_is_found_by_the_names_that_calls_had(kind: str, stored: list[str], asked: str) -> None:
    """A slash may be part of a name, or between two of them."""
    cluster = cluster_with_ledgers()
    window, value = f"2026-11.{kind}", account_value(stored)
    record = LedgerRecord(
        datetime(2026, 11, 1, tzinfo=UTC), datetime(2026, 12, 1, tzinfo=UTC), accounts={value: Account(7)}
    )
    await KubernetesStore(cluster).create(LedgerKey("shop/month", window, home_of(window, value)), record)
    assert (await of_cluster(cluster, "shop", Question("month", window, asked))).value == value
