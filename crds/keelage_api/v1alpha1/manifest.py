"""A manifest, as it came from YAML or the API server, to a typed resource or to what is wrong with it.

The texts read like the API server's, so that `kubectl apply` and local mode say the same.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import msgspec
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from keelage_api.v1alpha1.constraint import UNMET
from keelage_api.v1alpha1.naming import unknown_names

M = TypeVar("M", bound=BaseModel)

PROBLEMS_MAX = 10
"""A text for people."""


@dataclass(frozen=True)
class Parsed(Generic[M]):
    value: M


@dataclass(frozen=True, slots=True)
class Malformed:
    problems: tuple[str, ...]
    """Each `<field>: <what is wrong and what to write>`; never empty."""

    @property
    def message(self) -> str:
        return "; ".join(self.problems)


def parse(model: type[M], raw: object, at: str = "") -> Parsed[M] | Malformed:
    """`raw`, a value made of what JSON knows, as that model.

    `at` is where it stands in its object, such as `spec`: it begins the name of each field.
    """
    problems: list[str] = []
    try:
        # Through JSON, since only there strict mode takes lists for tuples and strings for enumerations.
        value = model.model_validate_json(msgspec.json.encode(raw))
    except ValidationError as error:
        details = error.errors(include_url=False)
        problems += (text for detail in details if not _follows(detail, details) for text in _texts(detail, at))
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        return Malformed((f"{at or 'manifest'}: cannot be written as JSON: {error}",))
    problems += unknown_names(model, raw, at)
    if not problems:
        return Parsed(value)
    told = tuple(dict.fromkeys(problems))
    rest = len(told) - PROBLEMS_MAX
    return Malformed(told if rest <= 0 else (*told[:PROBLEMS_MAX], f"{rest} more, told when these are mended"))


def _follows(detail: ErrorDetails, others: Sequence[ErrorDetails]) -> bool:
    """Whether a list is too short only for pydantic, which does not count items that are bad themselves."""
    at = detail["loc"]
    return detail["type"] == "too_short" and any(
        len(other["loc"]) > len(at) and other["loc"][: len(at)] == at for other in others
    )


def dump(value: BaseModel) -> dict[str, object]:
    """The same as a manifest, with every default written out."""
    dumped = value.model_dump(mode="json", by_alias=True, exclude_none=True)
    return dict(dumped)


def _field(at: str, location: tuple[int | str, ...]) -> str:
    path = at
    for step in location:
        path += f"[{step}]" if isinstance(step, int) else f".{step}" if path else step
    return path or "manifest"


def _shown(value: object) -> str:
    """A short form of what was written."""
    if isinstance(value, Mapping):
        return "an object"
    if isinstance(value, list | tuple):
        return "a list"
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 80 else text[:77] + '..."'


def _texts(detail: ErrorDetails, at: str) -> Iterator[str]:
    """One line per fault."""
    field = _field(at, detail["loc"])
    if detail["type"] != UNMET:
        yield _text(detail, field)
        return
    for blamed, text in detail["ctx"][UNMET]:
        # About the object as a whole: no field to name.
        yield f"{field}{blamed}: {text}" if at or detail["loc"] else text


def _text(detail: ErrorDetails, field: str) -> str:
    """Worded as the API server words it."""
    kind, given = detail["type"], detail["input"]
    context: Mapping[str, object] = detail.get("ctx", {})
    match kind:
        case "duplicate":
            return f"{field}: {context['text']}"
        case "missing":
            return f"{field}: Required value"
        case "extra_forbidden":
            return f'unknown field "{field}": correct its name or remove it'
        case "enum":
            allowed = ", ".join(f'"{name}"' for name in re.findall(r"'([^']*)'", str(context["expected"])))
            return f"{field}: Unsupported value: {_shown(given)}: supported values: {allowed}"
        case "too_long":
            plural = "" if context["max_length"] == 1 else "s"
            return (
                f"{field}: Too many: {context['actual_length']}: must have at most {context['max_length']} item{plural}"
            )
        case "too_short":
            return f"{field}: Invalid value: should have at least {context['min_length']} items"
        case "string_too_long":
            return f"{field}: Too long: may not be more than {context['max_length']} bytes"
        case "string_too_short":
            return f"{field}: Invalid value: {_shown(given)}: should be at least {context['min_length']} chars long"
        case "greater_than_equal":
            return f"{field}: Invalid value: {_shown(given)}: should be greater than or equal to {context['ge']}"
        case "less_than_equal":
            return f"{field}: Invalid value: {_shown(given)}: should be less than or equal to {context['le']}"
        case "string_type":
            quotes = "" if isinstance(given, Mapping | list) else ": write it in quotes"
            return f"{field}: Invalid value: {_shown(given)}: must be of type string{quotes}"
        case "int_type" | "int_from_float":
            return f"{field}: Invalid value: {_shown(given)}: must be of type integer"
        case "bool_type":
            return f"{field}: Invalid value: {_shown(given)}: must be of type boolean: write true or false"
        case "tuple_type" | "list_type":
            return f"{field}: Invalid value: {_shown(given)}: must be of type array"
        case "model_type" | "dict_type" | "model_attributes_type":
            return f"{field}: Invalid value: {_shown(given)}: must be of type object"
        case _:
            return f"{field}: Invalid value: {_shown(given)}: {detail['msg']}"
