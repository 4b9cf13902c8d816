"""Fields that name an item of another list of the same manifest, as a rule names a tier.

The API server's rules could say that such a name is unknown, but neither which one nor what there is instead: CEL that
looks for that in two bounded lists is estimated a hundred times over the limit. So it is told here, for the webhook,
`keelage check` and the conditions, of a manifest as it was written: also of one that has other faults.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from pydantic import BaseModel

M = TypeVar("M", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class Naming:
    """`field` holds the `name` of an item of `among`; both are paths from the model, with `[]` behind lists."""

    field: str
    among: str

    def below(self, field: str) -> Naming:
        """The same in a model that has this one in `field`."""
        return Naming(f"{field}.{self.field}", f"{field}.{self.among}")

    def faults(self, raw: object, at: str) -> Iterator[str]:
        """Each name that is unknown, in the words of the API server, with what there is. What is no text is passed
        over: its form is told."""
        known = [str(value) for _, value in _values(raw, f"{self.among}[].name".split("."), "")]
        for field, value in _values(raw, self.field.split("."), at):
            if isinstance(value, str) and value not in known:
                item = self.among.rpartition(".")[2].removesuffix("s")
                yield (
                    f"{field}: Not found: {json.dumps(value, ensure_ascii=False)}: {self.among} has"
                    f" {', '.join(known) or 'none'}: correct the name or add the {item}"
                )


def _values(node: object, steps: Sequence[str], at: str) -> Iterator[tuple[str, object]]:
    """Every value there, with its field: items by their names where they have one."""
    if not steps:
        yield at, node
        return
    name = steps[0].removesuffix("[]")
    child = node.get(name) if isinstance(node, Mapping) else None
    field = f"{at}.{name}" if at else name
    if not steps[0].endswith("[]"):
        if child is not None:
            yield from _values(child, steps[1:], field)
        return
    for index, item in enumerate(child if isinstance(child, list | tuple) else ()):
        named = item.get("name") if isinstance(item, Mapping) else None
        yield from _values(item, steps[1:], f"{field}[{named if isinstance(named, str) else index}]")


_OF_MODEL: dict[type[BaseModel], tuple[Naming, ...]] = {}


def naming(*fields: Naming) -> Callable[[type[M]], type[M]]:
    """Class decorator: every manifest that is parsed to the model must have what these fields name."""

    def attach(model: type[M]) -> type[M]:
        _OF_MODEL[model] = fields
        return model

    return attach


def unknown_names(model: type[BaseModel], raw: object, at: str) -> tuple[str, ...]:
    """What is wrong with the names in a manifest of the model; `at`: where it stands."""
    return tuple(fault for each in _OF_MODEL.get(model, ()) for fault in each.faults(raw, at))
