"""JSON Schema as far as models' answers are judged by it; what is not known here is refused, never passed over.

Known are the keywords that providers' own structured outputs know: `type`, `enum`, `const`, `required`, `properties`,
`additionalProperties`, `items`, `anyOf`, and bounds of lengths and numbers. Pure.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

NESTING_MAX = 24
_ANNOTATIONS = frozenset(("title", "description", "default", "examples", "$schema", "$id", "$comment"))
_TYPES: Mapping[str, Callable[[object], bool]] = {
    "object": lambda value: isinstance(value, dict),
    "array": lambda value: isinstance(value, list),
    "string": lambda value: isinstance(value, str),
    "number": lambda value: isinstance(value, int | float) and not isinstance(value, bool),
    "integer": lambda value: (
        (isinstance(value, int) and not isinstance(value, bool)) or (isinstance(value, float) and value.is_integer())
    ),
    "boolean": lambda value: isinstance(value, bool),
    "null": lambda value: value is None,
}
_BOUNDS: Mapping[str, tuple[str, Callable[[float, float], bool]]] = {
    "minLength": ("string", lambda size, bound: size >= bound),
    "maxLength": ("string", lambda size, bound: size <= bound),
    "minItems": ("array", lambda size, bound: size >= bound),
    "maxItems": ("array", lambda size, bound: size <= bound),
    "minimum": ("number", lambda size, bound: size >= bound),
    "maximum": ("number", lambda size, bound: size <= bound),
    "exclusiveMinimum": ("number", lambda size, bound: size > bound),
    "exclusiveMaximum": ("number", lambda size, bound: size < bound),
}


def schema_fault(schema: object, path: str = "", depth: int = 0) -> str:
    """What is no schema that `conforms` knows, and where; empty: nothing."""
    where = path or "the schema"
    if isinstance(schema, bool):
        return ""
    if not isinstance(schema, Mapping):
        return f"{where}: must be an object or a boolean"
    if depth > NESTING_MAX:
        return f"{where}: schemas are nested more than {NESTING_MAX} deep"
    for keyword, value in schema.items():
        fault = _fault(keyword, value, f"{path}.{keyword}".removeprefix("."), depth)
        if fault:
            return fault
    return ""


def _fault(keyword: str, value: object, path: str, depth: int) -> str:
    match keyword:
        case "type":
            names = value if isinstance(value, list) else [value]
            wrong = [name for name in names if not isinstance(name, str) or name not in _TYPES]
            return f"{path}: must be of {', '.join(_TYPES)}" if wrong or not names else ""
        case "required":
            good = isinstance(value, list) and all(isinstance(name, str) for name in value)
            return "" if good else f"{path}: must be a list of names"
        case "enum":
            return "" if isinstance(value, list) else f"{path}: must be a list"
        case "properties":
            if not isinstance(value, Mapping):
                return f"{path}: must be an object"
            faults = (schema_fault(each, f"{path}.{name}", depth + 1) for name, each in value.items())
            return next(filter(None, faults), "")
        case "anyOf":
            if not isinstance(value, list) or not value:
                return f"{path}: must be a list of schemas"
            faults = (schema_fault(each, f"{path}[{index}]", depth + 1) for index, each in enumerate(value))
            return next(filter(None, faults), "")
        case "items" | "additionalProperties":
            return schema_fault(value, path, depth + 1)
    if keyword in _BOUNDS:
        return "" if _TYPES["number"](value) else f"{path}: must be a number"
    known = keyword == "const" or keyword in _ANNOTATIONS
    return "" if known else f"{path}: the keyword is not known here: leave it out"


def conforms(value: object, schema: object) -> bool:
    """Whether the value is as the schema, which has no fault, says."""
    if not isinstance(schema, Mapping):
        return bool(schema)
    return (
        _is_of(value, schema)
        and ("const" not in schema or _same(value, schema["const"]))
        and ("enum" not in schema or any(_same(value, each) for each in schema["enum"]))
        and ("anyOf" not in schema or any(conforms(value, each) for each in schema["anyOf"]))
        and (not isinstance(value, dict) or _members_conform(value, schema))
        and (not isinstance(value, list) or all(conforms(each, schema.get("items", True)) for each in value))
        and _within(value, schema)
    )


def _is_of(value: object, schema: Mapping[str, object]) -> bool:
    names = schema.get("type")
    if names is None:
        return True
    return any(_TYPES[str(name)](value) for name in (names if isinstance(names, list) else [names]))


def _members_conform(value: dict[str, object], schema: Mapping[str, object]) -> bool:
    required, properties = schema.get("required", ()), schema.get("properties", {})
    assert isinstance(required, list | tuple)
    assert isinstance(properties, Mapping)
    others = schema.get("additionalProperties", True)
    return all(name in value for name in required) and all(
        conforms(each, properties.get(name, others)) for name, each in value.items()
    )


def _within(value: object, schema: Mapping[str, object]) -> bool:
    for keyword, (kind, holds) in _BOUNDS.items():
        bound = schema.get(keyword)
        if isinstance(bound, int | float) and _TYPES[kind](value):
            size = value if isinstance(value, int | float) else len(value) if isinstance(value, str | list) else 0
            if not holds(size, bound):
                return False
    return True


def _same(one: object, other: object) -> bool:
    """Python takes true for 1."""
    return one == other and isinstance(one, bool) is isinstance(other, bool)
