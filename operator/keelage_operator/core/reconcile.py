"""What is to be written about one namespace, given all that is known of it. Pure.

A second run on the outcome of the first answers with nothing.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256

from keelage_api.v1alpha1.llmbudget import KIND as BUDGET_KIND
from keelage_api.v1alpha1.llmbudget import LLMBudgetStatus
from keelage_api.v1alpha1.llmroute import LLMRouteStatus
from keelage_api.v1alpha1.manifest import Parsed, parse
from keelage_api.v1alpha1.metadata import Condition, ConditionStatus
from keelage_operator.core.budget_status import budget_status, refuses
from keelage_operator.core.compile import CompiledNamespace
from keelage_operator.core.ledger_figures import LedgerFigures
from keelage_operator.core.route_status import SelectedPod, route_status
from keelage_operator.core.savings import NOTHING_SAVED, Sums
from keelage_operator.core.speakers import Speaker
from keelage_operator.core.threshold import Passing, message, passings

ROUTE_KIND = "LLMRoute"

MESSAGE_LENGTH_MAX = 1024
"""Of an Event, as the API server bounds it."""


class EventType(enum.StrEnum):
    NORMAL = "Normal"
    WARNING = "Warning"


@dataclass(frozen=True, slots=True)
class Target:
    """The object that an action is about."""

    kind: str
    namespace: str
    name: str
    uid: str


@dataclass(frozen=True, slots=True)
class StatusPatch:
    target: Target
    status: Mapping[str, object]
    """The whole of it."""
    turned: bool
    """A condition or the state differs, not only figures."""
    passings: tuple[Passing, ...] = ()
    """Thresholds that it tells of: to be counted when it is written."""


@dataclass(frozen=True, slots=True)
class EventPost:
    target: Target
    type: EventType
    reason: str
    message: str
    key: str
    """The same for the same occasion: an Event that was posted before a crash is not posted twice."""


Action = StatusPatch | EventPost


@dataclass(frozen=True, slots=True)
class SidecarPod:
    """An injected pod whose containers may run."""

    name: str
    uid: str
    labels: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Snapshot:
    compiled: CompiledNamespace
    routes: Mapping[str, Mapping[str, object]]
    """Whole objects by name: those that are to be looked at. All of them, or none."""
    budgets: Mapping[str, Mapping[str, object]]
    """The same; any of them."""
    pods: Sequence[SidecarPod]
    """Together with `routes`, as are `speakers` and `saved`."""
    speakers: Mapping[str, Speaker]
    """By pod uid; only those heard of lately."""
    figures: Mapping[str, LedgerFigures]
    """By budget name, without its namespace."""
    now: str
    """RFC 3339."""
    refused: frozenset[str] = frozenset()
    """Budgets, without namespace, that could not serve a call in this window under this limit."""
    crowded: frozenset[str] = frozenset()
    """Names of quotas that have more values than are kept."""
    saved: Mapping[str, Sums] = field(default_factory=dict)
    """By route."""


ANNOUNCED: Mapping[tuple[str, ConditionStatus], EventType] = {
    ("Accepted", ConditionStatus.FALSE): EventType.WARNING,
    ("Accepted", ConditionStatus.TRUE): EventType.NORMAL,
    ("ResolvedRefs", ConditionStatus.FALSE): EventType.WARNING,
    ("Reachable", ConditionStatus.FALSE): EventType.WARNING,
    ("Exhausted", ConditionStatus.TRUE): EventType.WARNING,
    ("Exhausted", ConditionStatus.FALSE): EventType.NORMAL,
}
"""Conditions whose turn is worth an Event. The others follow from pods coming and going."""

ANNOUNCED_AT_FIRST = frozenset(ANNOUNCED) - {("Exhausted", ConditionStatus.FALSE)}
"""A new budget is not exhausted: nothing to tell."""


def reconcile(snapshot: Snapshot) -> tuple[Action, ...]:
    """Events before the status that ends their occasion: a crash in between repeats, and forgets nothing."""
    actions: list[Action] = []
    wanted = [
        SelectedPod(pod.name, snapshot.compiled.config_for(pod.labels).version, snapshot.speakers.get(pod.uid))
        for pod in snapshot.pods
    ]
    obeyed = [{route.name for route in snapshot.compiled.routes_of(pod.labels)} for pod in snapshot.pods]
    for name, route in snapshot.compiled.routes.items() if snapshot.routes else ():
        raw = snapshot.routes[name]
        old = status_of_route(raw)
        pods = [selected for names, selected in zip(obeyed, wanted, strict=True) if name in names]
        target = Target(ROUTE_KIND, snapshot.compiled.namespace, name, route.uid)
        status = route_status(old, route, pods, snapshot.now, snapshot.crowded, snapshot.saved.get(name, NOTHING_SAVED))
        actions.extend(_written(target, raw, old.conditions, status))
    for name, raw in snapshot.budgets.items():
        budget = snapshot.compiled.budgets[name]
        old_budget = _old_budget(raw)
        found = snapshot.figures.get(name)
        terms = budget.in_force
        refusing = (
            found is not None and terms is not None and refuses(found, terms, old_budget, name in snapshot.refused)
        )
        status = budget_status(old_budget, budget, found, snapshot.now, refusing)
        target = Target(BUDGET_KIND, snapshot.compiled.namespace, name, budget.uid)
        news: tuple[Passing, ...] = ()
        if status.get("announced"):  # of most budgets nothing is, and to read a status is half of the work here
            new = _old_budget({"status": status})
            news = tuple(passings(old_budget, new, terms))
            actions.extend(_passed(target, news, new))
        actions.extend(_written(target, raw, old_budget.conditions, status, news))
    return tuple(actions)


def _passed(target: Target, news: Sequence[Passing], new: LLMBudgetStatus) -> tuple[EventPost, ...]:
    """An Event for each threshold that was passed; its key holds no figure that may be another after a crash."""
    told = {each.percent: each.told for each in new.announced}
    posts = []
    for each in news:
        if each.event:
            occasion = [target.uid, "Threshold", new.window.id, str(each.percent)]
            if told[each.percent] > each.more:
                occasion.append(str(told[each.percent]))  # not the first about this threshold
            key = sha256("\0".join(occasion).encode()).hexdigest()[:16]
            posts.append(EventPost(target, EventType.WARNING, "BudgetThreshold", message(each, new), key))
    return tuple(posts)


def _written(
    target: Target,
    raw: Mapping[str, object],
    old: Sequence[Condition],
    status: dict[str, object],
    news: tuple[Passing, ...] = (),
) -> tuple[Action, ...]:
    before = raw.get("status")
    if before == status:
        return ()
    new = _conditions(status)
    return (*_events(target, old, new), StatusPatch(target, status, _turned(before, status), news))


def _events(target: Target, old: Sequence[Condition], new: Sequence[Condition]) -> tuple[EventPost, ...]:
    before = {condition.type: condition for condition in old}
    posts = []
    for condition in new:
        occasion = (condition.type, condition.status)
        former = before.get(condition.type)
        if occasion not in ANNOUNCED or (former is None and occasion not in ANNOUNCED_AT_FIRST):
            continue
        if former is not None and (former.status, former.reason) == (condition.status, condition.reason):
            continue
        if former is not None and former.status is condition.status is not ConditionStatus.FALSE:
            continue  # still well, for another reason
        if former is not None and former.status is ConditionStatus.UNKNOWN and occasion not in ANNOUNCED_AT_FIRST:
            continue
        text = "\0".join((target.uid, *occasion, condition.reason, condition.message))
        posts.append(
            EventPost(
                target,
                ANNOUNCED[occasion],
                condition.reason,
                condition.message[:MESSAGE_LENGTH_MAX],
                sha256(text.encode()).hexdigest()[:16],
            )
        )
    return tuple(posts)


def _turned(before: object, status: Mapping[str, object]) -> bool:
    if not isinstance(before, Mapping):
        return True
    return any(before.get(field) != status.get(field) for field in ("state", "announced")) or _states(
        before
    ) != _states(status)


def _states(status: Mapping[str, object]) -> list[tuple[str, str, str]]:
    return [(each.type, each.status.value, each.reason) for each in _conditions(status)]


def _conditions(status: Mapping[str, object]) -> tuple[Condition, ...]:
    parsed = parse(LLMRouteStatus, {"conditions": status.get("conditions") or []})
    return parsed.value.conditions if isinstance(parsed, Parsed) else ()


def status_of_route(raw: Mapping[str, object]) -> LLMRouteStatus:
    """A status that cannot be read, written by another version, is as good as none."""
    parsed = parse(LLMRouteStatus, raw.get("status") or {})
    return parsed.value if isinstance(parsed, Parsed) else LLMRouteStatus()


def _old_budget(raw: Mapping[str, object]) -> LLMBudgetStatus:
    parsed = parse(LLMBudgetStatus, raw.get("status") or {})
    return parsed.value if isinstance(parsed, Parsed) else LLMBudgetStatus()
