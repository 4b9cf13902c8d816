"""Manifests to configurations: what sidecars obey, and what their owners are told."""

from __future__ import annotations

import copy

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.operator.core.manifest_fields import BOOK, KNOWN, Fields, budget, compiled, route

from keelage_api.codec import decode_config, encode
from keelage_api.mounted import MountedKey
from keelage_api.pricing import ModelPrice, Rates
from keelage_api.proxy_config import (
    Backend,
    BackendTLS,
    BudgetTerms,
    Downgrade,
    Match,
    ModelChoice,
    OnClientDisconnect,
    Provider,
    Retry,
    Rule,
    Timeouts,
)
from keelage_api.window import Every
from keelage_operator.core.accept import judge_budget, judge_route
from keelage_operator.core.compile import (
    Problem,
    RouteManifest,
    compile_namespace,
)


def test_route_and_budget_become_a_configuration() -> None:
    raw = route(
        backends=[
            {
                "name": "anthropic",
                "provider": "Anthropic",
                "endpoint": "http://provider:9999/prefix/",
                "credentials": {"secretKeyRef": {"name": "llm-keys", "key": "anthropic"}},
                "timeouts": {"connect": "2s", "request": "1m30s"},
                "prices": [{"model": "claude-known", "outputPerMTok": "0.0001"}],
            },
            {"name": "local", "provider": "OpenAICompatible", "endpoint": "http://vllm:8000"},
        ],
        tiers=[{"name": "fast", "models": [{"backend": "anthropic", "model": "claude-known"}, {"backend": "local"}]}],
        rules=[
            {
                "name": "triage",
                "matches": [{"models": ["claude-*"], "features": ["f"], "users": ["u"]}],
                "select": [{"tier": "fast"}],
                "retry": {"attempts": 5, "backoff": {"base": "1s"}},
                "output": {"maxTokens": 7},
                "onClientDisconnect": "Drain",
            }
        ],
    )
    namespace = compiled([raw], [budget(applies={"routes": ["assistant"], "models": ["claude-*"], "features": ["f"]})])
    config = namespace.config_for({"app": "any"})
    assert config.rules == (
        Rule(
            route="assistant",
            name="triage",
            choices=(ModelChoice("assistant/anthropic", "claude-known"), ModelChoice("assistant/local", "")),
            tier="fast",
            matches=(Match(models=("claude-*",), features=("f",), users=("u",)),),
            retry=Retry(attempts=5, base_ms=1_000, max_ms=8_000),
            max_output_tokens=7,
            on_client_disconnect=OnClientDisconnect.DRAIN,
        ),
    )
    assert config.backends == {
        "assistant/anthropic": Backend(
            name="assistant/anthropic",
            provider=Provider.ANTHROPIC,
            endpoint="http://provider:9999/prefix",
            credential="llm-keys/anthropic",
            timeouts=Timeouts(connect_ms=2_000, request_ms=90_000),
            prices={"claude-known": ModelPrice(tiers=(Rates(0, 10, 1, 12, 20, 100),))},
        ),
        "assistant/local": Backend(
            name="assistant/local", provider=Provider.OPENAI_COMPATIBLE, endpoint="http://vllm:8000"
        ),
    }
    assert config.budgets == (
        BudgetTerms(name="shop/month", hard=True, routes=("assistant",), models=("claude-*",), features=("f",)),
    )
    assert config.prices == {Provider.ANTHROPIC: {"claude-known": KNOWN}}
    assert decode_config(encode(config)) == config
    assert namespace.credentials_for({}) == (MountedKey("llm-keys", "anthropic"),)


