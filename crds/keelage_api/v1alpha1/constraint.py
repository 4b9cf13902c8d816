"""Conditions on a manifest, each written twice side by side: in CEL for the API server, in Python for local mode.

The message is one text for both. A scalar carries its constraints in `Annotated`, a
model by the decorator `constrained`; `schema` writes them as `x-kubernetes-validations`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from pydantic import BaseModel, GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

T = TypeVar("T")
M = TypeVar("M", bound=BaseModel)

VALIDATIONS = "x-kubernetes-validations"
UNMET = "unmet"
"""Type of pydantic's error for constraints, and where its context has them: field and text of each."""


# Not slotted: a subscripted generic sets an attribute of its own on the instance, and only swallows AttributeError.
@dataclass(frozen=True)
class Constraint(Generic[T]):
    """What must hold for a value of the schema.

    `cel` sees the value as `self`, with the schema's defaults filled in; `holds` sees
    the parsed one. They agree on every manifest: tests give both the same files.
    """

    cel: str
    message: str
    """Names the field and the remedy."""
    holds: Callable[[T], bool]
    field: str = ""
    """The field to blame, as in CEL's `fieldPath`: `.endpoint`."""

    def check(self, value: T) -> T:
        """The value, or the error that pydantic reports at the value's place."""
        return check_all((self,), value)

    def as_schema(self) -> dict[str, str]:
        """One entry of `x-kubernetes-validations`."""
        entry = {"rule": self.cel, "message": self.message}
        if self.field:
            entry["fieldPath"] = self.field
        return entry

    def __get_pydantic_core_schema__(self, source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(self.check, handler(source))

    def __get_pydantic_json_schema__(self, core: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        schema = handler(core)
        schema.setdefault(VALIDATIONS, []).append(self.as_schema())
        return schema


def check_all(constraints: Iterable[Constraint[T]], value: T) -> T:
    """The value, or one error that names all of them that do not hold, since pydantic takes but one at a place."""
    unmet = [(each.field, each.message) for each in constraints if not each.holds(value)]
    if unmet:
        raise PydanticCustomError(UNMET, "{unmet}", {UNMET: unmet})
    return value


def pattern(expression: str, message: str) -> Constraint[str]:
    """A string that matches the whole of `expression`, which RE2 and Python must read alike.

    Not the schema's own `pattern`: its message would show the expression and no remedy.
    """
    compiled = re.compile(expression)
    # json.dumps: a CEL string literal has the escapes of a JSON one.
    return Constraint(
        cel=f"self.matches({json.dumps(f'^(?:{expression})$')})",
        message=message,
        holds=lambda text: compiled.fullmatch(text) is not None,
    )


_OF_MODEL: dict[type[BaseModel], tuple[Constraint[BaseModel], ...]] = {}


def constrained(*constraints: Constraint[M]) -> Callable[[type[M]], type[M]]:
    """Class decorator: every instance of the model must satisfy all of them."""

    def attach(model: type[M]) -> type[M]:
        _OF_MODEL[model] = constraints  # type: ignore[assignment] # each is only asked about its own model
        return model

    return attach


def constraints_of(model: type[BaseModel]) -> tuple[Constraint[BaseModel], ...]:
    return _OF_MODEL.get(model, ())


@dataclass(frozen=True, slots=True)
class ListMap:
    """A list whose items are told apart by a field: server-side apply merges it, doubles are refused."""

    key: str

    def check(self, items: Sequence[BaseModel]) -> Sequence[BaseModel]:
        seen: set[object] = set()
        for item in items:
            value = getattr(item, self.key)
            if value in seen:
                text = f'Duplicate value: {{"{self.key}":{json.dumps(value)}}}: give each item a {self.key} of its own'
                raise PydanticCustomError("duplicate", "{text}", {"text": text})
            seen.add(value)
        return items

    def __get_pydantic_core_schema__(self, source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(self.check, handler(source))

    def __get_pydantic_json_schema__(self, core: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return {**handler(core), "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": [self.key]}


@dataclass(frozen=True, slots=True)
class ListSet:
    """A list of scalars in which none may stand twice."""

    def check(self, items: Sequence[object]) -> Sequence[object]:
        for index, item in enumerate(items):
            if item in items[:index]:
                text = f"Duplicate value: {json.dumps(item)}: write each once"
                raise PydanticCustomError("duplicate", "{text}", {"text": text})
        return items

    def __get_pydantic_core_schema__(self, source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(self.check, handler(source))

    def __get_pydantic_json_schema__(self, core: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return {**handler(core), "x-kubernetes-list-type": "set"}
