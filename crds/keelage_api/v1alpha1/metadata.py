"""What all resources share: object metadata, conditions, label selectors, names and durations."""

from __future__ import annotations

import enum
import re
from collections.abc import Mapping
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, GetJsonSchemaHandler, StringConstraints, model_validator
from pydantic.alias_generators import to_camel
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from keelage_api.v1alpha1.constraint import VALIDATIONS, Constraint, check_all, constrained, constraints_of, pattern

GROUP = "keelage.dev"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"

MS_PER_UNIT = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000}
_DURATION_PART = re.compile(r"([0-9]{1,5})(ms|s|m|h)")


class Part(BaseModel):
    """A piece of a resource: camelCase outside, frozen, with no field that is not declared."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, alias_generator=to_camel, use_attribute_docstrings=True
    )

    @model_validator(mode="after")
    def _constraints_hold(self) -> Self:
        whole: BaseModel = self
        check_all(constraints_of(type(self)), whole)
        return self

    @classmethod
    def __get_pydantic_json_schema__(cls, core: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        schema = handler.resolve_ref_schema(handler(core))
        entries = [constraint.as_schema() for constraint in constraints_of(cls)]
        if entries:
            schema[VALIDATIONS] = entries
        return schema


class Observed(Part):
    """A piece of status: written by the operator, so an older reader ignores what it does not know."""

    model_config = ConfigDict(extra="ignore")


Shown = Annotated[str, StringConstraints(max_length=64)]
"""A figure as people read it."""

Int64 = Annotated[int, Field(json_schema_extra={"format": "int64"})]

Name = Annotated[
    str,
    StringConstraints(min_length=1, max_length=63),
    pattern(
        "[a-z0-9]([-a-z0-9]*[a-z0-9])?",
        "must be a name of lower-case letters, digits and '-' that begins and ends with a letter or digit",
    ),
]
"""A DNS label."""

ObjectName = Annotated[
    str,
    StringConstraints(min_length=1, max_length=253),
    pattern(
        "[a-z0-9]([-.a-z0-9]*[a-z0-9])?",
        "must be the name of an object: lower-case letters, digits, '-' and '.', as in shop-month",
    ),
]

ModelPattern = Annotated[
    str,
    StringConstraints(min_length=1, max_length=128),
    pattern(r"[^*\s]*[*]?", "must be a model's name, or the beginning of one with a single '*' at its end"),
]

ModelName = Annotated[
    str,
    StringConstraints(min_length=1, max_length=128),
    pattern(r"[^*\s]+", "must be a model's exact name, without '*' and blanks: a price and a call have one model"),
]

TimeZone = Annotated[
    str,
    StringConstraints(min_length=1, max_length=64),
    pattern(
        "[A-Za-z]([-+_A-Za-z0-9]*)(/[A-Za-z0-9][-+_A-Za-z0-9]*){0,2}",
        "must be the name of an IANA time zone, as in UTC or Europe/Berlin",
    ),
]

Word = Annotated[str, StringConstraints(min_length=1, max_length=128)]

Opaque = Annotated[
    dict[str, object],
    # Atomic: else the API server keeps in managedFields the name of every member with who wrote it, and an object of a
    # thousand rows is twice as large.
    Field(json_schema_extra={"x-kubernetes-preserve-unknown-fields": True, "x-kubernetes-map-type": "atomic"}),
]
"""An object that the schema does not look into."""


def duration_ms(text: str) -> int:
    """Milliseconds of a duration such as `1m30s`; ValueError for any other shape."""
    parts = _DURATION_PART.findall(text)
    if not parts or len(parts) > 4 or "".join(count + unit for count, unit in parts) != text:
        raise ValueError(f"{text!r} is not a duration: write a number and ms, s, m or h, as in 30s or 1m30s")
    return sum(int(count) * MS_PER_UNIT[unit] for count, unit in parts)


def _is_duration(text: str) -> bool:
    try:
        return duration_ms(text) >= 1
    except ValueError:
        return False


Duration = Annotated[
    str,
    StringConstraints(min_length=2, max_length=32),
    # The shape of Gateway API's durations (GEP-2257): no fraction, no sign, at most four parts.
    Constraint[str](
        cel="self.matches('^([0-9]{1,5}(ms|s|m|h)){1,4}$') && duration(self) >= duration('1ms')",
        message="must be a duration above zero: a number and ms, s, m or h, as in 500ms, 30s or 1m30s",
        holds=_is_duration,
    ),
]


class Operator(enum.StrEnum):
    IN = "In"
    NOT_IN = "NotIn"
    EXISTS = "Exists"
    DOES_NOT_EXIST = "DoesNotExist"


LabelKey = Annotated[str, StringConstraints(min_length=1, max_length=317)]
LabelValue = Annotated[str, StringConstraints(max_length=63)]


@constrained(
    Constraint["LabelRequirement"](
        cel="self.operator in ['In', 'NotIn'] ? size(self.values) > 0 : size(self.values) == 0",
        message="values must be given for operator In and NotIn, and left out for Exists and DoesNotExist",
        holds=lambda part: bool(part.values) == (part.operator in (Operator.IN, Operator.NOT_IN)),
        field=".values",
    )
)
class LabelRequirement(Part):
    """One expression over the labels of a pod."""

    key: LabelKey
    """The label."""
    operator: Operator
    """In and NotIn compare with `values`; Exists and DoesNotExist only look for the label."""
    values: Annotated[tuple[LabelValue, ...], Field(max_length=64)] = ()
    """What the label is compared with."""

    def matches(self, labels: Mapping[str, str]) -> bool:
        value = labels.get(self.key)
        match self.operator:
            case Operator.IN:
                return value in self.values
            case Operator.NOT_IN:
                return value not in self.values
            case Operator.EXISTS:
                return value is not None
            case Operator.DOES_NOT_EXIST:
                return value is None


class LabelSelector(Part):
    """Selects pods by their labels; empty: all injected pods of the namespace."""

    match_labels: Annotated[dict[LabelKey, LabelValue], Field(max_length=32)] = {}
    """Labels that the pod must have, with these values."""
    match_expressions: Annotated[tuple[LabelRequirement, ...], Field(max_length=32)] = ()
    """Expressions that must all hold."""

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Whether a pod with these labels is selected; an empty selector selects all."""
        return all(labels.get(key) == value for key, value in self.match_labels.items()) and all(
            requirement.matches(labels) for requirement in self.match_expressions
        )


class ConditionStatus(enum.StrEnum):
    TRUE = "True"
    FALSE = "False"
    UNKNOWN = "Unknown"


Timestamp = Annotated[str, StringConstraints(max_length=64), Field(json_schema_extra={"format": "date-time"})]


class Condition(Observed):
    """One condition, with the fields of metav1.Condition."""

    type: Annotated[str, StringConstraints(max_length=64)]
    """What the condition is about."""
    status: ConditionStatus
    """True, False or Unknown."""
    observed_generation: int = 0
    """The generation of the object that was looked at."""
    last_transition_time: Timestamp
    """When `status` last changed."""
    reason: Annotated[str, StringConstraints(max_length=128)]
    """A stable CamelCase word."""
    message: Annotated[str, StringConstraints(max_length=2048)] = ""
    """For people: object, field, value, remedy."""


class ObjectMeta(Observed):
    """The part of an object's metadata that is read."""

    name: str = ""
    namespace: str = ""
    uid: str = ""
    generation: int = 0
    creation_timestamp: str = ""
