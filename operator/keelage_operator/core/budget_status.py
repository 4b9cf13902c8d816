"""The status of an LLMBudget: where the money of the current window went, and whether the limit is enforced."""

from __future__ import annotations

from datetime import UTC, datetime

from keelage_api.money import format_usd, format_usd_floor
from keelage_api.v1alpha1.llmbudget import BudgetState, LLMBudgetStatus
from keelage_api.v1alpha1.manifest import dump
from keelage_operator.core.compile import CompiledBudget
from keelage_operator.core.conditions import Verdict, merge, verdict
from keelage_operator.core.ledger import LedgerFigures


def budget_status(
    old: LLMBudgetStatus, compiled: CompiledBudget, figures: LedgerFigures | None, now: str, refusing: bool = False
) -> dict[str, object]:
    """The whole status to write. `now` is RFC 3339 and used only where a condition turns.

    `figures` None: the ledger was not read yet; the old figures stay, since they are
    the checkpoint below which a rebuilt ledger cannot fall. `refusing`: a sidecar was
    told that what is left in this window can never serve its call.
    """
    exhausted = figures is not None and (refusing or _left(figures) <= 0)
    conditions = merge(
        old.conditions,
        (
            _accepted(compiled),
            _enforced(compiled, figures),
            _exhausted(compiled, figures, exhausted),
            _stale(figures),
        ),
        compiled.generation,
        now,
    )
    status = dump(old) if figures is None else _figures(figures)
    if figures is None and compiled.in_force is not None:
        status["limit"] = f"{format_usd(compiled.in_force.limit)} USD"
    status["observedGeneration"] = compiled.generation
    status["conditions"] = [dump(condition) for condition in conditions]
    status["state"] = _state(compiled, figures, exhausted).value
    status["lastAccepted"] = {} if compiled.spec is None else dump(compiled.spec)
    return status


def _left(figures: LedgerFigures) -> int:
    """What could still be spent in this window, leased or not; negative after the limit was lowered."""
    return figures.limit - figures.spent - figures.forfeited


def _state(compiled: CompiledBudget, figures: LedgerFigures | None, exhausted: bool) -> BudgetState:
    if compiled.in_force is None:
        return BudgetState.INVALID
    if figures is None:
        return BudgetState.PENDING
    return BudgetState.EXHAUSTED if exhausted else BudgetState.ACTIVE


def _figures(figures: LedgerFigures) -> dict[str, object]:
    """Spending is rounded up, what remains is rounded down: neither looks better than it is."""
    return {
        "window": {
            "id": figures.window.id,
            "startsAt": instant(figures.window.starts_at),
            "endsAt": instant(figures.window.ends_at),
        },
        "limit": f"{format_usd(figures.limit)} USD",
        "spent": format_usd(figures.spent),
        "leased": format_usd(figures.leased),
        "remaining": format_usd_floor(max(_left(figures) - figures.leased, 0)),
        "used": used(figures.spent + figures.forfeited, figures.limit),
        "resetsAt": instant(figures.window.ends_at),
        "reserved": format_usd(figures.reserved),
        "forfeited": format_usd(figures.forfeited),
        "uncertain": format_usd(figures.uncertain),
        "sidecars": {"reporting": figures.reporting, "silent": figures.silent},
        "picodollars": {
            "limit": figures.limit,
            "spent": figures.spent,
            "granted": figures.granted,
            "forfeited": figures.forfeited,
            "committed": figures.committed,
        },
    }


def used(counted: int, limit: int) -> str:
    """Percent of the limit, rounded down below 100 and never above the truth of `100%`: `42%`."""
    if limit <= 0:
        return "100%"
    return f"{counted * 100 // limit}%"


def instant(at: datetime) -> str:
    """RFC 3339 in UTC, whole seconds, as Kubernetes writes it."""
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _accepted(compiled: CompiledBudget) -> Verdict:
    problems = [problem for problem in compiled.problems if problem.about == "Accepted"]
    text = "; ".join(problem.message for problem in problems)
    if any(problem.refuses for problem in problems):
        kept = "the last accepted spec stays in force" if compiled.in_force is not None else "nothing is enforced"
        return verdict("Accepted", False, problems[0].reason, f"{text}; {kept}")
    return verdict("Accepted", True, "Accepted", "the spec is in force")


def _enforced(compiled: CompiledBudget, figures: LedgerFigures | None) -> Verdict:
    if compiled.in_force is None:
        return verdict("Enforced", False, "NotAccepted", "no spec is in force")
    problems = [problem for problem in compiled.problems if problem.about == "Enforced"]
    if problems:
        return verdict("Enforced", False, problems[0].reason, "; ".join(problem.message for problem in problems))
    if not compiled.in_force.hard:
        return verdict(
            "Enforced", False, "ObserveOnly", "spec.enforcement is Observe: spending is counted, not limited"
        )
    if figures is None:
        return verdict("Enforced", None, "LedgerNotRead", "the ledger was not read yet; sidecars spend what they hold")
    return verdict("Enforced", True, "Enforced", "no sidecar can spend more than the ledger has granted to it")


def _exhausted(compiled: CompiledBudget, figures: LedgerFigures | None, exhausted: bool) -> Verdict:
    if figures is None:
        return verdict("Exhausted", None, "LedgerNotRead", "the ledger was not read yet")
    resets = instant(figures.window.ends_at)
    if not exhausted:
        return verdict("Exhausted", False, "WithinLimit", f"the window ends at {resets}")
    spent = f"{format_usd(figures.spent)} of {format_usd(figures.limit)} USD are spent"
    if compiled.in_force is not None and not compiled.in_force.hard:
        return verdict("Exhausted", True, "LimitPassed", f"{spent}; the budget only observes; it resets at {resets}")
    return verdict(
        "Exhausted",
        True,
        "LimitReached",
        f"{spent}; calls are refused until {resets}: raise spec.limit.amount or wait",
    )


def _stale(figures: LedgerFigures | None) -> Verdict:
    if figures is None:
        return verdict(
            "Stale", True, "LedgerNotRead", "the ledger was not read yet: the figures are the last known ones"
        )
    if figures.silent:
        return verdict(
            "Stale",
            True,
            "SidecarsSilent",
            f"{figures.silent} sidecars were not heard of lately; {format_usd(figures.uncertain)} USD that they hold"
            " stay set aside until they speak or their pods are gone",
        )
    return verdict("Stale", False, "Reporting", f"{figures.reporting} sidecars report")
