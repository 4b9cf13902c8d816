"""docs/routing.md on the real cluster: its manifests, applications that know nothing of them, the provider's bill."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from tests.cluster.desk import Answer, Call, Desk, application, at_desk, calls_of
from tests.cluster.documented import documented, text_of
from tests.cluster.kube import KEY, KubectlFailed, Space

pytestmark = pytest.mark.cluster

HAIKU, OPUS, SONNET = "claude-haiku-4-5", "claude-opus-4-5", "claude-sonnet-4-5"
GPT_MINI, GPT_CHEAP, GPT_DEAR = "gpt-5-mini", "gpt-4o-mini", "gpt-4o"
LONG = "Please compare these two contracts clause by clause. " * 10
APPLICATIONS = ("support", "shadow", "concierge")


def selection(namespace: str) -> list[dict[str, Any]]:
    """The documented route and budget without the hours, which a test cannot choose."""
    route, budget = documented("selection.yaml", namespace)
    chat = route["spec"]["rules"][-1]
    chat["select"] = [entry for entry in chat["select"] if "timeWindow" not in entry.get("when", {})]
    return [route, budget]


@pytest.fixture(scope="module")
def desks(shop: Space) -> Iterator[Mapping[str, Desk]]:
    """A pod for each of the documented routes."""
    shop.apply(text_of(documented("cascade.yaml", shop.name) + selection(shop.name)))
    shop.apply(text_of(documented("shadow.yaml", shop.name)))
    shop.apply("---".join(map(application, APPLICATIONS)))
    for name in APPLICATIONS:
        shop.ready(name, 1)
    with ExitStack() as opened:
        pods = {name: shop.pods(f"app={name}")[0]["metadata"]["name"] for name in APPLICATIONS}
        yield {name: opened.enter_context(at_desk(shop, pod)) for name, pod in pods.items()}


def decided(answer: Answer) -> tuple[str, str, str, str]:
    """Model, and what the headers say of it."""
    assert not answer.error, answer.text
    return answer.model, answer.told("rule"), answer.told("tier"), answer.told("selected-by")


@pytest.mark.parametrize(
    ("text", "headers", "said", "rule", "tier", "by"),
    [
        ("Where is my parcel?", {}, "", "chat", "fast", "3:promptWords+keywords"),
        (LONG, {"x-keelage-task-type": "translate"}, "", "chat", "fast", "0:taskTypes"),
        (LONG * 500, {}, "", "chat", "deep", "2:promptTokens"),
        ("Is this legal?", {}, "Simple.", "chat", "fast", "4:classifier"),
        ("Is this legal, then?", {}, "COMPLEX", "chat", "deep", "default"),
        ("Where is my parcel?", {"x-tenant": "gold"}, "", "gold", "deep", ""),
    ],
)
def test_both_sdks_get_the_tier_that_the_conditions_select(
    shop: Space,
    desks: Mapping[str, Desk],
    text: str,
    headers: Mapping[str, str],
    said: str,
    rule: str,
    tier: str,
    by: str,
) -> None:
    shop.configure(replies={HAIKU: said} if said else {})
    desk = desks["concierge"]
    claude, gpt = desk.ask_at_once(
        [
            Call.messages(text, stream=True, extra_headers=dict(headers)),
            Call.chat(f"{text} ", extra_headers=dict(headers)),
        ]
    )
    cheap = tier == "fast"
    assert decided(claude) == (HAIKU if cheap else OPUS, f"concierge/{rule}", tier, by)
    # The tier has a backend of its own for chat completions: those are asked in their own API.
    assert decided(gpt) == (GPT_MINI if cheap else OPUS, f"concierge/{rule}", tier, by)
    record = desk.record(claude)
    assert (record["route"], record["rule"], record["tier"], record["model"]) == ("concierge", rule, tier, claude.model)
    assert record.get("selected_by", "") == by


def test_a_classifiers_question_is_a_call_of_its_own_and_asked_once(shop: Space, desks: Mapping[str, Desk]) -> None:
    shop.configure(replies={HAIKU: "SIMPLE"})
    desk, told = desks["concierge"], {"x-keelage-feature": "desk", "x-keelage-user": "ada"}
    first, again = (desk.ask(Call.messages("Is it a legal question?", extra_headers=told)) for _ in range(2))
    assert decided(first) == decided(again)
    asked = desk.record(first, "/classifier")
    assert (asked["purpose"], asked["model"], asked["feature"], asked["user"]) == ("classifier", HAIKU, "desk", "ada")
    assert asked["cost_picodollars"] > 0
    assert desk.record(again)["request_id"]
    assert [each["request_id"] for each in desk.records()].count(f"{again.told('request-id')}/classifier") == 0


def test_a_classifier_that_fails_leaves_the_call_to_the_otherwise_tier(shop: Space, desks: Mapping[str, Desk]) -> None:
    shop.configure(replies={}, model_faults={HAIKU: "529", GPT_MINI: "529"})
    try:
        answer = desks["concierge"].ask(Call.messages("Legal or not, today?"))
    finally:
        shop.configure(model_faults={})
    assert decided(answer) == (OPUS, "concierge/chat", "deep", "4:classifier:otherwise")


def test_embeddings_take_the_rule_of_their_path(desks: Mapping[str, Desk]) -> None:
    answer = desks["concierge"].ask(Call.embeddings("one", "two", model="anything"))
    assert decided(answer) == ("text-embedding-3-small", "concierge/vectors", "vectors", "")
    assert len(answer.body["data"]) == 2


def test_a_rule_that_is_never_reached_is_said_by_the_route_and_by_check_before(shop: Space, tmp_path: Path) -> None:
    (route, _) = selection(shop.name)
    route["metadata"]["name"] = "unreached"
    route["spec"]["podSelector"] = {"matchLabels": {"app": "nobody"}}
    route["spec"]["rules"].insert(0, {"name": "all", "select": [{"tier": "deep"}]})
    (tmp_path / "route.yaml").write_text(text_of([route]))
    code, checked = keelage("check", "-f", str(tmp_path), "-o", "json")
    shop.apply(text_of([route]))
    said = shop.kube.until("the condition", lambda: shop.condition("llmroute", "unreached", "Accepted"), 60)
    shop.kubectl("delete", "llmroute", "unreached")
    assert (said["status"], said["reason"]) == ("True", "UnreachableRules")
    (finding,) = (each for each in json.loads(checked)["findings"] if each["reason"] == "UnreachableRules")
    assert finding["message"] == said["message"]
    assert code == 0, "it is accepted all the same"


def test_what_the_schema_cannot_see_the_webhook_refuses_in_the_words_of_check(shop: Space, tmp_path: Path) -> None:
    (route,) = documented("cascade.yaml", shop.name)
    route["spec"]["rules"][0]["cascade"]["escalateOn"]["jsonSchema"] = {"patternProperties": {}}
    (tmp_path / "route.yaml").write_text(text_of([route]))
    code, checked = keelage("check", "-f", str(tmp_path), "-o", "json")
    (finding,) = (each for each in json.loads(checked)["findings"] if each["level"] == "error")
    assert code == 1
    assert "patternProperties" in finding["message"]
    with pytest.raises(KubectlFailed, match=re.escape(finding["message"])):
        shop.apply(text_of([route]))


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("feature", "good", "bad", "cause"),
    [
        ("", "It is order 12.", "UNCERTAIN", "ReplyPrefix"),
        ("", "We are sorry to hear that.", "I am not sure which one.", "Pattern"),
        ("extract", '{"order": "12", "refund": true}', '{"order": 12}', "JsonSchema"),
    ],
)
def test_the_dear_model_answers_where_the_cheap_ones_answer_will_not_do(
    shop: Space, desks: Mapping[str, Desk], stream: bool, feature: str, good: str, bad: str, cause: str
) -> None:
    desk, headers = desks["support"], {"x-keelage-feature": feature}
    calls = [
        Call.messages("Which order?", stream=stream, model=HAIKU, extra_headers=headers),
        Call.chat("Which order?", stream=stream, model=GPT_CHEAP, extra_headers=headers),
    ]
    cheap, dear = (HAIKU, GPT_CHEAP), (OPUS, GPT_DEAR)
    shop.configure(replies={**dict.fromkeys(cheap, good), **dict.fromkeys(dear, "Order 4711.")})
    kept = desk.ask_at_once(calls)
    assert [(each.text, each.model, each.told("cascade")) for each in kept] == [(good, each, "kept") for each in cheap]
    shop.configure(replies={**dict.fromkeys(cheap, bad), **dict.fromkeys(dear, "Order 4711.")})
    escalated = desk.ask_at_once(calls)
    assert [(each.text, each.model, each.told("cascade")) for each in escalated] == [
        ("Order 4711.", each, "escalated") for each in dear
    ]
    for answer, first in zip(escalated, cheap, strict=True):
        cascade = desk.record(answer)["cascade"]
        assert (cascade["outcome"], cascade["cause"], cascade["first_answer"]["model"]) == ("escalated", cause, first)
        assert cascade["first_answer"]["cost_picodollars"] > 0


def test_the_routes_status_adds_up_what_the_log_lines_say_the_cascade_saved(
    shop: Space, desks: Mapping[str, Desk]
) -> None:
    told = [each["cascade"] for each in desks["support"].records() if "cascade" in each]

    def summed() -> Mapping[str, Any] | None:
        found = shop.savings("support", "Cascade")
        return found if found.get("tries") == len(told) else None

    saving = shop.kube.until("the savings of all calls", summed, 60)
    assert len(told) == 24
    assert saving["hits"] == 12
    assert saving["hitRate"] == "50%"
    assert saving["picodollars"] == sum(each["saved_picodollars"] for each in told)


def test_while_a_tier_is_slow_another_takes_its_calls_and_gives_them_back(
    shop: Space, desks: Mapping[str, Desk]
) -> None:
    desk = desks["support"]
    call = Call.messages("Hello", stream=True, model=HAIKU, extra_headers={"x-keelage-feature": "chat"})
    shop.configure(replies={}, model_faults={OPUS: "slow-first-byte:5.2"})
    slow = desk.ask_at_once([call] * 20)  # as many as a judgement takes
    shop.configure(model_faults={})
    assert {decided(each)[:3] for each in slow} == {(OPUS, "support/chat", "deep")}

    moved = desk.ask(call)
    assert decided(moved)[:3] == (HAIKU, "support/chat", "fast")
    assert moved.told("latency") == "otherwise"
    assert desk.record(moved)["latency"] == {"broken": "firstTokenWithin", "selected": "deep"}

    def back() -> bool:
        return all(each.model == OPUS for each in desk.ask_at_once([call] * 3))

    shop.kube.until("all calls to go to the dear tier again", back, 60)


def test_a_rule_and_a_budget_in_shadow_are_told_by_log_lines_and_change_nothing(
    shop: Space, desks: Mapping[str, Desk]
) -> None:
    shop.configure(replies={}, output_tokens=40)
    desk = desks["shadow"]
    ask = Call.messages("Which team?", model=HAIKU, max_tokens=2000, extra_headers={"x-keelage-feature": "triage"})
    answer = desk.ask(ask)
    assert decided(answer) == (SONNET, "shadow/all", "deep", "")
    record = desk.record(answer)
    shadow = record["shadow_rule"]
    assert (shadow["rule"], shadow["tier"], shadow["model"]) == ("triage-on-fast", "fast", HAIKU)
    assert shadow["cost_picodollars"] + -shadow["difference_picodollars"] == record["cost_picodollars"]
    assert shadow["difference_picodollars"] < 0

    big = Call.messages("Which team?", model=HAIKU, max_tokens=60_000, stream=True)

    def rehearsed() -> Mapping[str, Any] | None:
        """The budget of 0.60 dollars would not pay for 60,000 tokens at 15 dollars a million."""
        answer = desk.ask(big)
        assert decided(answer)[:3] == (SONNET, "shadow/all", "deep")
        told = desk.record(answer).get("shadow_budgets")
        return told[0] if told else None

    would = shop.kube.until("the ledger's first word of the window", rehearsed, 60)
    assert would["budget"] == f"{shop.name}/shadow-day"
    assert (would["would"], would["tier"]) == ("downgrade", "fast")
    assert would["needed"] > would["left"]


def test_plan_replays_the_pods_own_log_lines_against_the_manifests_in_force(
    shop: Space, desks: Mapping[str, Desk], tmp_path: Path
) -> None:
    desk = desks["shadow"]
    ask = Call.messages("Which team?", model=HAIKU, extra_headers={"x-keelage-feature": "triage"})
    for answer in desk.ask_at_once([ask, Call.messages("Hello", model=HAIKU)] * 3):
        assert desk.record(answer)["outcome"] == "ok"
    log = desk.log()
    records = calls_of(log)
    objects = documented("shadow.yaml", shop.name)
    for each in objects:
        each["spec"].pop("mode", None)
        for rule in each["spec"].get("rules", ()):
            rule.pop("mode", None)
    (tmp_path / "new.yaml").write_text(text_of(objects))
    words = ("plan", "-f", str(tmp_path / "new.yaml"), "--log", "-", "-l", "app=shadow", "-o", "json")
    code, planned = keelage(*words, stdin=log)
    assert code == 0
    plan = json.loads(planned)
    (budget,) = plan["budgets"]
    rehearsed = [each for each in records if "shadow_rule" in each or "shadow_budgets" in each]
    assert {each["name"]: each["callsAfter"] for each in plan["tiers"]} == {
        "fast": len(rehearsed),
        "deep": len(records) - len(rehearsed),
    }
    assert budget["loweredAfter"] == sum("shadow_budgets" in each for each in records)
    paid = sum(each["cost_picodollars"] for each in records)
    cheaper = sum(each["shadow_rule"]["difference_picodollars"] for each in records if "shadow_rule" in each)
    assert Decimal(plan["total"]["usdBefore"]) * 10**12 == paid
    assert Decimal(plan["total"]["usdAfter"]) * 10**12 <= paid + cheaper < paid


def test_doctor_finds_keys_and_models_good_and_our_bounds_above_the_providers_count(
    shop: Space, tmp_path: Path
) -> None:
    """From outside the pods, as people run it, with the key in the folder as it is in the namespace."""
    service = shop.json("get", "service", "provider")["spec"]["clusterIP"]
    objects = documented("selection.yaml", shop.name, f"http://{service}")
    keys = {"anthropic": KEY, "openai": KEY}
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "llm-keys", "namespace": shop.name}}
    (tmp_path / "all.yaml").write_text(text_of([secret | {"stringData": keys}, *objects]))
    code, said = keelage("doctor", "-f", str(tmp_path))
    assert code == 0, said
    assert f"ok   concierge/anthropic: http://{service} takes the key llm-keys/anthropic" in said
    assert f"model {OPUS}: our bound is" in said
    (tmp_path / "all.yaml").write_text(text_of([secret | {"stringData": keys | {"openai": "sk-wrong"}}, *objects]))
    code, said = keelage("doctor", "-f", str(tmp_path))
    assert code == 1, said
    assert "FAIL concierge/openai: " in said
    assert "sk-wrong" not in said


def test_from_a_share_of_the_budget_on_the_fast_tier_answers_everywhere(shop: Space, desks: Mapping[str, Desk]) -> None:
    """Last but one: the limit is lowered until nine tenths of it are spent."""
    legal = Call.messages(LONG)
    shop.configure(replies={HAIKU: "COMPLEX"})
    assert decided(desks["concierge"].ask(legal))[2:] == ("deep", "default")
    spent = shop.kube.until("the spending to be told", lambda: settled(shop), 60)
    limit = f"{Decimal(spent) / 10**12 * 10 / 9:.6f}"
    patch = {"spec": {"limit": {"amount": limit}}}
    shop.kubectl("patch", "llmbudget", "concierge-month", "--type=merge", "-p", json.dumps(patch))

    def downgraded() -> bool:
        return decided(desks["concierge"].ask(legal)) == (HAIKU, "concierge/chat", "fast", "1:budgetUsed")

    shop.kube.until("the sidecar to hear of it", downgraded, 60)


def test_the_budgets_status_is_the_bill_of_all_these_calls_and_of_those_made_for_them(
    shop: Space, desks: Mapping[str, Desk]
) -> None:
    spent = shop.kube.until("the last settlements to be told", lambda: settled(shop), 60)
    assert spent == shop.bill()
    shop.kube.until(
        "log lines of the same sum",
        lambda: spent == sum(each["cost_picodollars"] for desk in desks.values() for each in desk.records()),
        20,
    )


def settled(shop: Space) -> int:
    """Pico-dollars that the budget over all calls has spent, once it says as much as the provider; 0 before."""
    status = shop.budget("concierge-month")
    spent = int(status.get("amounts", {}).get("spent", 0))
    return spent if status.get("reserved") == "0.00" and spent >= shop.bill() else 0


def keelage(*words: str, stdin: str = "") -> tuple[int, str]:
    """Exit code of the command, and what it says."""
    command = [sys.executable, "-m", "keelage_operator.cli", *words]
    done = subprocess.run(command, capture_output=True, text=True, input=stdin, check=False, timeout=120)
    return done.returncode, done.stdout + done.stderr
