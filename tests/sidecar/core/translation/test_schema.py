"""Schemas of one API in the form of the other."""

from __future__ import annotations

from tests.sidecar.core.calls import chat, claude
from tests.sidecar.core.translation.spoken import Json, body_of

from keelage_sidecar.core.translation.schema import closed_schema, is_strict


def test_a_schema_for_the_answer_is_closed_and_keeps_what_it_cannot_say_as_words() -> None:
    schema: Json = {
        "type": "object",
        "properties": {
            "n": {"type": "integer", "minimum": 1, "description": "Count"},
            "kind": {"oneOf": [{"const": "a"}, {"$ref": "#/$defs/K"}]},
            "all": {"type": "array", "items": {"type": "string", "format": "uuid"}, "minItems": 3},
        },
        "required": ["n"],
        "additionalProperties": True,
        "$defs": {"K": {"type": "string", "pattern": "x"}},
    }
    form = {"type": "json_schema", "json_schema": {"name": "x", "strict": True, "schema": schema}}
    assert body_of(chat(max_tokens=9, response_format=form), claude())["output_config"] == {
        "format": {
            "type": "json_schema",
            "schema": {
                "type": "object",
                "properties": {
                    "n": {"type": "integer", "description": "Count\n\n{minimum: 1}"},
                    "kind": {"anyOf": [{"const": "a"}, {"$ref": "#/$defs/K"}]},
                    "all": {
                        "type": "array",
                        "items": {"type": "string", "format": "uuid"},
                        "description": "{minItems: 3}",
                    },
                },
                "required": ["n"],
                "additionalProperties": False,
                "$defs": {"K": {"type": "string", "description": '{pattern: "x"}'}},
            },
        }
    }


def test_of_a_schema_what_has_a_place_already_stays_as_words() -> None:
    schema: Json = {
        "anyOf": [{"type": "string"}],
        "oneOf": [{"minLength": 1}],
        "allOf": [{"pattern": "x"}],
    }
    assert closed_schema(schema) == {
        "anyOf": [{"type": "string"}],
        "allOf": [{"description": '{pattern: "x"}'}],
        "description": '{oneOf: [{"minLength":1}]}',
    }
    assert closed_schema({"type": "object", "additionalProperties": {"type": "string"}}) == {
        "type": "object",
        "additionalProperties": False,
        "description": '{additionalProperties: {"type":"string"}}',
    }


def test_a_schema_nested_beyond_all_measure_is_not_followed() -> None:
    schema: Json = {"type": "string"}
    for _ in range(5000):
        schema = {"anyOf": [schema]}
    assert not is_strict(schema)
    assert closed_schema(schema)
