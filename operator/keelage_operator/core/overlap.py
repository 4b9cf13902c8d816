"""Which pods and calls selectors share, as far as their text proves it."""

from __future__ import annotations

from collections.abc import Sequence

from keelage_api.proxy_config import Match, Rule, ValueMatch
from keelage_api.v1alpha1.metadata import LabelSelector
from keelage_operator.core.terms import BudgetInForce

_EVERY = Match()


def catches_all(rule: Rule) -> bool:
    """Whether the rule takes every call."""
    return _takes(rule, _EVERY)


def takes_calls_of(earlier: Sequence[Rule], later: Rule) -> tuple[Rule, ...]:
    """Of the earlier rules those that take every call of the later one before it; none unless that is proven."""
    taking: dict[str, Rule] = {}
    for match in later.matches or (_EVERY,):
        shadow = next((rule for rule in earlier if _takes(rule, match)), None)
        if shadow is None:
            return ()
        taking[f"{shadow.route}/{shadow.name}"] = shadow
    return tuple(taking.values())


def _takes(rule: Rule, match: Match) -> bool:
    """True only if every call of the match is proven to be taken by the rule."""
    return not rule.shadow and any(
        (not outer.models or all(_fits(outer.models, each) for each in match.models or ("*",)))
        and _holds_all(outer.features, match.features)
        and _holds_all(outer.users, match.users)
        and all(any(_narrows(other, header) for other in match.headers) for header in outer.headers)
        and (outer.path is None or (match.path is not None and _below(match.path, outer.path)))
        for outer in rule.matches or (_EVERY,)
    )


def _narrows(inner: ValueMatch, outer: ValueMatch) -> bool:
    """Whether what has the header as `inner` asks has it as `outer` asks."""
    if inner.name != outer.name:
        return False
    return inner.value.startswith(outer.value) if outer.prefix else inner.value == outer.value and not inner.prefix


def _below(inner: ValueMatch, outer: ValueMatch) -> bool:
    one, other = inner.value.rstrip("/"), outer.value.rstrip("/")
    if outer.prefix:
        return one == other or one.startswith(f"{other}/")
    return one == other and not inner.prefix


def covers(outer: LabelSelector, inner: LabelSelector) -> bool:
    """True only if every pod that `inner` selects is proven to be selected by `outer`."""
    return outer.match_labels.items() <= inner.match_labels.items() and all(
        requirement in inner.match_expressions for requirement in outer.match_expressions
    )


def may_share_pods(one: LabelSelector, other: LabelSelector) -> bool:
    """False only if no pod can be selected by both: they ask for different values of one label."""
    return all(other.match_labels.get(key, value) == value for key, value in one.match_labels.items())


def covers_calls(outer: BudgetInForce, inner: BudgetInForce) -> bool:
    """True only if every call that counts by `inner` is proven to count by `outer`, too."""
    return (
        _holds_all(outer.routes, inner.routes)
        and _holds_all(outer.features, inner.features)
        and (not outer.models or (bool(inner.models) and all(_fits(outer.models, each) for each in inner.models)))
        and covers(outer.pod_selector, inner.pod_selector)
    )


def may_share_calls(one: BudgetInForce, other: BudgetInForce) -> bool:
    """False only if no call can count by both."""
    return (
        _may_meet(one.routes, other.routes)
        and _may_meet(one.features, other.features)
        and (
            not one.models
            or not other.models
            or any(_fits((left,), right) or _fits((right,), left) for left in one.models for right in other.models)
        )
        and may_share_pods(one.pod_selector, other.pod_selector)
    )


def fits_model(pattern: str, model: str) -> bool:
    """Whether the model is one of the pattern's; the pattern may end in `*`, and so may `model`, itself a pattern."""
    return model.startswith(pattern[:-1]) if pattern.endswith("*") else model == pattern


def _fits(patterns: Sequence[str], model: str) -> bool:
    return any(fits_model(pattern, model) for pattern in patterns)


def _holds_all(outer: Sequence[str], inner: Sequence[str]) -> bool:
    """Empty stands for everything."""
    return not outer or (bool(inner) and set(inner) <= set(outer))


def _may_meet(one: Sequence[str], other: Sequence[str]) -> bool:
    return not one or not other or not set(one).isdisjoint(other)
