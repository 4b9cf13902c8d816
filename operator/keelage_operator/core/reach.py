"""Rules that no call can reach, as those before them take all of their calls. Pure.

Only what the texts of the matches prove is told.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from keelage_operator.core.accept import AcceptedRoute
from keelage_operator.core.overlap import catches_all, covers, takes_calls_of
from keelage_operator.core.problem import Problem

OLDER_MAX = 100
"""Rules of older routes that each rule is compared with: a tenth of a second for hundreds of routes of the same pods,
at every change of a manifest."""


def unreachable(route: AcceptedRoute, earlier: Sequence[AcceptedRoute]) -> Iterator[Problem]:
    """What is wrong with the route's rules; `earlier`: the routes whose rules are asked before."""
    covering = [other for other in earlier if covers(other.spec.pod_selector, route.spec.pod_selector)]
    older = [rule for other in covering for rule in other.rules]
    taken = next((rule for rule in older if catches_all(rule)), None)
    if taken is not None:
        names = ", ".join(rule.name for rule in route.rules)
        yield Problem(
            "OverlappingRoute",
            f"rules {names} are never reached: rule {taken.name} of the older LLMRoute {taken.route} takes every"
            " call of the same pods: give that rule matches, or the routes different podSelectors",
            refuses=False,
        )
        return
    for index, rule in enumerate(route.rules):
        if catches_all(rule) and index + 1 < len(route.rules):
            names = ", ".join(later.name for later in route.rules[index + 1 :])
            yield Problem(
                "UnreachableRules",
                f"spec.rules: rules {names} are never reached: rule {rule.name} before them takes every call: move"
                " it to the end or give it matches",
                refuses=False,
            )
            return
        shadows = takes_calls_of((*older[:OLDER_MAX], *route.rules[:index]), rule)
        if shadows:
            named = " and ".join(
                f"rule {each.name}" + ("" if each.route == route.name else f" of the older LLMRoute {each.route}")
                for each in shadows
            )
            verb = "takes" if len(shadows) == 1 else "together take"
            yield Problem(
                "UnreachableRules",
                f"spec.rules[{rule.name}]: the rule is never reached: {named} {verb} all of its calls before it: move"
                " it before them, or let it match other calls",
                refuses=False,
            )
