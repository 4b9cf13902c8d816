"""The routes and budgets of one namespace to what its sidecars obey, and to what is wrong with them.

A spec that cannot be obeyed leaves the last accepted one in force. Everything here is
a function of the manifests and the price book: replicas that see the same objects
serve the same bytes.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from keelage_api.codec import seal
from keelage_api.mounted import MountedKey
from keelage_api.pricing import ModelPrice
from keelage_api.proxy_config import Backend, ModelChoice, Provider, ProxyConfig, Quota, Unit
from keelage_api.v1alpha1.llmbudget import LLMBudgetSpec
from keelage_api.v1alpha1.llmroute import LLMRouteSpec
from keelage_operator.core.accept import AcceptedBudget, AcceptedRoute, accept_budget, accept_route
from keelage_operator.core.contradiction import contradictions
from keelage_operator.core.downgrade import tier_problems
from keelage_operator.core.escalation import idle_escalations
from keelage_operator.core.manifests import BudgetManifest, RouteManifest
from keelage_operator.core.overlap import fits_model, may_share_pods
from keelage_operator.core.price_book import Book, price_of
from keelage_operator.core.problem import Problem
from keelage_operator.core.quotas import narrow
from keelage_operator.core.reach import unreachable
from keelage_operator.core.selections import unknown_budgets
from keelage_operator.core.terms import BudgetInForce

__all__ = [
    "BudgetManifest",
    "CompiledBudget",
    "CompiledNamespace",
    "CompiledRoute",
    "Problem",
    "RouteManifest",
    "combine",
    "compile_budget",
    "compile_namespace",
    "compile_route",
]


LABELS_MAX = 10_000
"""Sets of labels whose answer is kept: the pods of a StatefulSet have one each."""


@dataclass(frozen=True, slots=True)
class CompiledRoute:
    name: str
    uid: str
    generation: int
    created: str
    """As in its manifest."""
    accepted: bool
    """Whether the newest spec is in force."""
    problems: tuple[Problem, ...]
    route: AcceptedRoute | None
    """In force; None: nothing is, since no spec was ever accepted."""

    @property
    def spec(self) -> LLMRouteSpec | None:
        return None if self.route is None else self.route.spec

    def selects(self, labels: Mapping[str, str]) -> bool:
        """Whether the sidecar of a pod with these labels obeys the route."""
        return self.route is not None and self.route.spec.pod_selector.matches(labels)


@dataclass(frozen=True, slots=True)
class CompiledBudget:
    name: str
    uid: str
    generation: int
    accepted: bool
    """Whether the newest spec is in force."""
    problems: tuple[Problem, ...]
    spec: LLMBudgetSpec | None
    """In force."""
    in_force: BudgetInForce | None


@dataclass(frozen=True, slots=True)
class CompiledNamespace:
    namespace: str
    routes: dict[str, CompiledRoute]
    """By name, in the order in which their rules are asked."""
    budgets: dict[str, CompiledBudget]
    book: Book
    _configs: dict[tuple[tuple[str, ...], tuple[str, ...]], ProxyConfig] = field(default_factory=dict)
    """What was made already: pods of one Deployment share theirs."""
    _routes: dict[frozenset[tuple[str, str]], tuple[CompiledRoute, ...]] = field(default_factory=dict)
    _by_labels: dict[frozenset[tuple[str, str]], ProxyConfig] = field(default_factory=dict)
    """By labels: with hundreds of routes, to ask each whether it selects a pod takes milliseconds, and every change
    in the namespace wakes all its sidecars' polls."""

    def routes_of(self, labels: Mapping[str, str]) -> tuple[CompiledRoute, ...]:
        """The routes that a pod with these labels obeys, in the order of their rules."""
        key = frozenset(labels.items())
        if key not in self._routes:
            if len(self._routes) >= LABELS_MAX:
                self._routes.clear()
            self._routes[key] = tuple(route for route in self.routes.values() if route.selects(labels))
        return self._routes[key]

    def config_for(self, labels: Mapping[str, str]) -> ProxyConfig:
        """What the sidecar of a pod with these labels obeys, sealed."""
        key = frozenset(labels.items())
        if key not in self._by_labels:
            if len(self._by_labels) >= LABELS_MAX:
                self._by_labels.clear()
            self._by_labels[key] = self._config_for(labels)
        return self._by_labels[key]

    def _config_for(self, labels: Mapping[str, str]) -> ProxyConfig:
        routes = [route.route for route in self.routes_of(labels) if route.route is not None]
        budgets = [
            budget.in_force
            for budget in self.budgets.values()
            if budget.in_force is not None and budget.in_force.selects(labels)
        ]
        key = tuple(route.name for route in routes), tuple(budget.name for budget in budgets)
        if key not in self._configs:
            backends: dict[str, Backend] = {}
            for route in routes:
                backends.update(route.backends)
            used = {backend.provider for backend in backends.values()}
            prices: dict[Provider, dict[str, ModelPrice]] = {
                provider: dict(models) for provider, models in self.book.items() if provider in used
            }
            tiers: dict[str, tuple[ModelChoice, ...]] = {
                f"{route.name}/{tier}": choices for route in routes for tier, choices in route.tiers.items()
            }
            self._configs[key] = seal(
                ProxyConfig(
                    version="",
                    rules=tuple(rule for route in routes for rule in route.rules),
                    backends=backends,
                    budgets=tuple(budget.terms for budget in budgets),
                    quotas=tuple(quota for route in routes for quota in route.quotas),
                    tiers=tiers,
                    prices=prices,
                )
            )
        return self._configs[key]

    def budgets_in_force(self) -> dict[str, BudgetInForce]:
        """By `<namespace>/<budget>`."""
        return {each.in_force.name: each.in_force for each in self.budgets.values() if each.in_force is not None}

    def quotas(self) -> tuple[Quota, ...]:
        """Of all routes in force."""
        return tuple(quota for route in self.routes.values() if route.route is not None for quota in route.route.quotas)

    def credentials_for(self, labels: Mapping[str, str]) -> tuple[MountedKey, ...]:
        """Every key and authority that the sidecar of such a pod needs, sorted."""
        routes = [route.route for route in self.routes_of(labels) if route.route is not None]
        return tuple(sorted({pair for route in routes for pair in route.credentials}))


