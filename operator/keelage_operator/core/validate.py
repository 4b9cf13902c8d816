"""The validating webhook: what the schema cannot say and is surely wrong.

Unknown time zones, prices below the book's, durations out of range: the same judgement
that would become a condition, told at `kubectl apply` already. Whatever depends on
other objects stays a condition, since those may come later.
"""

from __future__ import annotations

from dataclasses import dataclass

from keelage_operator.core.accept import judge_budget, judge_route
from keelage_operator.core.price_book import Book
from keelage_operator.core.problem import Problem
from keelage_operator.core.review import Request


@dataclass(frozen=True, slots=True)
class Verdict:
    """Allowed unless there is a problem."""

    reason: str = ""
    message: str = ""
    """Kind and name, then each problem with field, value and remedy."""

    @property
    def allowed(self) -> bool:
        return not self.reason


ALLOWED = Verdict()


def validate(request: Request, book: Book) -> Verdict:
    """Judge a resource of this group that is being created or updated."""
    raw = request.object
    if raw is None or request.operation not in ("CREATE", "UPDATE"):
        return ALLOWED
    # An object from before an upgrade must stay deletable and labellable whatever its spec is.
    if request.old_object is not None and request.old_object.get("spec") == raw.get("spec"):
        return ALLOWED
    problems: tuple[Problem, ...]
    match request.kind.kind:
        case "LLMRoute":
            problems = judge_route(raw, book)
        case "LLMBudget":
            problems = judge_budget(raw)
        case _:
            return ALLOWED
    refusing = [problem for problem in problems if problem.refuses]
    if not refusing:
        return ALLOWED
    texts = "; ".join(problem.message for problem in refusing)
    return Verdict(refusing[0].reason, f"{request.kind.kind} {request.namespace}/{request.name}: {texts}")
