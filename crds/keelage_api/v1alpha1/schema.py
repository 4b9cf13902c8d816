"""The resources' models to CustomResourceDefinitions: structural OpenAPI v3 schemas, printer columns, names.

`python -m keelage_api.v1alpha1.schema write|check` writes `crds/*.yaml`, or says which
differ from the models.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import yaml
from pydantic import BaseModel

from keelage_api.v1alpha1.llmbudget import LLMBudget
from keelage_api.v1alpha1.llmledger import LLMLedger
from keelage_api.v1alpha1.llmroute import LLMRoute
from keelage_api.v1alpha1.metadata import GROUP, VERSION

CRDS = Path(__file__).parents[2]
"""Of a checkout; an installed package has no CRDs to write."""

Schema = dict[str, object]

_DROPPED = {"title", "additionalProperties", "$defs"}
"""What a structural schema must not have, or does not need: unknown fields are pruned or refused by kubectl."""


@dataclass(frozen=True, slots=True)
class Column:
    """One entry of `additionalPrinterColumns`."""

    name: str
    json_path: str
    type: str = "string"
    priority: int = 0


@dataclass(frozen=True, slots=True)
class Resource:
    model: type[BaseModel]
    plural: str
    short: str
    columns: tuple[Column, ...]
    categories: tuple[str, ...] = ("llm",)
    subresources: tuple[str, ...] = ("status",)

    @property
    def kind(self) -> str:
        return self.model.__name__


AGE = Column("Age", ".metadata.creationTimestamp", "date")
"""Named outright: any column of one's own drops kubectl's default one."""

RESOURCES = (
    Resource(
        LLMRoute,
        "llmroutes",
        "llmr",
        (
            Column("Rules", ".status.rules", "integer"),
            Column("Backends", ".status.backends", "integer"),
            Column("Accepted", '.status.conditions[?(@.type=="Accepted")].status'),
            Column("Sidecars", ".status.sidecars"),
            Column("Saved", ".status.saved"),
            Column("Reason", '.status.conditions[?(@.type=="Accepted")].reason', priority=1),
            AGE,
        ),
    ),
    Resource(
        LLMBudget,
        "llmbudgets",
        "llmb",
        (
            Column("Limit", ".status.limit"),
            Column("Spent", ".status.spent"),
            Column("Leased", ".status.leased"),
            Column("Remaining", ".status.remaining"),
            Column("Used", ".status.used"),
            Column("Resets", ".status.resetsAt"),
            Column("State", ".status.state"),
            Column("Forecast", ".status.forecast", priority=1),
            Column("Burn", ".status.burnRate", priority=1),
            Column("Uncertain", ".status.uncertain", priority=1),
            Column("Forfeited", ".status.forfeited", priority=1),
            Column("Sidecars", ".status.sidecars.reporting", "integer", priority=1),
            AGE,
        ),
    ),
    Resource(
        LLMLedger,
        "llmledgers",
        "llml",
        (Column("Budget", ".budget"), Column("Window", ".window"), AGE),
        categories=(),
        subresources=(),
    ),
)


def columns_of(kind: str) -> tuple[Column, ...]:
    """What `kubectl get` prints besides the name."""
    return next(resource.columns for resource in RESOURCES if resource.kind == kind)


def schema_of(model: type[BaseModel]) -> Schema:
    """The structural schema of a resource: no references, no null, no titles."""
    raw = model.model_json_schema(by_alias=True)
    definitions = raw.get("$defs", {})
    schema = _structural(raw, definitions)
    properties = _object(schema["properties"])
    properties["apiVersion"] = {"type": "string"}
    properties["kind"] = {"type": "string"}
    # The API server knows metadata; only name and generateName may be constrained here.
    properties["metadata"] = {"type": "object"}
    if "status" in properties:
        properties["status"] = _without_defaults(_object(properties["status"]))
    schema["required"] = [name for name in _list(schema["required"]) if name == "spec"]
    if not schema["required"]:
        del schema["required"]
    return schema


def _object(value: object) -> Schema:
    assert isinstance(value, dict)
    return value


def _list(value: object) -> list[object]:
    assert isinstance(value, list)
    return value


def _structural(raw: Mapping[str, object], definitions: Mapping[str, Schema]) -> Schema:
    """One schema node with references put in their place; what stands beside a reference wins over its target."""
    if "$ref" in raw:
        target = definitions[str(raw["$ref"]).removeprefix("#/$defs/")]
        beside = {key: value for key, value in raw.items() if key != "$ref"}
        return _structural({**target, **beside}, definitions)
    if "anyOf" in raw:
        # Optional[X]: a field that is left out. null would be pruned.
        (chosen,) = (option for option in _list(raw["anyOf"]) if _object(option).get("type") != "null")
        beside = {key: value for key, value in raw.items() if key not in ("anyOf", "default")}
        return _structural({**_object(chosen), **beside}, definitions)
    schema: Schema = {}
    for key, value in raw.items():
        if key == "additionalProperties" and isinstance(value, dict) and value:
            schema[key] = _structural(value, definitions)
        elif key in _DROPPED:
            continue
        elif key == "properties":
            schema[key] = {name: _structural(_object(child), definitions) for name, child in _object(value).items()}
        elif key == "items":
            schema[key] = _structural(_object(value), definitions)
        elif key == "propertyNames":
            continue  # not in structural schemas; the API server bounds label keys where they are set
        elif key == "default" and isinstance(value, dict):
            schema[key] = _without_null(value)  # whole, not {}: rules are tried on it before its fields' defaults are
        elif key == "description":
            schema[key] = " ".join(str(value).split())
        else:
            schema[key] = value
    return schema


def _without_null(value: Mapping[str, object]) -> Schema:
    return {
        key: _without_null(child) if isinstance(child, dict) else child
        for key, child in value.items()
        if child is not None
    }


def _without_defaults(schema: Schema) -> Schema:
    """Status holds what was found: what is not known yet is left out, not zero."""
    cleaned: Schema = {}
    for key, value in schema.items():
        if key == "default":
            continue
        if key == "properties":
            cleaned[key] = {name: _without_defaults(_object(child)) for name, child in _object(value).items()}
        elif key == "items":
            cleaned[key] = _without_defaults(_object(value))
        else:
            cleaned[key] = value
    return cleaned


def definition(resource: Resource) -> Schema:
    """The CustomResourceDefinition, ready for YAML."""
    version: Schema = {
        "name": VERSION,
        "served": True,
        "storage": True,
        "additionalPrinterColumns": [
            {
                "name": column.name,
                "type": column.type,
                "jsonPath": column.json_path,
                **({"priority": column.priority} if column.priority else {}),
            }
            for column in resource.columns
        ],
        "schema": {"openAPIV3Schema": schema_of(resource.model)},
    }
    if resource.subresources:
        version["subresources"] = {name: {} for name in resource.subresources}
    names: Schema = {
        "kind": resource.kind,
        "listKind": f"{resource.kind}List",
        "plural": resource.plural,
        "singular": resource.kind.lower(),
        "shortNames": [resource.short],
    }
    if resource.categories:
        names["categories"] = list(resource.categories)
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{resource.plural}.{GROUP}"},
        "spec": {"group": GROUP, "names": names, "scope": "Namespaced", "versions": [version]},
    }


def text(resource: Resource) -> str:
    """The YAML file."""
    head = "# Generated from the models by `python -m keelage_api.v1alpha1.schema write`; edit those.\n"
    return head + yaml.dump(definition(resource), Dumper=_Plain, sort_keys=False, width=120, allow_unicode=True)


class _Plain(yaml.SafeDumper):
    """Writes what stands in two places twice: not every reader of YAML follows references."""

    def ignore_aliases(self, data: object) -> bool:
        return True


def path_of(resource: Resource) -> Path:
    return CRDS / f"{resource.kind.lower()}.yaml"


def main(arguments: list[str]) -> int:
    """Write the files, or name those that differ; the exit status."""
    if arguments not in (["write"], ["check"]):
        sys.stderr.write("usage: python -m keelage_api.v1alpha1.schema write|check\n")
        return 2
    stale = [
        resource
        for resource in RESOURCES
        if not path_of(resource).exists() or path_of(resource).read_text() != text(resource)
    ]
    for resource in stale:
        if arguments == ["write"]:
            path_of(resource).write_text(text(resource))
        else:
            sys.stderr.write(f"{path_of(resource).name} differs from the models: run the same command with `write`\n")
    return 1 if stale and arguments == ["check"] else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
