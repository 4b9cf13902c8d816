"""What `kubectl get llmroute` shows."""

from __future__ import annotations

from msgspec.structs import replace

from keelage_api.sync import Resting, SavedBy
from keelage_api.v1alpha1.llmroute import LLMRouteSpec, LLMRouteStatus
from keelage_api.v1alpha1.manifest import Parsed, dump, parse
from keelage_operator.core.accept import AcceptedRoute, accept_route
from keelage_operator.core.compile import CompiledRoute
from keelage_operator.core.problem import Problem
from keelage_operator.core.route_status import SelectedPod, route_status
from keelage_operator.core.savings import Sum
from keelage_operator.core.speakers import Speaker

NOW = "2026-11-21T00:00:00Z"
SPEC = parse(
    LLMRouteSpec,
    {
        "backends": [
            {
                "name": "anthropic",
                "provider": "Anthropic",
                "credentials": {"secretKeyRef": {"name": "llm-keys", "key": "anthropic"}},
                "tls": {"caCertificateRefs": [{"name": "corp-ca"}]},
            }
        ],
        "tiers": [{"name": "fast", "models": [{"backend": "anthropic"}]}],
        "rules": [{"name": "all", "select": [{"tier": "fast"}]}],
    },
)


def route(*problems: Problem, in_force: bool = True) -> CompiledRoute:
    assert isinstance(SPEC, Parsed)
    accepted = accept_route("shop", "assistant", SPEC.value, {})
    assert isinstance(accepted, AcceptedRoute)
    refused = any(problem.refuses for problem in problems)
    return CompiledRoute(
        "assistant", "uid", 4, "2026-11-21T12:00:00Z", not refused, problems, accepted if in_force else None
    )


def pod(name: str, version: str = "v2", error: str = "", missing: tuple[str, ...] = ()) -> SelectedPod:
    return SelectedPod(name, "v2", Speaker(f"uid-{name}", name, "shop", version, error, missing, 0.0))


def caching_route() -> CompiledRoute:
    assert isinstance(SPEC, Parsed)
    rule = {"name": "all", "select": [{"tier": "fast"}], "promptCache": {}}
    spec = parse(LLMRouteSpec, {**dump(SPEC.value), "rules": [rule]})
    assert isinstance(spec, Parsed)
    accepted = accept_route("shop", "assistant", spec.value, {})
    assert isinstance(accepted, AcceptedRoute)
    return CompiledRoute("assistant", "uid", 4, NOW, True, (), accepted)


def resting(name: str, *words: Resting) -> SelectedPod:
    return SelectedPod(name, "v2", Speaker(f"uid-{name}", name, "shop", "v2", "", (), 0.0, words))


def test_where_prompt_caches_do_not_pay_is_told() -> None:
    haiku = Resting("assistant", "all", "claude-haiku-4-5")
    pods = [
        resting("a", haiku),
        resting("b", haiku, replace(haiku, route="other"), replace(haiku, rule="gone")),
        pod("c"),
    ]
    assert conditions(route_status(LLMRouteStatus(), caching_route(), pods, NOW))["PromptCaching"] == (
        "False",
        "WritesNotRepaid",
        "no breakpoints are inserted for now, since too little of what was written was read again: rule all, model"
        " claude-haiku-4-5: 2/3 sidecars: it is tried again by itself; let prompts begin alike, or take promptCache out"
        " of the rule",
    )
    assert conditions(route_status(LLMRouteStatus(), caching_route(), [pod("c")], NOW))["PromptCaching"][:2] == (
        "True",
        "Inserting",
    )


def test_many_prompt_caches_that_rest_are_counted() -> None:
    words = [Resting("assistant", "all", f"m{number}") for number in range(5)]
    found = conditions(route_status(LLMRouteStatus(), caching_route(), [resting("a", *words)], NOW))
    assert "model m2: 1/1 sidecars and 2 more: " in found["PromptCaching"][2]


