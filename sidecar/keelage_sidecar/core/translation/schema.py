"""A JSON schema for structured output: reduced to what Anthropic takes, and whether OpenAI can hold a model to it.

The rules of the first are those of the official SDK (`anthropic/lib/_parse/_transform.py`): objects are closed, and a
keyword that the API does not know goes into the description, where the model may still heed it.
"""

from __future__ import annotations

import orjson

_FORMATS = frozenset({"date-time", "time", "date", "duration", "email", "hostname", "uri", "ipv4", "ipv6", "uuid"})
_KEPT = ("type", "enum", "const", "description", "title")
_NEVER_STRICT = {"allOf", "oneOf", "not", "if", "dependentRequired", "dependentSchemas", "patternProperties"}
_NAMED = ("$defs", "definitions", "properties")
_DEPTH_MAX = 64


def closed_schema(schema: object, depth: int = 0) -> object:
    """The same schema in the reduced form; beyond a depth that no provider takes, as it is."""
    if not isinstance(schema, dict) or depth > _DEPTH_MAX:
        return schema
    rest = dict(schema)
    kept: dict[str, object] = {}
    for name in _NAMED:
        if isinstance(inner := rest.pop(name, None), dict):
            kept[name] = {each: closed_schema(value, depth + 1) for each, value in inner.items()}
    if "$ref" in rest:
        return {"$ref": rest["$ref"], **kept}
    kept.update((name, rest.pop(name)) for name in _KEPT if name in rest)
    for name, called in (("anyOf", "anyOf"), ("oneOf", "anyOf"), ("allOf", "allOf")):
        if called not in kept and isinstance(rest.get(name), list):
            kept[called] = [closed_schema(value, depth + 1) for value in rest.pop(name)]
    if "items" in rest:
        kept["items"] = closed_schema(rest.pop("items"), depth + 1)
    if schema.get("type") == "object" or "properties" in schema:
        kept["additionalProperties"] = False
        if not isinstance(rest.get("additionalProperties"), dict):
            rest.pop("additionalProperties", None)
        if "required" in rest:
            kept["required"] = rest.pop("required")
    if rest.get("format") in _FORMATS:
        kept["format"] = rest.pop("format")
    if rest.get("minItems") in (0, 1):
        kept["minItems"] = rest.pop("minItems")
    if rest:
        told = ", ".join(f"{name}: {orjson.dumps(value).decode()}" for name, value in rest.items())
        said = kept.get("description")
        kept["description"] = f"{said}\n\n{{{told}}}" if isinstance(said, str) else f"{{{told}}}"
    return kept


def is_strict(schema: object, depth: int = 0) -> bool:
    """Whether OpenAI takes it with `strict: true`: an object at the top, each closed, all properties required."""
    if depth > _DEPTH_MAX or not isinstance(schema, dict):
        return 0 < depth <= _DEPTH_MAX
    properties, required = schema.get("properties"), schema.get("required")
    is_object = schema.get("type") == "object" or isinstance(properties, dict)
    if is_object:
        named = list(properties) if isinstance(properties, dict) else []
        demanded = required if isinstance(required, list) else []
        if schema.get("additionalProperties") is not False or any(each not in demanded for each in named):
            return False
    inner = [schema.get("items")]
    for name in _NAMED:
        inner += each.values() if isinstance(each := schema.get(name), dict) else ()
    inner += each if isinstance(each := schema.get("anyOf"), list) else ()
    closed = all(is_strict(each, depth + 1) for each in inner)
    return closed and (is_object or depth > 0) and not schema.keys() & _NEVER_STRICT
