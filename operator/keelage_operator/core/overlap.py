"""Which pods and calls selectors share, as far as their text proves it."""

from __future__ import annotations

from collections.abc import Sequence

from keelage_api.proxy_config import Rule
from keelage_api.v1alpha1.metadata import LabelSelector
from keelage_operator.core.terms import BudgetInForce


def catches_all(rule: Rule) -> bool:
    """Whether the rule takes every call."""
    if rule.shadow:
        return False
    return not rule.matches or any(
        not match.features and not match.users and (not match.models or "*" in match.models) for match in rule.matches
    )


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
