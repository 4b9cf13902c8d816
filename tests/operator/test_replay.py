"""Recorded calls under other manifests: decided by the sidecar's own code, and priced by the same book."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from keelage_api.money import parse_usd
from keelage_operator.check import as_applied
from keelage_operator.cli import main
from keelage_operator.local_folder import Manifest
from keelage_operator.replay import Replay, read
from keelage_operator.replay_report import Report, Row
from keelage_sidecar.core.log_line import CallRecord, Cascaded, FirstAnswer

HAIKU, SONNET, GPT = "claude-haiku-4-5", "claude-sonnet-4-5", "gpt-5-mini"
MILLION = 1_000_000

ROUTE = """\
apiVersion: keelage.dev/v1alpha1
kind: LLMRoute
metadata: {name: assistant, namespace: shop}
spec:
  podSelector: {matchLabels: {app: assistant}}
  backends:
  - {name: anthropic, provider: Anthropic, credentials: {secretKeyRef: {name: keys, key: a}}}
  - {name: openai, provider: OpenAI, credentials: {secretKeyRef: {name: keys, key: o}}}
  tiers:
  - {name: fast, models: [{backend: anthropic, model: claude-haiku-4-5}]}
  - {name: deep, models: [{backend: anthropic, model: claude-sonnet-4-5}]}
  - {name: asked, models: [{backend: anthropic}, {backend: openai}]}
  - name: split
    models:
    - {backend: anthropic, model: claude-haiku-4-5, weight: 25}
    - {backend: anthropic, model: claude-sonnet-4-5, weight: 75}
  rules:
