"""Cascades and latency budgets of a route's rules: as sidecars obey them, and what is wrong with them."""

from __future__ import annotations

from collections.abc import Iterator

from keelage_api.json_schema import schema_fault
from keelage_api.linear_regex import compile_pattern
from keelage_api.proxy_config import Cascade, LatencyBudget, Rule
from keelage_api.regex_syntax import PatternError
from keelage_api.v1alpha1 import cascade
from keelage_api.v1alpha1.llmroute import LLMRouteSpec
from keelage_api.v1alpha1.metadata import duration_ms
from keelage_operator.core.problem import Problem


def cascade_of(spec: cascade.Cascade | None) -> Cascade | None:
    if spec is None:
        return None
    on = spec.escalate_on
    return Cascade(
        cheap=spec.cheap,
        to=spec.to,
        prefix=on.reply_prefix or "",
        pattern=on.pattern or "",
        pattern_chars=on.pattern_characters,
        max_tokens=on.max_tokens,
        invalid_json=on.invalid_json,
        json_schema=on.json_schema,
    )


def latency_budget_of(spec: cascade.LatencyBudget | None) -> LatencyBudget | None:
    if spec is None:
        return None
    ((percent, bound),) = spec.bounds
    return LatencyBudget(percent, duration_ms(bound), spec.otherwise)


def tiers_instead(rule: Rule) -> Iterator[str]:
    """Those that a call may come to from the one that was selected."""
    if rule.cascade is not None:
        yield rule.cascade.to
    for budget in (rule.first_token_within, rule.answer_within):
        if budget is not None:
            yield budget.otherwise


def escalation_problems(spec: LLMRouteSpec) -> Iterator[Problem]:
    """What keeps a route from being obeyed: patterns and schemas that are none."""
    for rule in spec.rules:
        if rule.cascade is not None:
            yield from _condition_problems(f"spec.rules[{rule.name}].cascade.escalateOn", rule.cascade.escalate_on)


def _condition_problems(where: str, on: cascade.EscalateOn) -> Iterator[Problem]:
    if on.pattern is not None:
        try:
            compile_pattern(on.pattern)
        except PatternError as error:
            yield Problem("PatternInvalid", f"{where}.pattern: {error}")
    fault = schema_fault(on.json_schema or {})
    if fault:
        yield Problem("SchemaInvalid", f"{where}.jsonSchema: {fault}")


def idle_escalations(spec: LLMRouteSpec) -> Iterator[Problem]:
    """Cascades and latency budgets that change nothing: no call of their rule comes to the tier that they are about."""
    for rule in spec.rules:
        selected = {selection.tier for selection in rule.select}
        if rule.cascade is not None and rule.cascade.cheap not in selected:
            yield Problem(
                "CascadeInVain",
                f"spec.rules[{rule.name}].cascade does nothing: the rule selects {', '.join(sorted(selected))} and"
                f" never {rule.cascade.cheap}: select that tier, or name a selected one in cascade.from",
                refuses=False,
            )
        for field, budget in (("firstTokenWithin", rule.first_token_within), ("answerWithin", rule.answer_within)):
            if budget is not None and selected == {budget.otherwise}:
                yield Problem(
                    "LatencyBudgetInVain",
                    f"spec.rules[{rule.name}].{field} does nothing: the rule selects {budget.otherwise} only, which is"
                    " its otherwise: name another tier there",
                    refuses=False,
                )
