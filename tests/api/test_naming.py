"""What names something that is not there is told with its place and with what there is, all of it at once."""

from __future__ import annotations

from keelage_api.v1alpha1.llmroute import LLMRoute, LLMRouteSpec
from keelage_api.v1alpha1.manifest import Malformed, Parsed, parse

TIERS = [{"name": tier, "models": [{"backend": "anthropic", "model": "claude-haiku-4-5"}]} for tier in ("fast", "deep")]
SPEC: dict[str, object] = {
    "backends": [
        {"name": "anthropic", "provider": "Anthropic", "credentials": {"secretKeyRef": {"name": "keys", "key": "one"}}}
    ],
    "tiers": TIERS,
    "rules": [{"name": "all", "select": [{"tier": "deep"}]}],
}


def faults(**changed: object) -> tuple[str, ...]:
    raw = {
        "apiVersion": "keelage.dev/v1alpha1",
        "kind": "LLMRoute",
        "metadata": {"name": "assistant"},
        "spec": {**SPEC, **changed},
    }
    parsed = parse(LLMRoute, raw)
    return parsed.problems if isinstance(parsed, Malformed) else ()


def missing(field: str, name: str, known: str = "spec.tiers has fast, deep", item: str = "tier") -> str:
    return f'{field}: Not found: "{name}": {known}: correct the name or add the {item}'


def test_a_route_that_names_what_there_is_has_no_fault() -> None:
    assert faults() == ()


def test_each_unknown_name_is_told_with_its_item_its_value_and_what_there_is() -> None:
    asked = {"tier": "cheap", "answer": "SIMPLE", "otherwise": "dear"}
    rules = [
        {"name": "chat", "select": [{"when": {"classifier": asked}, "tier": "fast"}, {"tier": "depe"}]},
        {"name": "rest", "select": [{"tier": "deep"}], "answerWithin": {"p50": "1s", "otherwise": "slow"}},
    ]
    tiers = [*TIERS, {"name": "odd", "models": [{"backend": "anthropic"}, {"backend": "openai"}]}]
    known = "spec.tiers has fast, deep, odd"
    assert faults(rules=rules, tiers=tiers) == (
        missing("spec.tiers[odd].models[1].backend", "openai", "spec.backends has anthropic", "backend"),
        missing("spec.rules[chat].select[1].tier", "depe", known),
        missing("spec.rules[chat].select[0].when.classifier.tier", "cheap", known),
        missing("spec.rules[chat].select[0].when.classifier.otherwise", "dear", known),
        missing("spec.rules[rest].answerWithin.otherwise", "slow", known),
    )


def test_another_fault_of_the_manifest_hides_no_unknown_name() -> None:
    rules = [{"name": "all", "select": [{"tier": "depe"}], "retries": {}}, {"select": [{"tier": "odd"}, {"tier": 7}]}]
    assert faults(rules=rules) == (
        'unknown field "spec.rules[0].retries": correct its name or remove it',
        "spec.rules[1].name: Required value",
        "spec.rules[1].select[1].tier: Invalid value: 7: must be of type string: write it in quotes",
        missing("spec.rules[all].select[0].tier", "depe"),
        missing("spec.rules[1].select[0].tier", "odd"),
    )


def test_where_there_is_nothing_to_name_that_is_said() -> None:
    assert faults(tiers=[]) == (missing("spec.rules[all].select[0].tier", "deep", "spec.tiers has none"),)


def test_two_conditions_on_one_object_are_both_told() -> None:
    backend = {"name": "own", "provider": "OpenAICompatible", "tls": {"caCertificateRefs": [{"name": "ca"}]}}
    anthropic = {"name": "anthropic", "provider": "Anthropic", "endpoint": "http://llm/v1"}
    told = faults(backends=[backend, anthropic])
    assert [each.partition(":")[0] for each in told] == [
        "spec.backends[0].endpoint",
        "spec.backends[1].credentials",
        "spec.backends[1].endpoint",
    ]


def test_more_faults_than_people_read_are_counted() -> None:
    rules = [{"name": f"r{number}", "select": [{"tier": "none"}]} for number in range(13)]
    told = faults(rules=rules)
    assert len(told) == 11
    assert told[-1] == "3 more, told when these are mended"


def test_a_spec_by_itself_is_judged_alike() -> None:
    """As the last accepted one in a status is read."""
    assert isinstance(parse(LLMRouteSpec, SPEC), Parsed)
    bad = parse(LLMRouteSpec, {**SPEC, "rules": [{"name": "all", "select": [{"tier": "depe"}]}]})
    assert bad == Malformed((missing("rules[all].select[0].tier", "depe", "tiers has fast, deep"),))