def compile_namespace(
    namespace: str, routes: Sequence[RouteManifest], budgets: Sequence[BudgetManifest], book: Book
) -> CompiledNamespace:
    """Everything that the namespace's sidecars obey."""
    return combine(
        namespace,
        [compile_route(namespace, manifest, book) for manifest in routes],
        [compile_budget(namespace, manifest) for manifest in budgets],
        book,
    )


def combine(
    namespace: str, routes: Iterable[CompiledRoute], budgets: Iterable[CompiledBudget], book: Book
) -> CompiledNamespace:
    """The same from objects that were compiled one by one; what they mean to each other is added here.

    Rules are asked route by route, in the order in which the routes were created (then
    by name): a route that is added later cannot take calls away from an older one.
    """
    compiled_budgets = {budget.name: budget for budget in sorted(budgets, key=lambda item: item.name)}
    compiled_routes = {route.name: route for route in sorted(routes, key=lambda item: (item.created, item.name))}
    in_force = [budget.in_force for budget in compiled_budgets.values() if budget.in_force is not None]
    earlier: list[AcceptedRoute] = []
    for name, compiled in compiled_routes.items():
        if compiled.route is not None:
            found = (
                *_unpriced(compiled.route, in_force, book),
                *unreachable(compiled.route, earlier),
                *_hedges_in_vain(compiled.route),
                *_budgets_unknown(compiled.route, in_force),
                *idle_escalations(compiled.route.spec),
                *narrow(compiled.route.quotas, compiled.route.rules, compiled.route.tiers),
            )
            compiled_routes[name] = replace(compiled, problems=(*compiled.problems, *found))
            earlier.append(compiled.route)
    contradicting = contradictions(in_force)
    for name, budget in compiled_budgets.items():
        if budget.in_force is not None:
            found = (
                *_missing_routes(budget.in_force, namespace, compiled_routes),
                *tier_problems(budget.in_force, earlier, book),
                *contradicting.get(budget.in_force.name, ()),
            )
            compiled_budgets[name] = replace(budget, problems=(*budget.problems, *found))
    return CompiledNamespace(namespace, compiled_routes, compiled_budgets, book)


