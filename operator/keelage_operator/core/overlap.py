"""Which pods and calls selectors share, as far as their text proves it."""

from __future__ import annotations

from keelage_api.proxy_config import Rule
from keelage_api.v1alpha1.metadata import LabelSelector


def catches_all(rule: Rule) -> bool:
    """Whether the rule applies to every call."""
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