def test_what_was_saved_is_told_in_one_sum_too() -> None:
    saved = {SavedBy.CASCADE: Sum(2 * 10**12, 10, 8), SavedBy.PROMPT_CACHE: Sum(-(10**12) // 2, 10, 1)}
    assert route_status(LLMRouteStatus(), route(), [pod("a")], NOW, saved=saved)["saved"] == "1.50 USD"


def conditions(status: dict[str, object]) -> dict[str, tuple[str, str, str]]:
    parsed = parse(LLMRouteStatus, status)
    assert isinstance(parsed, Parsed)
    return {each.type: (each.status, each.reason, each.message) for each in parsed.value.conditions}


def test_route_that_all_sidecars_obey() -> None:
    assert isinstance(SPEC, Parsed)
    status = route_status(LLMRouteStatus(), route(), [pod("a"), pod("b")], NOW)
    assert conditions(status) == {
        "Accepted": ("True", "Accepted", "the spec is in force"),
        "ResolvedRefs": ("True", "ResolvedRefs", "prices are known and no sidecar misses a key or an authority"),
        "Programmed": ("True", "Programmed", "2/2 sidecars obey the newest configuration"),
    }
    del status["conditions"]
    assert status == {
        "observedGeneration": 4,
        "sidecars": "2/2",
        "rules": 1,
        "backends": 1,
        "lastAccepted": dump(SPEC.value),
    }


def test_second_run_changes_nothing() -> None:
    status = route_status(LLMRouteStatus(), route(), [pod("a", "v1")], NOW)
    old = parse(LLMRouteStatus, status)
    assert isinstance(old, Parsed)
    assert route_status(old.value, route(), [pod("a", "v1")], "2027-01-01T00:00:00Z") == status


def test_refused_spec_says_what_stays_in_force() -> None:
    problem = Problem("Invalid", "spec.rules: Required value")
    kept = conditions(route_status(LLMRouteStatus(), route(problem), [], NOW))
    assert kept["Accepted"] == (
        "False",
        "Invalid",
        "spec.rules: Required value; the last accepted spec stays in force",
    )
    none = conditions(route_status(LLMRouteStatus(), route(problem, in_force=False), [], NOW))
    assert none["Accepted"] == ("False", "Invalid", "spec.rules: Required value; nothing is in force")
    assert none["ResolvedRefs"][:2] == ("Unknown", "NotAccepted")
    assert none["Programmed"][:2] == ("False", "NotAccepted")


def test_overlap_is_told_and_accepted() -> None:
    found = conditions(
        route_status(LLMRouteStatus(), route(Problem("OverlappingRoute", "text", refuses=False)), [], NOW)
    )
    assert found["Accepted"] == ("True", "OverlappingRoute", "text")


def test_unknown_price_and_missing_secret_are_unresolved() -> None:
    price = Problem("PriceUnknown", "model m has no price", about="ResolvedRefs", refuses=False)
    unpriced = conditions(route_status(LLMRouteStatus(), route(price), [pod("a")], NOW))
    assert unpriced["ResolvedRefs"] == ("False", "PriceUnknown", "model m has no price")
    pods = [pod("a", missing=("llm-keys/anthropic", "of-another-route/key"))]
    both = conditions(route_status(LLMRouteStatus(), route(price), pods, NOW))
    assert both["ResolvedRefs"] == (
        "False",
        "SecretMissing",
        "Secret llm-keys or its key anthropic is not there for a: create it in the route's namespace; a pod injected"
        " before the route named it must be restarted; model m has no price",
    )


def test_a_missing_authority_is_unresolved() -> None:
    found = conditions(route_status(LLMRouteStatus(), route(), [pod("a", missing=("ConfigMap/corp-ca/ca.crt",))], NOW))
    assert found["ResolvedRefs"] == (
        "False",
        "ConfigMapMissing",
        "ConfigMap corp-ca or its key ca.crt is not there for a: create it in the route's namespace; a pod injected"
        " before the route named it must be restarted",
    )


def test_a_missing_secret_names_the_pods_that_lack_it() -> None:
    lacking = [pod(name, missing=("llm-keys/anthropic",)) for name in ("old-a", "old-b")]
    few = conditions(route_status(LLMRouteStatus(), route(), [pod("new"), *lacking], NOW))
    assert "is not there for old-a, old-b: " in few["ResolvedRefs"][2]
    many = conditions(route_status(LLMRouteStatus(), route(), lacking * 2, NOW))
    assert "is not there for 4 pods: " in many["ResolvedRefs"][2]


def test_route_without_pods_says_how_to_get_some() -> None:
    found = conditions(route_status(LLMRouteStatus(), route(), [], NOW))
    assert found["Programmed"][:2] == ("False", "NoPods")
    assert "keelage.dev/inject=true" in found["Programmed"][2]


def test_sidecars_that_wait_are_named() -> None:
    pods = [pod("a"), pod("b", "v1"), SelectedPod("c", "v2", None)]
    status = route_status(LLMRouteStatus(), route(), pods, NOW)
    assert status["sidecars"] == "1/3"
    assert conditions(status)["Programmed"] == (
        "False",
        "Pending",
        "1/3 sidecars obey the newest configuration; waiting for b, c",
    )
    many = [pod(f"p{number}", "v1") for number in range(9)]
    assert conditions(route_status(LLMRouteStatus(), route(), many, NOW))["Programmed"][2].endswith(
        "waiting for 9 pods"
    )


def test_sidecar_that_refuses_the_configuration_says_why() -> None:
    found = conditions(route_status(LLMRouteStatus(), route(), [pod("a"), pod("b", "v1", "format 2 is newer")], NOW))
    assert found["Programmed"] == (
        "False",
        "ConfigRefused",
        "1/2 sidecars obey the newest configuration; pod b: format 2 is newer",
    )
