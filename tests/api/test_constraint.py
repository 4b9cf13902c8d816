"""The same manifests are refused by the API server's rules and by Python, with the same words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from keelage_api.v1alpha1.llmbudget import LLMBudget
from keelage_api.v1alpha1.llmroute import LLMRoute
from keelage_api.v1alpha1.manifest import Malformed, Parsed, dump, parse
from keelage_api.v1alpha1.metadata import LabelSelector, duration_ms

MANIFESTS = Path(__file__).parents[1] / "cluster" / "manifests"
ROOT = Path(__file__).parents[2]
EXAMPLES = (*(ROOT / "examples").glob("*.yaml"), *(ROOT / "docs" / "examples").glob("*.yaml"))
BAD = sorted((MANIFESTS / "bad").glob("*.yaml"))
GOOD = sorted((*(MANIFESTS / "good").glob("*.yaml"), *EXAMPLES))

FULL: object = next(yaml.safe_load_all((MANIFESTS / "good" / "full.yaml").read_text()))

MODELS: dict[str, type[BaseModel]] = {"LLMRoute": LLMRoute, "LLMBudget": LLMBudget}


def refusal(raw: Mapping[str, object]) -> str:
    """What is wrong with a manifest; empty if nothing is."""
    parsed = parse(MODELS[str(raw["kind"])], raw)
    return parsed.message if isinstance(parsed, Malformed) else ""


@pytest.mark.parametrize("path", BAD, ids=lambda path: path.stem)
def test_bad_manifest_is_refused_with_the_words_of_the_api_server(path: Path) -> None:
    text = path.read_text()
    assert text.splitlines()[0].removeprefix("# expect:").strip() in refusal(yaml.safe_load(text))


@pytest.mark.parametrize("path", GOOD, ids=lambda path: path.stem)
def test_good_manifest_is_taken_and_survives_being_written_out(path: Path) -> None:
    for raw in yaml.safe_load_all(path.read_text()):
        if raw["kind"] == "Secret":
            continue
        assert refusal(raw) == ""
        model = MODELS[raw["kind"]]
        parsed = parse(model, raw)
        assert isinstance(parsed, Parsed)
        again = parse(model, dump(parsed.value))
        assert again == parsed


def test_each_problem_is_named_with_its_field() -> None:
    raw = {
        "apiVersion": "keelage.dev/v1alpha1",
        "kind": "LLMBudget",
        "metadata": {"name": "shop"},
        "spec": {"limit": {"amount": 5, "currency": "EUR"}, "windows": {}},
    }
    assert parse(LLMBudget, raw) == Malformed(
        (
            "spec.limit.amount: Invalid value: 5: must be of type string: write it in quotes",
            'spec.limit.currency: Unsupported value: "EUR": supported values: "USD"',
            'unknown field "spec.windows": correct its name or remove it',
        )
    )


def places(raw: object) -> Iterator[tuple[str | int, ...]]:
    """The way to the whole and to each part of it."""
    yield ()
    if isinstance(raw, dict):
        yield from ((key, *rest) for key, part in raw.items() for rest in places(part))
    elif isinstance(raw, list):
        yield from ((at, *rest) for at, part in enumerate(raw) for rest in places(part))


def put(raw: object, place: tuple[str | int, ...], value: object) -> object:
    """The whole with another value in that place."""
    if not place:
        return value
    if isinstance(raw, dict):
        return {key: put(part, place[1:], value) if key == place[0] else part for key, part in raw.items()}
    assert isinstance(raw, list)
    return [put(part, place[1:], value) if at == place[0] else part for at, part in enumerate(raw)]


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=20), inner, max_size=3),
    max_leaves=5,
)


@given(ANYTHING)
def test_any_value_says_what_is_wrong(raw: object) -> None:
    parsed = parse(LLMRoute, raw)
    assert isinstance(parsed, Malformed)
    assert parsed.problems


@given(st.sampled_from(list(places(FULL))), ANYTHING)
def test_any_value_in_any_place_of_a_route_parses_or_says_what_is_wrong(
    place: tuple[str | int, ...], value: object
) -> None:
    parsed = parse(LLMRoute, put(FULL, place, value))
    assert isinstance(parsed, Parsed) or parsed.problems


@pytest.mark.parametrize(
    ("text", "ms"), [("500ms", 500), ("30s", 30_000), ("1m30s", 90_000), ("1h", 3_600_000), ("10m", 600_000)]
)
def test_durations_are_milliseconds(text: str, ms: int) -> None:
    assert duration_ms(text) == ms


@pytest.mark.parametrize("text", ["", "5", "s", "-1s", "1.5s", "1s 2s", "1d", "123456s", "1s1s1s1s1s"])
def test_other_shapes_are_no_durations(text: str) -> None:
    with pytest.raises(ValueError, match="is not a duration"):
        duration_ms(text)


@pytest.mark.parametrize(
    ("selector", "labels", "selected"),
    [
        ({}, {}, True),
        ({}, {"app": "a"}, True),
        ({"matchLabels": {"app": "a"}}, {"app": "a", "x": "y"}, True),
        ({"matchLabels": {"app": "a"}}, {"app": "b"}, False),
        ({"matchLabels": {"app": ""}}, {}, False),
        ({"matchExpressions": [{"key": "app", "operator": "In", "values": ["a", "b"]}]}, {"app": "b"}, True),
        ({"matchExpressions": [{"key": "app", "operator": "In", "values": ["a"]}]}, {}, False),
        ({"matchExpressions": [{"key": "app", "operator": "NotIn", "values": ["a"]}]}, {}, True),
        ({"matchExpressions": [{"key": "app", "operator": "NotIn", "values": ["a"]}]}, {"app": "a"}, False),
        ({"matchExpressions": [{"key": "app", "operator": "Exists"}]}, {"app": ""}, True),
        ({"matchExpressions": [{"key": "app", "operator": "Exists"}]}, {}, False),
        ({"matchExpressions": [{"key": "app", "operator": "DoesNotExist"}]}, {"app": "a"}, False),
        ({"matchLabels": {"a": "b"}, "matchExpressions": [{"key": "c", "operator": "Exists"}]}, {"a": "b"}, False),
    ],
)
def test_selectors_select_as_in_kubernetes(selector: object, labels: dict[str, str], selected: bool) -> None:
    parsed = parse(LabelSelector, selector)
    assert isinstance(parsed, Parsed)
    assert parsed.value.matches(labels) is selected
