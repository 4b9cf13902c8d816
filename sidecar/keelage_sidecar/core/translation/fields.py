"""A JSON object of a request on its way into the other API: each of its fields is taken, dropped or refused.

Nothing is lost in silence: `finish` refuses what is left over.
"""

from __future__ import annotations

import re

_INDEX = re.compile(r"\[\d+\]")
_NAME_MAX = 64


class Untranslatable(ValueError):
    """The other API cannot say this. Raised and caught within `translation`."""

    def __init__(self, field: str, reason: str) -> None:
        super().__init__(field, reason)
        self.field = field
        self.reason = reason


class Losses:
    """What the other API has no word for and answers well enough without."""

    __slots__ = ("_names",)

    def __init__(self) -> None:
        self._names: dict[str, None] = {}

    def add(self, path: str) -> None:
        """Counted once per kind of place, whichever message it stood in."""
        self._names[_INDEX.sub("", path)] = None

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self._names)


class Fields:
    """One object; a field that is null counts as absent, as in both APIs."""

    __slots__ = ("_left", "losses", "path")

    def __init__(self, value: object, path: str, losses: Losses) -> None:
        if not isinstance(value, dict):
            raise Untranslatable(path, "an object is needed")
        self._left = {name: each for name, each in value.items() if each is not None}
        self.losses = losses
        self.path = path

    def at(self, name: str) -> str:
        """The field's path in the request."""
        return f"{self.path}.{name}" if self.path else name

    def take(self, name: str) -> object:
        """The value; None where it is absent."""
        return self._left.pop(name, None)

    def text(self, name: str) -> str:
        """A string; empty where it is absent."""
        value = self._left.pop(name, "")
        if not isinstance(value, str):
            raise Untranslatable(self.at(name), "a string is needed")
        return value

    def flag(self, name: str) -> bool:
        value = self._left.pop(name, False)
        if not isinstance(value, bool):
            raise Untranslatable(self.at(name), "true or false is needed")
        return value

    def whole(self, name: str) -> int | None:
        value = self._left.pop(name, None)
        if value is not None and (isinstance(value, bool) or not isinstance(value, int)):
            raise Untranslatable(self.at(name), "a whole number is needed")
        return value

    def number(self, name: str) -> float | None:
        value = self._left.pop(name, None)
        if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
            raise Untranslatable(self.at(name), "a number is needed")
        return value

    def array(self, name: str) -> list[object]:
        """Empty where it is absent."""
        value = self._left.pop(name, [])
        if not isinstance(value, list):
            raise Untranslatable(self.at(name), "a list is needed")
        return value

    def objects(self, name: str) -> list[Fields]:
        """A list of objects, each with its path; empty where it is absent."""
        return [Fields(each, f"{self.at(name)}[{at}]", self.losses) for at, each in enumerate(self.array(name))]

    def inner(self, name: str) -> Fields | None:
        """The object in that field; None where it is absent."""
        value = self._left.pop(name, None)
        return None if value is None else Fields(value, self.at(name), self.losses)

    def drop(self, *names: str) -> None:
        """Leave them behind; those that were there are told in `x-keelage-dropped`."""
        for name in names:
            if self._left.pop(name, None) is not None:
                self.losses.add(self.at(name))

    def ignore(self, *names: str) -> None:
        """Leave behind what says nothing to the model."""
        for name in names:
            self._left.pop(name, None)

    def refuse(self, reason: str, *names: str) -> None:
        for name in names:
            if self._left.get(name) not in (None, [], {}, False):
                raise Untranslatable(self.at(name), reason)
            self._left.pop(name, None)

    def finish(self) -> None:
        """Refuse what nobody has asked for: whether the answer could do without it is not known."""
        for name in self._left:
            raise Untranslatable(self.at(name[:_NAME_MAX]), "it has no counterpart in the other API that is known here")
