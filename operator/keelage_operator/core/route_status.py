"""The status of an LLMRoute: whether its spec is in force, its references resolve and its sidecars obey it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

from keelage_api.v1alpha1.llmroute import LLMRouteStatus
from keelage_api.v1alpha1.manifest import dump
from keelage_operator.core.compile import CompiledRoute
from keelage_operator.core.conditions import Verdict, merge, verdict
from keelage_operator.core.quotas import crowded_text
from keelage_operator.core.savings import NOTHING_SAVED, Sums, savings_status, total_saved
from keelage_operator.core.speakers import Speaker

NAMED_MAX = 3
"""Pods that a message names; status is no list of pods."""


@dataclass(frozen=True, slots=True)
class SelectedPod:
    """An injected pod that the route selects."""

    name: str
    wanted: str
    """Version of the configuration that its sidecar should obey."""
    speaker: Speaker | None
    """Its sidecar's last word; None: none lately."""

    @property
    def obeys(self) -> bool:
        return self.speaker is not None and self.speaker.config_version == self.wanted


def route_status(
    old: LLMRouteStatus,
    compiled: CompiledRoute,
    pods: Sequence[SelectedPod],
    now: str,
    crowded: Collection[str] = frozenset(),
    saved: Sums = NOTHING_SAVED,
) -> dict[str, object]:
    """The whole status to write. `now` is RFC 3339 and used only where a condition turns.

    `crowded`: names of quotas some of whose values are not kept; `saved`: since the route was created.
    """
    route = compiled.route
    conditions = merge(
        old.conditions,
        (
            _accepted(compiled),
            _resolved(compiled, pods),
            _programmed(compiled, pods, crowded),
            *_prompt_caching(compiled, pods),
        ),
        compiled.generation,
        now,
    )
    return {
        "observedGeneration": compiled.generation,
        "conditions": [dump(condition) for condition in conditions],
        "sidecars": f"{sum(pod.obeys for pod in pods)}/{len(pods)}",
        "rules": 0 if route is None else len(route.rules),
        "backends": 0 if route is None else len(route.backends),
        **({"saved": total_saved(saved), "savings": savings_status(saved)} if saved else {}),
        "lastAccepted": {} if route is None else dump(route.spec),
    }


def _accepted(compiled: CompiledRoute) -> Verdict:
    problems = [problem for problem in compiled.problems if problem.about == "Accepted"]
    refusing = [problem for problem in problems if problem.refuses]
    text = "; ".join(problem.message for problem in problems)
    if refusing:
        kept = "the last accepted spec stays in force" if compiled.route is not None else "nothing is in force"
        return verdict("Accepted", False, refusing[0].reason, f"{text}; {kept}")
    if problems:
        return verdict("Accepted", True, problems[0].reason, text)
    return verdict("Accepted", True, "Accepted", "the spec is in force")


def _resolved(compiled: CompiledRoute, pods: Sequence[SelectedPod]) -> Verdict:
    """Secrets are told by sidecars: the operator never reads them."""
    route = compiled.route
    if route is None:
        return verdict("ResolvedRefs", None, "NotAccepted", "no spec is in force")
    problems = [problem for problem in compiled.problems if problem.about == "ResolvedRefs"]
    own = {each.path: each for each in route.credentials}
    lacking: dict[str, list[str]] = {}
    """Pods by what each has no file for."""
    for pod in pods:
        for path in pod.speaker.missing_credentials if pod.speaker is not None else ():
            if path in own:
                lacking.setdefault(path, []).append(pod.name)
    missing = sorted(lacking)
    if missing:
        texts = [
            f"{each.kind} {each.name} or its key {each.key} is not there for {_named(lacking[each.path])}: create it in"
            " the route's namespace; a pod injected before the route named it must be restarted"
            for each in (own[path] for path in missing[:NAMED_MAX])
        ]
        reason = f"{own[missing[0]].kind}Missing"
        return verdict("ResolvedRefs", False, reason, "; ".join((*texts, *(each.message for each in problems))))
    if problems:
        return verdict("ResolvedRefs", False, problems[0].reason, "; ".join(problem.message for problem in problems))
    return verdict("ResolvedRefs", True, "ResolvedRefs", "prices are known and no sidecar misses a key or an authority")


def _programmed(compiled: CompiledRoute, pods: Sequence[SelectedPod], crowded: Collection[str]) -> Verdict:
    if compiled.route is None:
        return verdict("Programmed", False, "NotAccepted", "no spec is in force")
    if not pods:
        return verdict(
            "Programmed",
            False,
            "NoPods",
            "no injected pod is selected: label the namespace keelage.dev/inject=true, restart its pods, and see"
            " whether spec.podSelector matches them",
        )
    obeying = sum(pod.obeys for pod in pods)
    count = f"{obeying}/{len(pods)} sidecars"
    overfull = [crowded_text(quota) for quota in compiled.route.quotas if quota.name in crowded]
    if obeying == len(pods) and overfull:
        return verdict("Programmed", False, "TooManyValues", "; ".join(overfull))
    if obeying == len(pods):
        return verdict("Programmed", True, "Programmed", f"{count} obey the newest configuration")
    refusing = [pod for pod in pods if not pod.obeys and pod.speaker is not None and pod.speaker.config_error]
    if refusing:
        texts = [
            f"pod {pod.name}: {pod.speaker.config_error}" for pod in refusing[:NAMED_MAX] if pod.speaker is not None
        ]
        return verdict(
            "Programmed", False, "ConfigRefused", f"{count} obey the newest configuration; {'; '.join(texts)}"
        )
    waiting = _named([pod.name for pod in pods if not pod.obeys])
    return verdict("Programmed", False, "Pending", f"{count} obey the newest configuration; waiting for {waiting}")


def _named(pods: Sequence[str]) -> str:
    """Their names, or how many they are."""
    return ", ".join(pods) if len(pods) <= NAMED_MAX else f"{len(pods)} pods"


def _prompt_caching(compiled: CompiledRoute, pods: Sequence[SelectedPod]) -> Iterator[Verdict]:
    """Only of routes that have breakpoints inserted; sidecars say where they do not pay."""
    rules = () if compiled.route is None else compiled.route.rules
    caching = {rule.name for rule in rules if rule.prompt_cache is not None}
    if not caching:
        return
    resting = Counter(
        (each.rule, each.model)
        for pod in pods
        if pod.speaker is not None
        for each in pod.speaker.resting
        if each.route == compiled.name and each.rule in caching
    )
    if not resting:
        yield verdict("PromptCaching", True, "Inserting", "breakpoints are inserted where prompts are long enough")
        return
    told = [
        f"rule {rule}, model {model}: {count}/{len(pods)} sidecars" for (rule, model), count in resting.most_common()
    ]
    more = f" and {len(told) - NAMED_MAX} more" if len(told) > NAMED_MAX else ""
    yield verdict(
        "PromptCaching",
        False,
        "WritesNotRepaid",
        "no breakpoints are inserted for now, since too little of what was written was read again:"
        f" {'; '.join(told[:NAMED_MAX])}{more}: it is tried again by itself; let prompts begin alike, or take"
        " promptCache out of the rule",
    )
