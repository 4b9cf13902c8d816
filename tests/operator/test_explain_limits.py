"""`keelage explain request` on budgets of several kinds, rates, the clamp and downgrades."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from keelage_operator.explain_request import explain_request
from keelage_operator.local_folder import read_folder

ROOT = Path(__file__).resolve().parents[2]
LIMITS = ROOT / "docs" / "examples" / "limits.yaml"
ASKED = {"model": "claude-opus-4-5", "max_tokens": 1000, "messages": [{"role": "user", "content": "hello there"}]}
ALICE, TRIAGE = (b"x-keelage-user", b"alice"), (b"x-keelage-feature", b"triage")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The manifests of the documentation, and a Secret."""
    (tmp_path / "limits.yaml").write_text(LIMITS.read_text())
    (tmp_path / "secret.yaml").write_text((ROOT / "examples" / "secret.yaml").read_text())
    return tmp_path


def change(folder: Path, old: str, new: str) -> None:
    path = folder / "limits.yaml"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def explained(folder: Path, *headers: tuple[bytes, bytes], **fields: object) -> tuple[list[str], bool]:
    found = explain_request(read_folder(folder), headers, json.dumps({**ASKED, **fields}).encode(), 0.0)
    return [line.strip() for line in found.text.splitlines()], found.served


def test_every_account_is_named_with_its_unit_and_value(folder: Path) -> None:
    lines, served = explained(folder, ALICE, TRIAGE)
    assert served
    assert "bound: at most 0.02606 USD and 1212 tokens for one attempt" in lines
    assert [line for line in lines if line.startswith("budget ")] == [
        "budget default/shop-month: reserves 0.02606 of 500.00 USD",
        "budget default/triage-week: reserves 1212 of 20000000 tokens and an overdraft of 2000000 tokens",
        "budget default/user-day, User alice: reserves 0.02606 of 5.00 USD",
    ]
    assert [line.partition(";")[0] for line in lines if " limit of " in line] == [
        "rate limit of 20 requests in 60s for each User: takes 1 request of User alice, once for the whole call",
        "rate limit of 2000000 tokens in 60s: takes about 282 tokens, once for the whole call",
        "provider's limit of 4000 requests in 60s: takes 1 request",
        "provider's limit of 400000 input tokens in 60s: takes about 26 input tokens",
        "provider's limit of 80000 output tokens in 60s: takes about 256 output tokens",
        "provider's limit of 50000000 tokens in 24h: takes about 282 tokens",
        "provider's limit of 200 concurrent requests: takes 1 concurrent request",
    ]


@pytest.mark.parametrize(
    ("depth", "beyond"),
    [(100, "waits up to 5s among at most 100"), (0, "goes on to the next backend, or is refused")],
)
def test_what_becomes_of_a_call_beyond_a_providers_limit_is_said(folder: Path, depth: int, beyond: str) -> None:
    change(folder, "depth: 100", f"depth: {depth}")
    lines, _ = explained(folder)
    said = {line.partition("; beyond it the call ")[2] for line in lines if line.startswith("provider's limit")}
    assert said == {beyond}


def test_a_call_of_nobody_shares_one_value_and_falls_under_no_feature(folder: Path) -> None:
    lines, _ = explained(folder)
    assert "budget default/user-day, User -: reserves 0.02606 of 5.00 USD" in lines
    assert not any("triage-week" in line for line in lines)


def test_what_happens_near_the_limit_stands_in_its_order(folder: Path) -> None:
    lines, _ = explained(folder)
    assert (
        "near the limit, in this order: the output cap is lowered, down to 256 tokens (at most 0.00746 USD and 468"
        " tokens); tier fast is used where default/shop-month cannot pay; then the call is refused"
    ) in lines
    assert lines[-2:] == [
        "as budgets are used up:",
        "from 95% of budget default/shop-month on: tier fast: claude-haiku-4-5 at assistant/anthropic, at most 0.005212"
        " USD and 1212 tokens",
    ]


def test_an_older_answer_is_the_last_that_is_tried_before_a_refusal(folder: Path) -> None:
    change(folder, "    rateLimits:", "    responseCache: {exact: {ttl: 1h}, staleOnError: 24h}\n    rateLimits:")
    (line,) = [line for line in explained(folder, temperature=0)[0] if line.startswith("near the limit")]
    assert line.endswith(
        "; tier fast is used where default/shop-month cannot pay; an older answer to the same call is given, where one"
        " was kept (staleOnError); then the call is refused"
    )
    (line,) = [line for line in explained(folder)[0] if line.startswith("near the limit")]
    assert "staleOnError" not in line, "answers that are drawn at random are not kept"
    change(folder, ", clampAtLeast: 256", "")
    change(folder, ", {percent: 95, do: Downgrade, tier: fast}", "")
    (line,) = [line for line in explained(folder, temperature=0)[0] if line.startswith("near the limit")]
    assert line.startswith("near the limit, in this order: an older answer to the same call is given")


def test_the_pod_is_not_told_as_none_where_only_the_sidecar_knows_it(folder: Path) -> None:
    change(folder, "per: [User]", "per: [User, Pod]")
    change(folder, "{per: User, requests: 20", "{per: Pod, requests: 20")
    lines, _ = explained(folder, ALICE)
    assert "budget default/user-day, User alice Pod (its own): reserves 0.02606 of 5.00 USD" in lines
    assert any("takes 1 request of Pod (its own)," in line for line in lines)


def test_a_threshold_that_changes_nothing_says_so(folder: Path) -> None:
    change(folder, "do: Downgrade, tier: fast", "do: Downgrade, tier: slow")
    lines, _ = explained(folder)
    assert lines[-1].endswith(
        "tier slow: nothing changes: LLMRoute assistant has no such tier with a backend for the call"
    )
    change(folder, "do: Downgrade, tier: slow", "do: Downgrade, tier: deep")
    lines, _ = explained(folder)
    assert lines[-1].endswith("tier deep: the call uses it already")


def test_a_call_that_no_budget_can_ever_pay_for_is_clamped_then_downgraded_then_refused(folder: Path) -> None:
    change(folder, '{amount: "500.00"}', '{amount: "0.02"}')
    lines, served = explained(folder)
    assert served
    assert "too much for default/shop-month: the output cap is lowered to 757 tokens" in lines
    change(folder, ", clampAtLeast: 256", "")
    lines, served = explained(folder)
    assert served
    assert "too much for default/shop-month: tier fast is used instead" in lines
    change(folder, '{amount: "0.02"}', '{amount: "0.002"}')
    lines, served = explained(folder)
    assert not served
    assert any("BudgetTooSmall: LLMBudget default/shop-month can never pay" in line for line in lines)


def test_a_users_limit_that_is_too_small_names_the_user(folder: Path) -> None:
    change(folder, '{amount: "5.00"}', '{amount: "0.001"}')
    lines, served = explained(folder, ALICE)
    assert not served
    assert any("LLMBudget default/user-day, User alice can never pay" in line for line in lines)


def test_tokens_bound_a_model_that_has_no_price(folder: Path) -> None:
    change(folder, "claude-opus-4-5", "claude-unheard-of")
    path = folder / "limits.yaml"
    documents = path.read_text().split("---\n")
    path.write_text("---\n".join((documents[0], documents[3])))
    lines, served = explained(folder, TRIAGE)
    assert served
    assert "bound: at most 1212 tokens for one attempt; the model has no price" in lines
