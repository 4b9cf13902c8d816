"""Answers are judged by schemas as JSON Schema says; what is not known is refused."""

from __future__ import annotations

import pytest

from keelage_api.json_schema import conforms, schema_fault

PERSON = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "required": ["name"],
    "additionalProperties": False,
    "properties": {
        "name": {"type": "string", "minLength": 1, "maxLength": 5, "description": "of the person"},
        "age": {"type": ["integer", "null"], "minimum": 0, "exclusiveMaximum": 150},
        "tags": {"type": "array", "items": {"enum": ["a", 1]}, "maxItems": 2},
        "kind": {"anyOf": [{"const": "x"}, {"type": "boolean"}]},
        "more": {"additionalProperties": {"type": "number"}},
    },
}


@pytest.mark.parametrize(
    "value",
    [
        {"name": "ada"},
        {"name": "ada", "age": 36, "tags": ["a", 1], "kind": "x", "more": {"x": 1.5}},
        {"name": "ada", "age": None, "kind": False, "tags": []},
        {"name": "ada", "age": 36.0},
    ],
)
def test_what_the_schema_says_conforms(value: object) -> None:
    assert schema_fault(PERSON) == ""
    assert conforms(value, PERSON)


@pytest.mark.parametrize(
    "value",
    [
        [],
        None,
        {},
        {"name": ""},
        {"name": "adaada"},
        {"name": 1},
        {"name": "ada", "age": -1},
        {"name": "ada", "age": 150},
        {"name": "ada", "age": 1.5},
        {"name": "ada", "age": True},
        {"name": "ada", "tags": ["b"]},
        {"name": "ada", "tags": [True]},
        {"name": "ada", "tags": ["a", "a", "a"]},
        {"name": "ada", "kind": "y"},
        {"name": "ada", "more": {"x": "1"}},
        {"name": "ada", "other": 1},
    ],
)
def test_anything_else_does_not(value: object) -> None:
    assert not conforms(value, PERSON)


@pytest.mark.parametrize(
    ("schema", "fault"),
    [
        ([], "the schema: must be an object"),
        ({"type": "text"}, "type: must be of object, array"),
        ({"pattern": "a"}, "pattern: the keyword is not known here"),
        ({"properties": {"a": {"$ref": "#"}}}, "properties.a.$ref: the keyword is not known"),
        ({"properties": []}, "properties: must be an object"),
        ({"anyOf": [{"items": {"enum": 1}}]}, "anyOf[0].items.enum: must be a list"),
        ({"anyOf": []}, "anyOf: must be a list"),
        ({"required": ["a", 1]}, "required: must be a list of names"),
        ({"minimum": "1"}, "minimum: must be a number"),
        ({"additionalProperties": 1}, "additionalProperties: must be an object or a boolean"),
    ],
)
def test_what_is_no_schema_says_where(schema: object, fault: str) -> None:
    assert schema_fault(schema).startswith(fault)


def test_a_schema_is_no_deeper_than_the_stack() -> None:
    schema: object = True
    for _ in range(100):
        schema = {"items": schema}
    assert "nested more than" in schema_fault(schema)
