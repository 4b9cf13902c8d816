"""Whether a rule takes a call, and what of the call decides it. Pure."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from keelage_api.proxy_config import Match, Rule, ValueMatch
from keelage_sidecar.core.request import Facts

VALUE_KEPT = 257
"""Of a header's value or a path: a character more than a rule can name, so that none is taken for another."""

NAMED_MAX = 10
"""Models in an error's text."""

Told = tuple[bytes | str | None, ...]


class Asks(msgspec.Struct, frozen=True, gc=False):
    """What rules ask for beside model and feature. Calls that tell the same of it fall under the same rule."""

    user: bool
    headers: tuple[bytes, ...]
    path: bool

    @classmethod
    def of(cls, rules: Iterable[Rule]) -> Asks | None:
        """None: nothing."""
        matches = [match for rule in rules for match in rule.matches]
        user = any(match.users for match in matches)
        headers = tuple(dict.fromkeys(header.name.encode() for match in matches for header in match.headers))
        path = any(match.path is not None for match in matches)
        return cls(user, headers, path) if user or headers or path else None

    def told(self, facts: Facts) -> Told:
        """Of a value no more than rules can ask for."""
        told: list[bytes | str | None] = [facts.user] if self.user else []
        if self.headers:
            given = dict(facts.headers)
            told += [None if (value := given.get(name)) is None else value[:VALUE_KEPT] for name in self.headers]
        if self.path:
            told.append(facts.path[:VALUE_KEPT])
        return tuple(told)

    @property
    def text(self) -> str:
        """For whom no rule takes."""
        names = [f"header {name.decode()}" for name in self.headers] + ["the path"] * self.path
        return f" (rules also ask for {', '.join(names)})" if names else ""


def models_taken(rules: Iterable[Rule]) -> str:
    """Models that matches name, for a call that no rule takes; empty: none names any."""
    names = list(dict.fromkeys(model for rule in rules for match in rule.matches for model in match.models))
    if not names:
        return ""
    rest = f" and {len(names) - NAMED_MAX} more" if len(names) > NAMED_MAX else ""
    return f" (rules name the models {', '.join(names[:NAMED_MAX])}{rest})"


def takes(rule: Rule, facts: Facts) -> bool:
    """Whether any of its matches does, or it has none."""
    return not rule.matches or any(_matches(match, facts) for match in rule.matches)


def any_fits(patterns: tuple[str, ...], name: str) -> bool:
    """Whether it is one of them; a pattern may end in `*`."""
    return any(name.startswith(p[:-1]) if p.endswith("*") else name == p for p in patterns)


def _matches(match: Match, facts: Facts) -> bool:
    return (
        (not match.models or not facts.endpoint.has_model or any_fits(match.models, facts.model))
        and (not match.features or facts.feature in match.features)
        and (not match.users or facts.user in match.users)
        and (not match.headers or _has_all(match.headers, dict(facts.headers)))
        and (match.path is None or _is_at(match.path, facts.path))
    )


def _has_all(wanted: tuple[ValueMatch, ...], given: dict[bytes, bytes]) -> bool:
    """Each header with its value; of one that is there twice the last counts."""
    for header in wanted:
        value, expected = given.get(header.name.encode(), b""), header.value.encode()
        if not (value.startswith(expected) if header.prefix else value == expected):
            return False
    return True


def _is_at(wanted: ValueMatch, path: str) -> bool:
    whole, path = wanted.value.rstrip("/"), path.rstrip("/")
    return path == whole or (wanted.prefix and path.startswith(f"{whole}/"))