def test_authorities_of_a_private_backend_are_mounted_and_named_by_their_files() -> None:
    refs = [{"name": "corp-ca"}, {"kind": "Secret", "name": "lab", "key": "root.pem"}]
    backend: Fields = {"name": "local", "provider": "OpenAICompatible", "endpoint": "https://llm:8443"}
    raw = route(
        backends=[{**backend, "tls": {"caCertificateRefs": refs, "hostname": "llm.internal"}}],
        tiers=[{"name": "fast", "models": [{"backend": "local"}]}],
    )
    namespace = compiled([raw])
    made = namespace.config_for({}).backends["assistant/local"]
    assert made.tls == BackendTLS(("ConfigMap/corp-ca/ca.crt", "lab/root.pem"), "llm.internal")
    mounted = namespace.credentials_for({})
    assert mounted == (MountedKey("corp-ca", "ca.crt", "ConfigMap"), MountedKey("lab", "root.pem"))
    assert [MountedKey.of(path) for path in made.tls.authorities] == list(mounted)
    decoded = decode_config(encode(namespace.config_for({})))
    assert decoded.backends["assistant/local"] == made


def test_tls_without_https_is_refused() -> None:
    raw = route(
        backends=[
            {
                "name": "local",
                "provider": "OpenAICompatible",
                "endpoint": "http://llm:8000",
                "tls": {"caCertificateRefs": [{"name": "corp-ca"}]},
            }
        ],
        tiers=[{"name": "fast", "models": [{"backend": "local"}]}],
    )
    (problem,) = compiled([raw]).routes["assistant"].problems
    assert problem.message.startswith("spec.backends[0].tls: tls needs an endpoint that begins with https")


def test_endpoint_is_that_of_the_provider_by_default() -> None:
    (backend,) = compiled([route()]).config_for({}).backends.values()
    assert backend.endpoint == "https://api.anthropic.com"


def test_budget_in_force_is_in_pico_dollars() -> None:
    found = compiled([], [budget(window={"every": "Day", "timeZone": "Europe/Berlin"}, enforcement="Observe")])
    terms = found.budgets["month"].in_force
    assert terms is not None
    assert (terms.name, terms.uid, terms.limit) == ("shop/month", "uid-month", 1_500_000_000_000)
    assert (terms.every, terms.zone, terms.hard) == (Every.DAY, "Europe/Berlin", False)


def test_pods_obey_only_what_selects_them() -> None:
    namespace = compiled(
        [
            route("one", podSelector={"matchLabels": {"app": "one"}}),
            route("two", podSelector={"matchLabels": {"app": "two"}}),
        ],
        [budget("all"), budget("two", applies={"podSelector": {"matchLabels": {"app": "two"}}})],
    )
    one, two = namespace.config_for({"app": "one"}), namespace.config_for({"app": "two"})
    assert [rule.route for rule in one.rules] == ["one"]
    assert [terms.name for terms in one.budgets] == ["shop/all"]
    assert [rule.route for rule in two.rules] == ["two"]
    assert [terms.name for terms in two.budgets] == ["shop/all", "shop/two"]
    assert namespace.config_for({}).rules == ()
    assert namespace.credentials_for({}) == ()


def test_rules_of_older_routes_are_asked_first() -> None:
    only = {"name": "r", "matches": [{"models": ["a"]}], "select": [{"tier": "fast"}]}
    namespace = compiled(
        [
            route("aaa", "2026-11-03T00:00:00Z", rules=[only]),
            route("zzz", "2026-11-01T00:00:00Z", rules=[only]),
            route("mmm", "2026-11-01T00:00:00Z", rules=[only]),
        ]
    )
    assert [rule.route for rule in namespace.config_for({}).rules] == ["mmm", "zzz", "aaa"]


@given(st.permutations([route("a"), route("b"), route("c", podSelector={"matchLabels": {"x": "y"}})]))
def test_order_of_the_manifests_does_not_matter(routes: list[Fields]) -> None:
    budgets = [budget("one"), budget("two")]
    config = compiled(routes, budgets).config_for({"x": "y"})
    assert config == compiled(
        [route("a"), route("b"), route("c", podSelector={"matchLabels": {"x": "y"}})], budgets[::-1]
    ).config_for({"x": "y"})