RULES
"""
ALL = "  - {name: all, select: [{tier: asked}]}"


def budget(**spec: object) -> str:
    raw = {
        "apiVersion": "keelage.dev/v1alpha1",
        "kind": "LLMBudget",
        "metadata": {"name": "day", "namespace": "shop"},
        "spec": {"window": {"every": "Day"}, **spec},
    }
    return f"---\n{yaml.safe_dump(raw)}"


def call(number: int = 0, **fields: object) -> CallRecord:
    """A thousand tokens in and a hundred out, by claude-haiku-4-5: 0.0015 USD; one a minute."""
    known = CallRecord(
        time=f"2026-11-21T{10 + number // 60:02d}:{number % 60:02d}:00.000Z",
        request_id=f"r{number}",
        endpoint="messages",
        outcome="ok",
        status=200,
        route="assistant",
        rule="old",
        backend="assistant/anthropic",
        request_model=HAIKU,
        model=HAIKU,
        usage_known=True,
        input_tokens=1000,
        output_tokens=100,
        cost=1500 * MILLION,
        bound=3500 * MILLION,
        bound_input_tokens=2000,
        bound_output_tokens=300,
    )
    return replace(known, **fields)


def replayed(text: str, *records: CallRecord) -> Report:
    manifests = [
        Manifest(raw["kind"], raw["metadata"]["name"], "shop", "f", yaml.compose(yaml.safe_dump(raw)) or _no(), raw)
        for raw in yaml.safe_load_all(text)
    ]
    compiled = as_applied(manifests, "shop")
    assert all(not problem.refuses for route in compiled.routes.values() for problem in route.problems)
    assert all(not problem.refuses for each in compiled.budgets.values() for problem in each.problems)
    budgets = [each.in_force for each in compiled.budgets.values() if each.in_force is not None]
    return Replay(compiled.config_for({"app": "assistant"}), {each.name: each for each in budgets}).run(records)


def _no() -> yaml.Node:
    raise AssertionError("no document")


def with_rules(*rules: str) -> str:
    return ROUTE.replace("RULES", "\n".join(rules))


def test_the_same_routing_costs_the_same() -> None:
    report = replayed(with_rules(ALL), *(call(number) for number in range(3)))
    assert report.total == Row("all", 3, 3, "0.0045", "0.0045")
    assert report.models == (Row(HAIKU, 3, 3, "0.0045", "0.0045"),)
    assert [(row.name, row.calls_before, row.calls_after) for row in report.rules] == [
        ("assistant/all", 0, 3),
        ("assistant/old", 3, 0),
    ]


def test_calls_go_by_their_feature_and_cost_what_the_other_model_does() -> None:
    rules = "  - {name: triage, matches: [{features: [triage]}], select: [{tier: fast}]}", ALL.replace("asked", "deep")
    report = replayed(with_rules(*rules), call(0, feature="triage"), call(1), call(2))
    assert [(row.name, row.calls_after, row.usd_after) for row in report.models] == [
        (HAIKU, 1, "0.0015"),
        (SONNET, 2, "0.009"),
    ]
    assert [(row.name, row.calls_after) for row in report.tiers if row.calls_after] == [("deep", 2), ("fast", 1)]
    assert (report.total.usd_before, report.total.usd_after) == ("0.0045", "0.0105")


def test_weights_spread_calls_as_they_say() -> None:
    report = replayed(with_rules(ALL.replace("asked", "split")), *(call(number) for number in range(200)))
    counts = {row.name: row.calls_after for row in report.models}
    assert abs(counts[HAIKU] - 50) <= 2
    assert abs(counts[SONNET] - 150) <= 2


def test_a_call_that_no_rule_takes_is_refused() -> None:
    rules = ("  - {name: gpt, matches: [{models: ['gpt-*']}], select: [{tier: asked}]}",)
    report = replayed(with_rules(*rules), call())
    assert [(each.reason, each.before, each.after) for each in report.refusals] == [("NoMatchingRoute", 0, 1)]
    assert report.total == Row("all", 1, 1, "0.0015", "0.00")


def test_a_budget_refuses_what_it_cannot_bound_and_begins_anew_with_its_window() -> None:
    # Bounded by 0.0035 USD each, and 0.0015 are spent: of a limit of 0.008 four fit (the fourth begins at 0.0045).
    records = [call(number) for number in range(6)]
    tomorrow = [replace(each, time=each.time.replace("-21T", "-22T")) for each in records[:1]]
    report = replayed(with_rules(ALL) + budget(limit={"amount": "0.008"}), *records, *tomorrow)
    [row] = report.budgets
    assert (row.budget, row.limit, row.refused_before, row.refused_after) == ("shop/day", "0.008 USD", 0, 2)
    assert row.most_spent == "0.006 USD"
    assert [(each.reason, each.after) for each in report.refusals] == [("BudgetExhausted", 2)]
    assert report.total.usd_after == "0.0075"


def test_a_budget_of_tokens_per_user_counts_tokens_of_each() -> None:
    text = with_rules(ALL) + budget(limit={"tokens": 3000}, per=["User"])
    records = [call(number, user="ann" if number % 3 else "bob") for number in range(6)]
    [row] = replayed(text, *records).budgets
    assert (row.refused_after, row.most_spent) == (4, "1100 tokens")


def test_near_the_limit_calls_are_downgraded_or_clamped() -> None:
    text = with_rules(ALL.replace("asked", "deep"))
    thresholds = [{"percent": 50, "do": "Downgrade", "tier": "fast"}]
    lower = replayed(
        text + budget(limit={"amount": "0.02"}, thresholds=thresholds), *(call(number) for number in range(8))
    )
    counts = {row.name: row.calls_after for row in lower.models}
    assert counts == {SONNET: 3, HAIKU: 3, "(refused)": 2}
    assert lower.budgets[0].lowered_after == 3
    clamping = text.replace("{tier: deep}]}", "{tier: deep}], output: {clampAtLeast: 10}}")
    clamped = replayed(clamping + budget(limit={"amount": "0.01"}), call())
    assert (clamped.budgets[0].lowered_after, clamped.total.calls_after) == (1, 1)


def test_a_budget_in_shadow_refuses_nothing_here_either() -> None:
    report = replayed(with_rules(ALL) + budget(limit={"amount": "0.000001"}, mode="Shadow"), call())
    assert report.refusals == ()
    assert any("mode: Shadow" in note for note in report.notes)


def test_what_a_budget_refused_before_is_served_by_a_larger_one_and_taken_to_use_the_usual() -> None:
    refused = {"outcome": "refused", "status": 429, "reason": "BudgetExhausted", "budget": "shop/old"}
    nothing = {"usage_known": False, "input_tokens": 0, "output_tokens": 0, "cost": 0, "bound": 0, "model": ""}
    unbounded = {"bound_input_tokens": 0, "bound_output_tokens": 0}
    report = replayed(with_rules(ALL), call(0), call(1, **refused, **nothing, **unbounded))
    assert report.total == Row("all", 2, 2, "0.0015", "0.003")
    assert [(each.reason, each.before, each.after) for each in report.refusals] == [("BudgetExhausted", 1, 0)]
    assert report.budgets[0].budget == "shop/old"
    assert any(note.startswith("1 call: refused before") for note in report.notes)


def test_what_the_application_did_wrong_stays_wrong() -> None:
    report = replayed(with_rules(ALL), call(outcome="refused", reason="BadRequest", usage_known=False, cost=0))
    assert [(each.reason, each.before, each.after) for each in report.refusals] == [("BadRequest", 1, 1)]


def test_hits_of_the_cache_stay_hits() -> None:
    report = replayed(with_rules(ALL), call(cache="hit", usage_known=False, cost=0, model=""))
    assert report.models == (Row("(from the cache)", 1, 1, "0.00", "0.00"),)


def test_batches_and_lists_of_models_are_set_aside() -> None:
    others = call(endpoint="models"), call(outcome="settled", endpoint="batches")
    report = replayed(with_rules(ALL), call(), *others)
    assert (report.calls, report.set_aside) == (1, 2)
    assert report.text.startswith("1 call from 2026-11-21T10:00:00.000Z to 2026-11-21T10:00:00.000Z; in no sum")
    assert "as of batches and lists: 2\n" in report.text


ASKING = """\
  - name: chat
    select:
    - {when: {classifier: {tier: TIER, answer: SIMPLE, prompt: Say SIMPLE or not, maxTokens: 10}}, tier: fast}
    - {tier: deep}
    history: {keepTurns: 2, summarizeOver: {tokens: 1000, tier: TIER}}"""


def own(number: int, purpose: str, **fields: object) -> CallRecord:
    """Made for that call: a hundred tokens in and ten out, by claude-haiku-4-5: 0.00015 USD."""
    return call(
        number,
        request_id=f"r{number}/{purpose}",
        purpose=purpose,
        rule=f"chat/{purpose}",
        tier="fast",
        input_tokens=100,
        output_tokens=10,
        cost=150 * MILLION,
        **fields,
    )


def rows(rows: tuple[Row, ...]) -> dict[str, tuple[int, int, str, str]]:
    return {row.name: (row.calls_before, row.calls_after, row.usd_before, row.usd_after) for row in rows}


@pytest.mark.parametrize(("tier", "after"), [("fast", "0.00015"), ("deep", "0.00045")])
def test_what_classifiers_and_summaries_cost_is_in_the_sums_before_and_after(tier: str, after: str) -> None:
    chat = call(rule="chat", model=SONNET, cost=4500 * MILLION)
    report = replayed(with_rules(ASKING.replace("TIER", tier)), own(0, "classifier"), own(0, "summary"), chat)
    assert (report.calls, report.own_calls, report.set_aside) == (1, 2, 0)
    assert rows(report.rules) == {
        "assistant/chat": (1, 1, "0.0045", "0.0045"),
        "assistant/chat/classifier": (1, 1, "0.00015", after),
        "assistant/chat/summary": (1, 1, "0.00015", after),
    }
    assert report.total.usd_before == "0.0048"
    assert "1 call from" in report.text
    assert ", with 2 of the sidecars' own" in report.text


def test_a_rule_that_asks_nobody_saves_what_asking_cost() -> None:
    report = replayed(with_rules(ALL), own(0, "classifier"), own(0, "summary"), call(rule="chat"))
    assert rows((report.total,))["all"] == (3, 1, "0.0018", "0.0015")


def test_a_classifier_that_was_never_asked_is_taken_to_be_asked_about_the_whole_prompt() -> None:
    report = replayed(with_rules(ASKING.replace("TIER", "fast")), call(0, rule="other"), call(1, rule="other"))
    # 1000 tokens of the prompt and 4 of the question at 1 USD a million, 10 of the answer at 5.
    assert rows(report.rules)["assistant/chat/classifier"] == (0, 2, "0.00", "0.002108")
    assert any(note.startswith("2 calls: asked about by a classifier for the first time") for note in report.notes)


def test_an_answer_that_a_classifier_had_given_before_costs_nothing_again() -> None:
    lines = own(0, "classifier"), call(0, rule="chat"), call(1, rule="chat")
    report = replayed(with_rules(ASKING.replace("TIER", "fast")), *lines)
    assert rows(report.rules)["assistant/chat/classifier"] == (1, 1, "0.00015", "0.00015")


def test_vectors_cost_what_their_embedder_takes() -> None:
    embedder = "{backend: openai, model: text-embedding-3-small}"
    semantic = ALL.replace(
        "{tier: asked}]}", f"{{tier: asked}}], responseCache: {{semantic: {{embedder: {embedder}}}}}}}"
    )
    assert semantic != ALL
    line = own(0, "embedding")
    report = replayed(with_rules(semantic), line, call(0, rule="chat", cache="semantic"))
    # A hundred tokens at 0.02 USD a million.
    assert rows(report.rules)["assistant/all/embedding"][1:4:2] == (1, "0.000002")
    assert rows(report.models)["(from the cache)"][:2] == (1, 1)


def test_own_calls_are_charged_to_the_budgets() -> None:
    text = with_rules(ASKING.replace("TIER", "fast")) + budget(limit={"amount": "1.00"})
    [row] = replayed(text, own(0, "classifier"), call(0, rule="chat")).budgets
    assert row.most_spent == "0.00465 USD"


def test_an_own_call_without_the_call_that_it_was_for_is_in_no_sum() -> None:
    report = replayed(with_rules(ALL), own(7, "classifier"), call())
    assert (report.calls, report.own_calls, report.set_aside) == (1, 0, 1)
    assert report.total == Row("all", 1, 1, "0.0015", "0.0015")


def test_a_call_that_was_charged_at_its_bound_is_again() -> None:
    report = replayed(with_rules(ALL), call(usage_known=False, input_tokens=0, output_tokens=0, cost=3500 * MILLION))
    assert report.total.usd_after == "0.0035"
    assert any("charged at the bound" in note for note in report.notes)


@pytest.mark.parametrize("line", [b"", b"\n", b"listening\n", b"[1]\n", b'{"level":"info","msg":"x"}\n', b"\xff\n"])
def test_lines_of_something_else_are_passed_over(line: bytes) -> None:
    assert read(line) is None


def test_a_line_as_the_sidecar_writes_it_is_read_back() -> None:
    assert read(call(user="ann").line()) == call(user="ann")


@given(
    st.lists(
        st.builds(
            lambda number, tokens, user, model: call(
                number, input_tokens=tokens, bound_input_tokens=tokens + 5, user=user, request_model=model
            ),
            st.integers(0, 800),
            st.integers(0, 100_000),
            st.sampled_from(["", "ann", "bob"]),
            st.sampled_from([HAIKU, SONNET]),
        ),
        max_size=20,
    ),
    st.integers(1, 200_000),
)
def test_no_window_of_a_hard_budget_is_passed_and_no_call_is_lost(records: list[CallRecord], limit: int) -> None:
    records.sort(key=lambda each: each.time)
    text = with_rules(ALL) + budget(limit={"amount": f"{limit / 1e6:.6f}"}, window={"every": "Hour"}, per=["User"])
    report = replayed(text, *records)
    assert report.total.calls_after == len(records)
    for rows in (report.rules, report.tiers, report.models):
        assert sum(row.calls_after for row in rows) == len(records)
        assert sum(parse_usd(row.usd_after) for row in rows) >= parse_usd(report.total.usd_after)
    [row] = report.budgets
    assert parse_usd(row.most_spent.removesuffix(" USD")) <= limit * MILLION


@pytest.fixture
def asked(tmp_path: Path) -> Callable[..., int]:
    """The command with manifests and a log in files."""

    def ask(text: str, lines: bytes, *more: str) -> int:
        (tmp_path / "new.yaml").write_text(text)
        (tmp_path / "calls.jsonl").write_bytes(lines)
        return main(["plan", "-f", str(tmp_path / "new.yaml"), "--log", str(tmp_path / "calls.jsonl"), *more])

    return ask


def test_the_command_prints_tables(asked: Callable[..., int], capsys: pytest.CaptureFixture[str]) -> None:
    lines = b"listening on 4000\n" + call(0).line() + call(1, feature="x").line()
    assert asked(with_rules(ALL.replace("asked", "deep")), lines) == 0
    told = capsys.readouterr().out
    assert told.startswith("2 calls from 2026-11-21T10:00:00.000Z to 2026-11-21T10:01:00.000Z\n")
    assert "claude-sonnet-4-5              0       2         0.00   0.009\n" in told


def test_the_command_prints_json(asked: Callable[..., int], capsys: pytest.CaptureFixture[str]) -> None:
    assert asked(with_rules(ALL), call().line(), "-o", "json") == 0
    report = json.loads(capsys.readouterr().out)
    assert report["total"] == {
        "name": "all", "callsBefore": 1, "callsAfter": 1, "usdBefore": "0.0015", "usdAfter": "0.0015"
    }  # fmt: skip


def test_labels_say_whose_pods_the_calls_are_of(asked: Callable[..., int], capsys: pytest.CaptureFixture[str]) -> None:
    assert asked(with_rules(ALL), call().line(), "-l", "app=assistant") == 0
    assert "NoMatchingRoute" not in capsys.readouterr().out
    assert asked(with_rules(ALL), call().line(), "-l", "app=other") == 0
    assert "NoMatchingRoute        0       1" in capsys.readouterr().out


def test_bad_manifests_are_told_as_check_tells_them(
    asked: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert asked(with_rules(ALL).replace("Anthropic", "Antropic"), call().line()) == 1
    assert 'new.yaml:7: error: LLMRoute assistant: spec.backends[0].provider: Unsupported value: "Antropic"' in (
        capsys.readouterr().out
    )


def test_a_file_without_calls_is_said(asked: Callable[..., int], capsys: pytest.CaptureFixture[str]) -> None:
    assert asked(with_rules(ALL), b"nothing\n") == 1
    assert "no line of a call to a model" in capsys.readouterr().err


def test_logs_of_several_pods_are_replayed_in_the_order_of_time(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "new.yaml").write_text(with_rules(ALL) + budget(limit={"amount": "0.004"}))
    for name, numbers in (("a", (0, 2)), ("b", (1, 3))):
        lines = b"".join(call(number, user=name).line() for number in numbers)
        (tmp_path / f"{name}.jsonl").write_bytes(lines)
    logs = [str(tmp_path / f"{name}.jsonl") for name in "ab"]
    assert main(["plan", "-f", str(tmp_path / "new.yaml"), "--log", *logs, "-o", "json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["calls"], report["first"]) == (4, "2026-11-21T10:00:00.000Z")
    assert report["budgets"][0]["refusedAfter"] == 3


SELECTING = """\
  - name: all
    select:
    - {when: {taskTypes: [translate]}, tier: fast}
    - {when: {promptWords: {atMost: 40}, keywords: {noneOf: [legal]}}, tier: fast}
    - {when: {budgetUsed: {budget: day, atLeastPercent: 50}}, tier: fast}
    - {tier: deep}"""


def test_conditions_are_judged_by_what_lines_tell() -> None:
    records = [
        call(0, prompt_words=400),
        call(1, prompt_words=40),
        call(2, prompt_words=400, task_type="translate"),
        *(call(number, prompt_words=400) for number in range(3, 6)),
    ]
    report = replayed(with_rules(SELECTING) + budget(limit={"amount": "0.03"}, enforcement="Observe"), *records)
    # 0.0045, 0.0015, 0.0015, 0.0045, 0.0045: then more than half is used.
    assert {row.name: row.calls_after for row in report.tiers if row.calls_after} == {"deep": 3, "fast": 3}
    assert "lines hold no text: no keyword is taken to be in any prompt" in report.notes
    assert not any("three quarters" in note for note in report.notes)


def test_words_that_were_not_counted_are_estimated_and_that_is_said() -> None:
    report = replayed(with_rules(SELECTING), call(0), call(1, bound_input_tokens=200, input_tokens=20))
    assert {row.name: row.calls_after for row in report.tiers if row.calls_after} == {"deep": 1, "fast": 1}
    assert any(note.startswith("2 calls: decided by the words") for note in report.notes)


def test_the_tier_that_answered_is_told_beside_the_new_one() -> None:
    report = replayed(with_rules(ALL.replace("asked", "deep")), call(tier="fast"))
    assert [(row.name, row.calls_before, row.calls_after) for row in report.tiers] == [("deep", 0, 1), ("fast", 1, 0)]


CASCADE = """\
  - name: all
    select: [{tier: fast}]
    cascade: {from: fast, to: deep, escalateOn: {replyPrefix: UNCERTAIN}}"""


def test_an_answer_that_would_not_do_before_is_paid_for_again_beside_the_dear_one() -> None:
    first = FirstAnswer("assistant/anthropic", HAIKU, 1000, 10, 1050 * MILLION)
    escalated = call(model=SONNET, cascade=Cascaded("escalated", -1, first_answer=first), cost=(1050 + 4500) * MILLION)
    kept = call(1, cascade=Cascaded("kept", 1))
    report = replayed(with_rules(CASCADE), escalated, kept)
    assert report.total == Row("all", 2, 2, "0.00705", "0.00705")
    assert [(row.name, row.calls_before, row.calls_after) for row in report.models] == [(HAIKU, 1, 1), (SONNET, 1, 1)]
    assert not any("cascade" in note for note in report.notes)
    straight = replayed(with_rules(ALL.replace("asked", "deep")), escalated, kept)
    assert straight.total.usd_after == "0.009"


def test_of_calls_that_went_through_no_cascade_it_is_said_that_none_is_taken_to_escalate() -> None:
    report = replayed(with_rules(CASCADE), call())
    assert report.total.usd_after == "0.0015"
    assert any(note.startswith("1 call: going through a cascade for the first time") for note in report.notes)
