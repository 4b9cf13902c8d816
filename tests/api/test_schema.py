"""The CRDs are what the models say, and of the form that the API server takes."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import yaml

from keelage_api.v1alpha1.schema import RESOURCES, Resource, columns_of, main, path_of, schema_of, text

UNBOUNDED = ("lastAccepted", "record", "metadata")
"""Objects that the schema does not look into."""


def nodes(schema: object, path: str = "") -> Iterator[tuple[str, dict[str, object]]]:
    """Every schema node with its path."""
    assert isinstance(schema, dict)
    yield path, schema
    for name, child in (schema.get("properties") or {}).items():
        yield from nodes(child, f"{path}.{name}")
    for key in ("items", "additionalProperties"):
        if key in schema:
            yield from nodes(schema[key], f"{path}[]")


@pytest.mark.parametrize("resource", RESOURCES, ids=lambda resource: resource.kind)
def test_written_crd_is_what_the_models_say(resource: Resource) -> None:
    assert path_of(resource).read_text() == text(resource), "run: python -m keelage_api.v1alpha1.schema write"


@pytest.mark.parametrize("resource", RESOURCES, ids=lambda resource: resource.kind)
def test_every_node_is_structural(resource: Resource) -> None:
    for path, node in nodes(schema_of(resource.model)):
        assert "type" in node, path
        assert not node.keys() & {"$ref", "anyOf", "oneOf", "allOf", "title", "const"}, path
        assert node.get("default", 0) is not None, path


@pytest.mark.parametrize("resource", RESOURCES, ids=lambda resource: resource.kind)
def test_items_of_a_list_by_key_cannot_lack_the_key(resource: Resource) -> None:
    for path, node in nodes(schema_of(resource.model)):
        items = node.get("items")
        for key in node.get("x-kubernetes-list-map-keys") or ():  # type: ignore[attr-defined]
            assert isinstance(items, dict)
            assert key in (items.get("required") or ()) or "default" in items["properties"][key], f"{path}[].{key}"


@pytest.mark.parametrize("resource", RESOURCES, ids=lambda resource: resource.kind)
def test_everything_that_users_write_is_bounded(resource: Resource) -> None:
    for path, node in nodes(schema_of(resource.model)):
        if not path.startswith(".spec"):
            continue
        if node["type"] == "string" and "enum" not in node:
            assert "maxLength" in node, path
        if node["type"] == "array":
            assert "maxItems" in node, path
        if node["type"] == "integer":
            assert {"minimum", "maximum"} <= node.keys(), path
        if "additionalProperties" in node:
            assert "maxProperties" in node, path


@pytest.mark.parametrize("resource", RESOURCES, ids=lambda resource: resource.kind)
def test_every_field_of_spec_is_described(resource: Resource) -> None:
    for path, node in nodes(schema_of(resource.model)):
        if path.startswith(".spec") and not path.endswith("[]"):
            assert node.get("description"), path


@pytest.mark.parametrize("resource", RESOURCES, ids=lambda resource: resource.kind)
def test_status_has_no_defaults(resource: Resource) -> None:
    for path, node in nodes(schema_of(resource.model)):
        if path.startswith(".status"):
            assert "default" not in node, path


@pytest.mark.parametrize("resource", RESOURCES, ids=lambda resource: resource.kind)
def test_what_tells_the_items_of_a_list_apart_is_always_there(resource: Resource) -> None:
    for path, node in nodes(schema_of(resource.model)):
        items = node.get("items")
        for key in node.get("x-kubernetes-list-map-keys") or ():  # type: ignore[attr-defined]  # a list of names
            assert isinstance(items, dict)
            assert key in items.get("required", ()) or "default" in items["properties"][key], path


def test_columns_end_with_the_age() -> None:
    assert [column.name for column in columns_of("LLMBudget") if not column.priority] == [
        "Limit",
        "Spent",
        "Leased",
        "Remaining",
        "Used",
        "Resets",
        "State",
        "Age",
    ]
    for resource in RESOURCES:
        assert resource.columns[-1].name == "Age"


def test_files_are_valid_yaml_of_crds() -> None:
    for resource in RESOURCES:
        document = yaml.safe_load(path_of(resource).read_text())
        assert document["kind"] == "CustomResourceDefinition"
        assert document["metadata"]["name"] == f"{resource.plural}.keelage.dev"


def test_check_finds_nothing_to_write(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check"]) == 0
    assert main([]) == 2
    assert "usage" in capsys.readouterr().err
