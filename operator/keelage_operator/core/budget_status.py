"""The status of an LLMBudget: its figures, its state, and whether the limit is enforced."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from keelage_api.amount import measured, plain, unit_name
from keelage_api.proxy_config import Unit
from keelage_api.v1alpha1.llmbudget import BudgetState, LLMBudgetStatus
from keelage_api.v1alpha1.manifest import dump
from keelage_operator.core.budget_figures import instant, shown_figures, shown_limit
from keelage_operator.core.burn import Outlook, outlook, shown_rate
from keelage_operator.core.compile import CompiledBudget
from keelage_operator.core.conditions import Verdict, merge, verdict
from keelage_operator.core.ledger_figures import LedgerFigures
from keelage_operator.core.terms import BudgetInForce
from keelage_operator.core.threshold import announced

NEARLY_NOTHING = 10
"""A budget that refused a call counts as exhausted when less than this percentage is left. Below it most calls
are refused; above it one very large call was, and its sidecar told the caller so."""


def budget_status(
    old: LLMBudgetStatus, compiled: CompiledBudget, figures: LedgerFigures | None, now: str, refusing: bool = False
) -> dict[str, object]:
    """The whole status to write. `now` is RFC 3339: where a condition turns, and what the forecast starts from.

    `figures` None: the ledger was not read yet; the old figures stay, since they are
    the checkpoint below which a rebuilt ledger cannot fall. `refusing`: a sidecar was
    told that what is left in this window can never serve its call.
    """
    terms = compiled.in_force
    exhausted = figures is not None and terms is not None and (refusing or _is_exhausted(figures, terms))
    conditions = merge(
        old.conditions,
        (
            _accepted(compiled),
            _enforced(compiled, figures),
            _reachable(compiled),
            _exhausted(compiled, figures, exhausted),
            _stale(figures, terms),
        ),
        compiled.generation,
        now,
    )
    status = dump(old)
    if terms is not None and figures is None:
        status["limit"] = shown_limit(terms)
    if terms is not None and figures is not None:
        status = shown_figures(figures, terms, _outlook(old, figures, terms, now, exhausted))
        status["announced"] = [dump(each) for each in announced(old, figures, terms, now)]
    status["observedGeneration"] = compiled.generation
    status["conditions"] = [dump(condition) for condition in conditions]
    status["state"] = _state(compiled, figures, exhausted).value
    status["lastAccepted"] = {} if compiled.spec is None else dump(compiled.spec)
    return status


def refuses(figures: LedgerFigures, terms: BudgetInForce, old: LLMBudgetStatus, refused: bool) -> bool:
    """Whether what is left is too little for the calls that come; `refused`: a sidecar was told so under this limit.

    The old status remembers across leaders what a sidecar was told once. One value that has nothing left is
    no end of a budget with values.
    """
    if terms.valued or _left(figures) * 100 >= figures.cap * NEARLY_NOTHING:
        return False
    return refused or (_same(old, figures) and old.state is BudgetState.EXHAUSTED)


def _same(old: LLMBudgetStatus, figures: LedgerFigures) -> bool:
    """Whether the old status is about the same window under the same limit."""
    return old.window.id == figures.window.id and (old.amounts.limit, old.amounts.overdraft) == (
        figures.limit,
        figures.overdraft,
    )


def _is_exhausted(figures: LedgerFigures, terms: BudgetInForce) -> bool:
    return not terms.valued and _left(figures) <= 0


def _outlook(old: LLMBudgetStatus, figures: LedgerFigures, terms: BudgetInForce, now: str, exhausted: bool) -> Outlook:
    """From what was shown before, which stands while it is near the truth."""
    same = old.window.id == figures.window.id
    shown = _shown_instant(old.exhausted_at) if same else None
    at = datetime.fromisoformat(now)
    found = outlook(
        shown_rate(figures.burn, old.amounts.burn),
        figures.spent,
        _left(figures),
        at,
        figures.window.ends_at,
        Outlook(old.amounts.burn, old.amounts.forecast if same else 0, shown),
    )
    if terms.valued:
        return replace(found, exhausted_at=None)  # each value ends at a time of its own
    if not exhausted:
        return found
    was = _same(old, figures) and old.state is BudgetState.EXHAUSTED
    return replace(found, exhausted_at=shown if was and shown is not None else at)


def _shown_instant(text: str) -> datetime | None:
    """None too where somebody wrote into the status what is no instant."""
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        return None
    return at if at.tzinfo is not None else None


def _left(figures: LedgerFigures) -> int:
    """What could still be spent in this window, overdraft included, leased or not; negative after the limit was
    lowered."""
    return figures.cap - figures.spent - figures.forfeited


def _state(compiled: CompiledBudget, figures: LedgerFigures | None, exhausted: bool) -> BudgetState:
    if compiled.in_force is None:
        return BudgetState.INVALID
    if figures is None:
        return BudgetState.PENDING
    return BudgetState.EXHAUSTED if exhausted else BudgetState.ACTIVE


def _accepted(compiled: CompiledBudget) -> Verdict:
    problems = [problem for problem in compiled.problems if problem.about == "Accepted"]
    text = "; ".join(problem.message for problem in problems)
    if any(problem.refuses for problem in problems):
        kept = "the last accepted spec stays in force" if compiled.in_force is not None else "nothing is enforced"
        return verdict("Accepted", False, problems[0].reason, f"{text}; {kept}")
    if problems:
        return verdict("Accepted", True, problems[0].reason, text)
    return verdict("Accepted", True, "Accepted", "the spec is in force")


def _reachable(compiled: CompiledBudget) -> Verdict:
    if compiled.in_force is None:
        return verdict("Reachable", None, "NotAccepted", "no spec is in force")
    problems = [problem for problem in compiled.problems if problem.about == "Reachable"]
    if not problems:
        return verdict("Reachable", True, "Reachable", "no other budget keeps the limit from being reached")
    known = None if problems[0].reason == "NotCompared" else False
    return verdict("Reachable", known, problems[0].reason, "; ".join(problem.message for problem in problems))


def _enforced(compiled: CompiledBudget, figures: LedgerFigures | None) -> Verdict:
    if compiled.in_force is None:
        return verdict("Enforced", False, "NotAccepted", "no spec is in force")
    problems = [problem for problem in compiled.problems if problem.about == "Enforced"]
    if problems:
        return verdict("Enforced", False, problems[0].reason, "; ".join(problem.message for problem in problems))
    if compiled.in_force.shadow:
        return verdict(
            "Enforced",
            False,
            "Shadow",
            "spec.mode is Shadow: spending is counted; what would be refused or changed is only told, in the sidecars'"
            " log lines (shadow_budgets)",
        )
    if not compiled.in_force.hard:
        return verdict(
            "Enforced", False, "ObserveOnly", "spec.enforcement is Observe: spending is counted, not limited"
        )
    if figures is None:
        return verdict("Enforced", None, "LedgerNotRead", "the ledger was not read yet; sidecars spend what they hold")
    if figures.pending_recall:
        return verdict(
            "Enforced",
            False,
            "Recalling",
            f"the limit was lowered, and sidecars hold {measured(figures.pending_recall, compiled.in_force.unit)} above"
            " it: they give it back with their next words; what their calls under way cost may pass the limit",
        )
    return verdict("Enforced", True, "Enforced", "no sidecar can spend more than the ledger has granted to it")


def _exhausted(compiled: CompiledBudget, figures: LedgerFigures | None, exhausted: bool) -> Verdict:
    terms = compiled.in_force
    if figures is None or terms is None:
        return verdict("Exhausted", None, "LedgerNotRead", "the ledger was not read yet")
    resets = instant(figures.window.ends_at)
    per = "/".join(terms.per)
    if figures.crowded:
        beyond = "refused" if terms.hard else "not counted"
        return verdict(
            "Exhausted",
            False,
            "TooManyValues",
            f"{figures.values} values of {per} are nearly all that the ledgers of a window take: calls of further"
            f" ones are {beyond} until {resets}: let spec.per name something with fewer values, or split the budget by"
            " spec.applies.podSelector",
        )
    if terms.valued and figures.values_exhausted:
        return verdict(
            "Exhausted",
            False,
            "ValuesExhausted",
            f"{figures.values_exhausted} of {figures.values} values of {per} have next to nothing left until"
            f" {resets}; the others go on",
        )
    if not exhausted and terms.hard and terms.soft and figures.overdrawn:
        whose = " by some values, whose calls" if terms.valued else ", and its calls"
        return verdict(
            "Exhausted",
            False,
            "Overdrawn",
            f"the limit of {shown_limit(terms)} is passed{whose} are refused once the overdraft of"
            f" {measured(terms.overdraft, terms.unit)} is used, too; status.overdrawn says how much of it is; the"
            f" window ends at {resets}",
        )
    if not exhausted:
        return verdict("Exhausted", False, "WithinLimit", f"the window ends at {resets}")
    field = "spec.limit.tokens" if terms.unit is Unit.TOKENS else "spec.limit.amount"
    beyond = f" and an overdraft of {plain(terms.overdraft, terms.unit)}" if terms.overdraft else ""
    spent = (
        f"{plain(figures.spent, terms.unit)} of {plain(figures.limit, terms.unit)}{beyond} {unit_name(terms.unit)} are"
        " spent"
    )
    if not terms.hard:
        return verdict("Exhausted", True, "LimitPassed", f"{spent}; the budget only observes; it resets at {resets}")
    return verdict(
        "Exhausted", True, "LimitReached", f"{spent}; calls are refused until {resets}: raise {field} or wait"
    )


def _stale(figures: LedgerFigures | None, terms: BudgetInForce | None) -> Verdict:
    if figures is None or terms is None:
        return verdict(
            "Stale", True, "LedgerNotRead", "the ledger was not read yet: the figures are the last known ones"
        )
    if figures.silent:
        return verdict(
            "Stale",
            True,
            "SidecarsSilent",
            f"{figures.silent} sidecars were not heard of lately; {measured(figures.unheard, terms.unit)} that they"
            " hold stay set aside until they speak or their pods are gone",
        )
    return verdict("Stale", False, "Reporting", f"{figures.reporting} sidecars report")