def test_bad_spec_leaves_the_last_accepted_one_in_force() -> None:
    good = route()
    bad = copy.deepcopy(good)
    bad["spec"] = {"backends": []}
    bad["status"] = {"lastAccepted": good["spec"], "something": "from a newer operator"}
    namespace = compiled([bad])
    assert namespace.config_for({}) == compiled([good]).config_for({})
    found = namespace.routes["assistant"]
    assert not found.accepted
    assert found.problems == (
        Problem("Invalid", "spec.backends: Invalid value: should have at least 1 items"),
        Problem("Invalid", "spec.rules: Required value"),
    )


def test_a_list_whose_item_is_bad_is_not_called_too_short() -> None:
    bad = route(rules=[{"name": "chat", "select": [{"tier": "fast"}], "output": {"maxTokens": 0}}])
    (problem,) = compiled([bad]).routes["assistant"].problems
    assert problem.message == ("spec.rules[0].output.maxTokens: Invalid value: 0: should be greater than or equal to 1")


def test_bad_budget_leaves_the_last_accepted_one_in_force() -> None:
    bad = budget(amount="lots")
    bad["status"] = {"lastAccepted": {"limit": {"amount": "2"}}}
    found = compiled([], [bad]).budgets["month"]
    assert found.in_force is not None
    assert (found.accepted, found.in_force.limit) == (False, 2 * 10**12)


def test_bad_spec_without_a_former_one_is_not_in_force() -> None:
    bad = route(rules=[])
    namespace = compiled([bad], [budget(window={"timeZone": "Mars/Olympus"})])
    assert namespace.config_for({}).rules == ()
    assert namespace.config_for({}).budgets == ()
    assert namespace.routes["assistant"].spec is None
    (problem,) = namespace.budgets["month"].problems
    assert problem.reason == "TimeZoneUnknown"
    assert "Mars/Olympus is not in the IANA database" in problem.message


@pytest.mark.parametrize("zone", ["Mars/Olympus", "Europe", "America/Argentina"])
def test_zone_that_is_none_is_refused(zone: str) -> None:
    assert [problem.reason for problem in judge_budget(budget(window={"timeZone": zone}))] == ["TimeZoneUnknown"]


def test_price_below_the_book_is_refused() -> None:
    (backend,) = [copy.deepcopy(each) for each in [_backend_with_price("0.00001")]]
    problems = judge_route(route(backends=[backend]), BOOK)
    assert [problem.reason for problem in problems] == ["PriceRefused"]
    assert "spec.backends[anthropic].prices: prices of model claude-known" in problems[0].message


def _backend_with_price(output: str) -> Fields:
    return {
        "name": "anthropic",
        "provider": "Anthropic",
        "credentials": {"secretKeyRef": {"name": "llm-keys", "key": "anthropic"}},
        "prices": [{"model": "claude-known", "outputPerMTok": output}],
    }


UNKNOWN = [{"name": "fast", "models": [{"backend": "anthropic", "model": "claude-unheard-of"}]}]


@pytest.mark.parametrize(
    ("budgets", "said"),
    [
        ([], ""),
        ([budget(applies={"models": ["gpt-*"]})], ""),
        ([budget(applies={"routes": ["assistant-2"]})], ""),
        ([budget()], "its calls are refused under Hard budget shop/month"),
        ([budget(applies={"models": ["claude-*"]})], "its calls are refused under Hard budget shop/month"),
        ([budget(enforcement="Observe")], "budget shop/month cannot count its calls"),
    ],
)
def test_model_without_price_is_told_where_a_budget_counts_it(budgets: list[Fields], said: str) -> None:
    found = compiled([route(tiers=UNKNOWN)], budgets).routes["assistant"]
    assert found.accepted
    if not said:
        assert found.problems == ()
        return
    (problem,) = found.problems
    assert (problem.reason, problem.about, problem.refuses) == ("PriceUnknown", "ResolvedRefs", False)
    assert said in problem.message
    assert "add it to backends[anthropic].prices" in problem.message


def test_budget_of_other_pods_does_not_count_a_model() -> None:
    found = compiled(
        [route(tiers=UNKNOWN, podSelector={"matchLabels": {"app": "a"}})],
        [budget(applies={"podSelector": {"matchLabels": {"app": "b"}}})],
    )
    assert found.routes["assistant"].problems == ()


