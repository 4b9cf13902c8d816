"""What happened to one call, collected while it happens and told once, at its end."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime

from keelage_api.usage import TokenUsage
from keelage_sidecar.core.bound import Bound, Unbounded
from keelage_sidecar.core.claim import NOTHING, Charge
from keelage_sidecar.core.downgrade import Downgraded
from keelage_sidecar.core.endpoints import Endpoint
from keelage_sidecar.core.log_line import CallRecord
from keelage_sidecar.core.meter import Reading
from keelage_sidecar.core.refusal import Refusal
from keelage_sidecar.core.request import Facts
from keelage_sidecar.core.retry import AttemptEnd
from keelage_sidecar.core.routing import Candidate, Plan
from keelage_sidecar.core.settlement import Settlement

OK = "ok"
UPSTREAM_ERROR = "upstream_error"
REFUSED = "refused"
CLIENT_DISCONNECT = "client_disconnect"
TRUNCATED = "truncated"
ERROR = "error"
SETTLED = "settled"


@dataclass(slots=True)
class Story:
    """`*_s` are on the loop's clock but `unix_s`."""

    request_id: str
    unix_s: float
    received_s: float
    endpoint: Endpoint | None = None
    facts: Facts | None = None
    plan: Plan | None = None
    candidate: Candidate | None = None
    ends: list[AttemptEnd] = field(default_factory=list)
    attempts: int = 0
    cost: int = 0
    bound: int = 0
    violated: bool = False
    uncertain: bool = False
    reading: Reading | None = None
    outcome: str = ERROR
    reason: str = ""
    budget: str = ""
    upstream_request_id: str = ""
    injected: tuple[str, ...] = ()
    first_token_s: float | None = None
    wait_s: float = 0.0
    queue_s: float = 0.0
    used: Charge = NOTHING
    """By all attempts together."""
    clamped: int = 0
    """The output cap that it was lowered to; 0: it was not."""
    downgraded: str = ""
    limit: str = ""
    unlimited: bool = False
    """Nobody could be asked about a rate."""

    def attempt_begins(self, candidate: Candidate, bound: Bound | Unbounded, injected: tuple[str, ...]) -> None:
        self.attempts += 1
        self.candidate = candidate
        self.bound = bound.amount if isinstance(bound, Bound) else 0
        self.injected = injected
        self.reading = None
        self.upstream_request_id = ""

    def attempt_settled(self, reading: Reading, settlement: Settlement) -> None:
        self.reading = reading
        self.cost += settlement.amount
        self.used = self.used.plus(settlement.charge)
        self.violated = self.violated or settlement.violated
        self.uncertain = self.uncertain or settlement.uncertain

    def refused(self, refusal: Refusal) -> None:
        """An upstream's failure is told as such, though the sidecar words it."""
        self.outcome = UPSTREAM_ERROR if refusal.reason.startswith("Upstream") else REFUSED
        self.reason = refusal.reason
        self.budget = refusal.budget or self.budget
        self.limit = refusal.limit

    def lowered(self, step: Downgraded) -> None:
        """The call goes on with a cheaper tier."""
        self.plan, self.downgraded, self.budget = step.plan, step.plan.rule.tier, step.budget

    def marks(self) -> list[tuple[bytes, bytes]]:
        """Headers that tell the application what was changed for a budget's sake."""
        marks: list[tuple[bytes, bytes]] = []
        if self.clamped:
            marks.append((b"x-keelage-clamped", b"max_tokens=%d" % self.clamped))
        if self.downgraded:
            marks.append((b"x-keelage-downgraded", self.downgraded.encode()))
            marks.append((b"x-keelage-budget", self.budget.encode()))
        return marks

    def patience_left_s(self, now_s: float) -> float | None:
        """How long the application will still wait for a first byte; None where it did not say."""
        if self.facts is None or self.facts.patience_s is None:
            return None
        return self.received_s + self.facts.patience_s - now_s

    def record(self, status: int, now_s: float) -> CallRecord:
        """The call's line in the log."""
        facts, rule, candidate, reading = self.facts, self.plan and self.plan.rule, self.candidate, self.reading
        usage: TokenUsage | None = reading.usage if reading is not None else None
        return CallRecord(
            time=datetime.fromtimestamp(self.unix_s, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            request_id=self.request_id,
            endpoint=self.endpoint.kind if self.endpoint is not None else "",
            outcome=self.outcome,
            status=status,
            route=rule.route if rule else "",
            rule=rule.name if rule else "",
            backend=candidate.backend.name if candidate else "",
            request_model=facts.model if facts else "",
            model=candidate.model if candidate else "",
            response_model=reading.response_model if reading else "",
            attempts=self.attempts,
            sdk_retries=facts.retry_count if facts else 0,
            user=facts.user if facts else "",
            feature=facts.feature if facts else "",
            stream=facts.stream if facts else False,
            usage=usage,
            cost=self.cost,
            bound=self.bound,
            bound_violated=self.violated,
            uncertain=self.uncertain,
            latency_ms=(now_s - self.received_s) * 1000,
            first_token_ms=None if self.first_token_s is None else (self.first_token_s - self.received_s) * 1000,
            wait_ms=self.wait_s * 1000,
            queue_ms=self.queue_s * 1000,
            stop_reason=reading.stop_reason if reading else "",
            reason=self.reason or (reading.error if reading else ""),
            budget=self.budget,
            limit=self.limit,
            unlimited=self.unlimited,
            clamped=self.clamped,
            downgraded=self.downgraded,
            upstream_request_id=self.upstream_request_id,
            injected=self.injected,
        )
