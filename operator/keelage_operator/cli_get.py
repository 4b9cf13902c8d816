"""`keelage get`: what `kubectl get` would print, of the objects that `keelage run` keeps."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

import yaml

from keelage_api.v1alpha1.metadata import GROUP
from keelage_api.v1alpha1.schema import RESOURCES, Resource, columns_of
from keelage_operator import local_mode
from keelage_operator.core.table import look_up, render

Object = Mapping[str, object]

_SERVED = tuple(resource for resource in RESOURCES if resource.categories)
"""Without the ledger, whose rows `keelage explain budget` tells."""
OUTPUTS = ("yaml", "json", "wide", "name")


def add_to(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("kinds", type=_asked, metavar="KIND", help="llmbudget, llmroute, both with a comma, or llm")
    parser.add_argument("names", nargs="*", metavar="NAME", help="default: all; KIND/NAME too")
    parser.add_argument("-o", "--output", choices=OUTPUTS, help="the whole objects, more columns, or names alone")
    parser.add_argument("-n", "--namespace", metavar="NS", help="of the manifests; default: whichever they are of")
    parser.add_argument("--state", metavar="DIR", help="as given to keelage run")
    parser.set_defaults(act=_get)


def _asked(text: str) -> tuple[tuple[Resource, ...], str]:
    """Kinds and name, as kubectl takes them: plural, singular, short or category, with the group or without it."""
    words, _, name = text.partition("/")
    kinds = []
    for word in words.lower().split(","):
        short = word.removesuffix(f".{GROUP}")
        named = [each for each in _SERVED if short in (each.plural, each.kind.lower(), each.short, *each.categories)]
        if not named:
            raise argparse.ArgumentTypeError(f"there is no kind {word!r}: write llmbudget, llmroute, or llm for both")
        kinds += named
    if name and len(kinds) > 1:
        raise argparse.ArgumentTypeError(f"{text!r} names an object of several kinds: write llmbudget/{name}")
    return tuple(dict.fromkeys(kinds)), name


def _get(arguments: argparse.Namespace) -> int:
    kinds, name = arguments.kinds
    names = [*([name] if name else []), *arguments.names]
    state = local_mode.state_dir(arguments.state)
    known = [
        each
        for _, each in sorted(local_mode.Objects.load(state).known.items())
        if arguments.namespace in (None, look_up(each, ".metadata.namespace"))
    ]
    found = [(kind, [each for each in known if each.get("kind") == kind.kind]) for kind in kinds]
    there = {_name(each) for _, objects in found for each in objects}
    missing = [each for each in names or [""] if each not in there and (each or not there)]
    for each in missing:
        print(f"keelage: {_absence(kinds, each, there, arguments.namespace, str(state))}", file=sys.stderr)
    if names:
        found = [(kind, [each for each in objects if _name(each) in names]) for kind, objects in found]
    text = _text([(kind, objects) for kind, objects in found if objects], arguments.output, len(names) == 1)
    if text:
        print(text)
    return 1 if missing else 0


def _name(each: Object) -> str:
    return str(look_up(each, ".metadata.name"))


def _absence(kinds: Sequence[Resource], name: str, there: set[str], namespace: str | None, state: str) -> str:
    wanted = " and no ".join(kind.kind for kind in kinds) + (f" {name}" if name else "")
    where = f"{state}, namespace {namespace}" if namespace else state
    if there:
        return f"no {wanted} in {where}: there is {', '.join(sorted(there))}"
    return f"no {wanted} in {where}: start `keelage run -f DIR` first, with the same --state"


def _text(found: Sequence[tuple[Resource, Sequence[Object]]], output: str | None, single: bool) -> str:
    objects = [each for _, some in found for each in some]
    if not objects:
        return ""
    # As kubectl: one object that was asked for by its name stands by itself.
    whole = objects[0] if single and len(objects) == 1 else {"apiVersion": "v1", "kind": "List", "items": objects}
    match output:
        case "json":
            return json.dumps(whole, indent=4, ensure_ascii=False)
        case "yaml":
            return yaml.safe_dump(whole, allow_unicode=True).rstrip()
        case "name":
            return "\n".join(f"{kind.kind.lower()}.{GROUP}/{_name(each)}" for kind, some in found for each in some)
        case _:
            prefix = len(found) > 1
            return "\n\n".join(_table(kind, some, output == "wide", prefix) for kind, some in found)


def _table(kind: Resource, objects: Sequence[Object], wide: bool, prefix: bool) -> str:
    columns = [column for column in columns_of(kind.kind) if column.priority == 0 or wide]
    before = f"{kind.kind.lower()}.{GROUP}/" if prefix else ""
    return render(columns, objects, datetime.now(UTC), before)