def test_route_behind_one_that_takes_everything_is_told_so() -> None:
    found = compiled([route("new", "2026-11-02T00:00:00Z"), route("old", "2026-11-01T00:00:00Z")])
    assert found.routes["old"].problems == ()
    (problem,) = found.routes["new"].problems
    assert found.routes["new"].accepted
    assert (problem.reason, problem.about, problem.refuses) == ("OverlappingRoute", "Accepted", False)
    assert "rule all of the older LLMRoute old takes every call" in problem.message


@pytest.mark.parametrize(
    ("older", "newer", "overlaps"),
    [
        ({}, {"matchLabels": {"app": "a"}}, True),
        ({"matchLabels": {"app": "a"}}, {}, False),
        ({"matchLabels": {"app": "a"}}, {"matchLabels": {"app": "b"}}, False),
        ({"matchLabels": {"app": "a"}}, {"matchLabels": {"app": "a", "x": "y"}}, True),
    ],
)
def test_only_routes_of_the_same_pods_overlap(older: Fields, newer: Fields, overlaps: bool) -> None:
    found = compiled(
        [
            route("old", "2026-11-01T00:00:00Z", podSelector=older),
            route("new", "2026-11-02T00:00:00Z", podSelector=newer),
        ]
    )
    assert bool(found.routes["new"].problems) is overlaps


def test_rules_behind_one_that_takes_everything_are_named() -> None:
    rules = [{"name": name, "select": [{"tier": "fast"}]} for name in ("first", "second", "third")]
    (problem,) = compiled([route(rules=rules)]).routes["assistant"].problems
    assert problem.reason == "UnreachableRules"
    assert "rules second, third are never reached: rule first before them takes every call" in problem.message


def test_a_rule_in_shadow_keeps_no_other_rule_from_being_reached() -> None:
    rules = [{"name": "first", "mode": "Shadow", "select": [{"tier": "fast"}]}]
    rules += [{"name": "second", "select": [{"tier": "fast"}]}]
    found = compiled([route(rules=rules)])
    assert found.routes["assistant"].problems == ()
    assert [(rule.name, rule.shadow) for rule in found.config_for({}).rules] == [("first", True), ("second", False)]


def test_a_budget_in_shadow_is_counted_and_keeps_what_it_would_do() -> None:
    thresholds = [{"percent": 90, "do": "Downgrade", "tier": "fast"}]
    [terms] = compiled([route()], [budget(mode="Shadow", thresholds=thresholds)]).config_for({}).budgets
    assert (terms.shadow, terms.hard, terms.downgrades) == (True, False, (Downgrade(90, "fast"),))


def test_budget_of_a_missing_route_is_not_enforced() -> None:
    found = compiled([route()], [budget(applies={"routes": ["assistent"]})]).budgets["month"]
    (problem,) = found.problems
    assert (found.accepted, problem.reason, problem.about) == (True, "RouteNotFound", "Enforced")
    assert "namespace shop has no LLMRoute assistent" in problem.message


class Watched(dict[str, str]):
    """Labels that count how often one is looked up."""

    looked_up = 0

    def get(self, key: str, default: object = None) -> object:  # type: ignore[override]  # as dict's, for any default
        Watched.looked_up += 1
        return super().get(key, default)


def test_a_pods_routes_are_looked_for_once_however_often_its_sidecar_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("keelage_operator.core.compile.LABELS_MAX", 2)
    routes = [route(name, podSelector={"matchLabels": {"app": "web"}}) for name in "ab"]
    compiled = compile_namespace("shop", [RouteManifest.of(each) for each in routes], [], BOOK)
    Watched.looked_up = 0
    for _ in range(100):
        compiled.config_for(Watched(app="web"))
        compiled.routes_of(Watched(app="web"))
    assert Watched.looked_up == 2
    for number in range(100):
        compiled.config_for({"app": str(number)})
    assert len(compiled._by_labels) <= 2