def compile_route(namespace: str, manifest: RouteManifest, book: Book) -> CompiledRoute:
    """The newest spec if it can be obeyed, else the last accepted one."""
    newest = accept_route(namespace, manifest.name, manifest.spec(), book)
    if isinstance(newest, AcceptedRoute):
        return CompiledRoute(manifest.name, manifest.uid, manifest.generation, manifest.created, True, (), newest)
    former = None
    if manifest.last_good is not None:
        accepted = accept_route(namespace, manifest.name, manifest.last_good, book)
        former = accepted if isinstance(accepted, AcceptedRoute) else None
    return CompiledRoute(manifest.name, manifest.uid, manifest.generation, manifest.created, False, newest, former)


def compile_budget(namespace: str, manifest: BudgetManifest) -> CompiledBudget:
    """The newest spec if it can be obeyed, else the last accepted one."""
    newest = accept_budget(namespace, manifest.name, manifest.uid, manifest.spec())
    if isinstance(newest, AcceptedBudget):
        return CompiledBudget(manifest.name, manifest.uid, manifest.generation, True, (), newest.spec, newest.in_force)
    former = None
    if manifest.last_good is not None:
        accepted = accept_budget(namespace, manifest.name, manifest.uid, manifest.last_good)
        former = accepted if isinstance(accepted, AcceptedBudget) else None
    return CompiledBudget(
        manifest.name,
        manifest.uid,
        manifest.generation,
        False,
        newest,
        None if former is None else former.spec,
        None if former is None else former.in_force,
    )


def _missing_routes(budget: BudgetInForce, namespace: str, routes: Collection[str]) -> tuple[Problem, ...]:
    unknown = [route for route in budget.routes if route not in routes]
    if not unknown:
        return ()
    return (
        Problem(
            "RouteNotFound",
            f"spec.applies.routes: namespace {namespace} has no LLMRoute {', '.join(unknown)}: no call counts by it"
            " until it is created or the name corrected",
            about="Enforced",
            refuses=False,
        ),
    )


def _unpriced(route: AcceptedRoute, budgets: Sequence[BudgetInForce], book: Book) -> tuple[Problem, ...]:
    """Models that budgets count and nobody knows the price of."""
    found = []
    downgrades = {downgrade.tier for budget in budgets for downgrade in budget.downgrades}
    by_name = {f"{route.name}/{backend.name}": backend for backend in route.spec.backends}
    for full_name, model in route.models(downgrades):
        backend = by_name[full_name]
        if price_of(backend, model, book) is not None:
            continue
        counting = [budget for budget in budgets if budget.unit is Unit.PICODOLLARS and _counts(budget, route, model)]
        if not counting:
            continue
        hard = [budget.name for budget in counting if budget.hard]
        consequence = (
            f"its calls are refused under Hard budget {', '.join(hard)}"
            if hard
            else f"budget {', '.join(budget.name for budget in counting)} cannot count its calls"
        )
        found.append(
            Problem(
                "PriceUnknown",
                f"model {model} at spec.backends[{backend.name}] has no price: {consequence}: add it to"
                f" backends[{backend.name}].prices or correct the name",
                about="ResolvedRefs",
                refuses=False,
            )
        )
    return tuple(found)


def _counts(budget: BudgetInForce, route: AcceptedRoute, model: str) -> bool:
    """Whether a call of that route to that model may fall under the budget."""
    return (
        (not budget.routes or route.name in budget.routes)
        and (not budget.models or any(fits_model(pattern, model) for pattern in budget.models))
        and may_share_pods(budget.pod_selector, route.spec.pod_selector)
    )


def _budgets_unknown(route: AcceptedRoute, budgets: Sequence[BudgetInForce]) -> Iterator[Problem]:
    """Conditions on budgets that the route's pods do not fall under."""
    applying = [each.name for each in budgets if may_share_pods(each.pod_selector, route.spec.pod_selector)]
    return unknown_budgets(route.rules, [each.name for each in budgets], applying)


def _hedges_in_vain(route: AcceptedRoute) -> tuple[Problem, ...]:
    """Hedges of tiers that have nobody to hedge with."""
    names = [
        rule.name
        for rule in route.rules
        if rule.hedge is not None and all(len(route.tiers[tier]) < 2 for tier in rule.tiers)
    ]
    if not names:
        return ()
    return (
        Problem(
            "HedgeWithoutSecond",
            f"spec.rules: hedge of rules {', '.join(names)} does nothing: their tiers have one model: add another one"
            " to the tier or leave hedge out",
            refuses=False,
        ),
    )
