"""The status of an LLMBudget: where the money of the current window went, and whether the limit is enforced."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

from keelage_api.money import format_usd, format_usd_floor
from keelage_api.v1alpha1.llmbudget import BudgetState, LLMBudgetStatus
from keelage_api.v1alpha1.manifest import dump
from keelage_operator.core.burn import Outlook, outlook, shown_rate
from keelage_operator.core.compile import CompiledBudget
from keelage_operator.core.conditions import Verdict, merge, verdict
from keelage_operator.core.ledger_figures import LedgerFigures
from keelage_operator.core.threshold import announced, reached

INT64_MAX = 2**63 - 1
"""The API server takes no greater integer, and would refuse the whole status; a forecast may well be greater."""

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
    exhausted = figures is not None and (refusing or _left(figures) <= 0)
    conditions = merge(
        old.conditions,
        (
            _accepted(compiled),
            _enforced(compiled, figures),
            _reachable(compiled),
            _exhausted(compiled, figures, exhausted),
            _stale(figures),
        ),
        compiled.generation,
        now,
    )
    status = dump(old)
    if figures is not None:
        thresholds = compiled.in_force.thresholds if compiled.in_force is not None else ()
        told = {*announced(old, figures.window.id), *reached(thresholds, figures)}
        status = _figures(figures, _outlook(old, figures, now, exhausted)) | {"announced": sorted(told)}
    if figures is None and compiled.in_force is not None:
        status["limit"] = f"{format_usd(compiled.in_force.limit)} USD"
    status["observedGeneration"] = compiled.generation
    status["conditions"] = [dump(condition) for condition in conditions]
    status["state"] = _state(compiled, figures, exhausted).value
    status["lastAccepted"] = {} if compiled.spec is None else dump(compiled.spec)
    return status


def refuses(figures: LedgerFigures, old: LLMBudgetStatus, refused: bool) -> bool:
    """Whether what is left is too little for the calls that come; `refused`: a sidecar was told so under this limit.

    The old status remembers across leaders what a sidecar was told once.
    """
    if _left(figures) * 100 >= figures.limit * NEARLY_NOTHING:
        return False
    same = old.window.id == figures.window.id and old.picodollars.limit == figures.limit
    return refused or (same and old.state is BudgetState.EXHAUSTED)


def _outlook(old: LLMBudgetStatus, figures: LedgerFigures, now: str, exhausted: bool) -> Outlook:
    """From what was shown before, which stands while it is near the truth."""
    same = old.window.id == figures.window.id
    shown = _shown_instant(old.exhausted_at) if same else None
    at = datetime.fromisoformat(now)
    found = outlook(
        shown_rate(figures.burn, old.picodollars.burn),
        figures.spent,
        _left(figures),
        at,
        figures.window.ends_at,
        Outlook(old.picodollars.burn, old.picodollars.forecast if same else 0, shown),
    )
    if not exhausted:
        return found
    was = same and old.picodollars.limit == figures.limit and old.state is BudgetState.EXHAUSTED
    return replace(found, exhausted_at=shown if was and shown is not None else at)


def _shown_instant(text: str) -> datetime | None:
    """None too where somebody wrote into the status what is no instant."""
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        return None
    return at if at.tzinfo is not None else None


def _left(figures: LedgerFigures) -> int:
    """What could still be spent in this window, leased or not; negative after the limit was lowered."""
    return figures.limit - figures.spent - figures.forfeited


def _state(compiled: CompiledBudget, figures: LedgerFigures | None, exhausted: bool) -> BudgetState:
    if compiled.in_force is None:
        return BudgetState.INVALID
    if figures is None:
        return BudgetState.PENDING
    return BudgetState.EXHAUSTED if exhausted else BudgetState.ACTIVE


def _figures(figures: LedgerFigures, ahead: Outlook) -> dict[str, object]:
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
        "used": f"{used(figures.spent + figures.forfeited, figures.limit)}%",
        "percent": used(figures.spent + figures.forfeited, figures.limit),
        "burnRate": f"{format_usd(ahead.rate)} USD/h",
        "forecast": format_usd(ahead.forecast),
        "exhaustedAt": instant(ahead.exhausted_at) if ahead.exhausted_at is not None else "",
        "resetsAt": instant(figures.window.ends_at),
        "reserved": format_usd(figures.reserved),
        "forfeited": format_usd(figures.forfeited),
        "uncertain": format_usd(figures.uncertain),
        "sidecars": {"reporting": figures.reporting, "silent": figures.silent},
        "picodollars": {
            name: min(pico, INT64_MAX)
            for name, pico in (
                ("limit", figures.limit),
                ("spent", figures.spent),
                ("granted", figures.granted),
                ("forfeited", figures.forfeited),
                ("committed", figures.committed),
                ("burn", ahead.rate),
                ("forecast", ahead.forecast),
            )
        },
    }


def used(counted: int, limit: int) -> int:
    """Percent of the limit, rounded down below 100 and never above the truth of 100: 42."""
    return counted * 100 // limit if limit > 0 else 100


def instant(at: datetime) -> str:
    """RFC 3339 in UTC, whole seconds, as Kubernetes writes it."""
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


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
