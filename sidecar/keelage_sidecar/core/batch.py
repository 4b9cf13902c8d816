"""A message batch before it is sent: each of its requests bounded as a call of its own, at batch price.

`POST /v1/messages/batches` carries `{"requests": [{"custom_id": …, "params": <a Messages body>}, …]}`.
Requests of one model that fall under the same budgets form a lot, which is reserved and settled as one.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import reduce
from hashlib import blake2b

import msgspec
import orjson
from msgspec import structs

from keelage_api.pricing import batch_share
from keelage_api.proxy_config import Backend, Dialect, Rule
from keelage_sidecar.core.attribution import OTHER
from keelage_sidecar.core.batch_shadow import BatchShadow
from keelage_sidecar.core.bound import Bound, Unbounded, bound_of
from keelage_sidecar.core.claim import Charge, Claim
from keelage_sidecar.core.downgrade import Downgraded, at_start
from keelage_sidecar.core.json_span import raw_members, splice
from keelage_sidecar.core.refusal import Refusal
from keelage_sidecar.core.request import Facts
from keelage_sidecar.core.routing import Candidate, Plan, RoutingTable
from keelage_sidecar.core.selection import Case, on_tier_at_once

REQUESTS_MAX = 100_000
"""What Anthropic takes in one batch."""
LOTS_MAX = 8
"""Models and accounts that one batch may mix; each is a hold in the journal, for up to a day."""
_LOT_BITS = 3
Reader = Callable[[bytes], Facts | Refusal]
"""The facts of a Messages call with that body, or why it is refused."""
Used = Callable[[str, str], int | None]
"""Percent of a budget's limit that is used, for a value; None where it is not known."""
_REQUESTS = msgspec.json.Decoder(list[msgspec.Raw])


@dataclass(frozen=True, slots=True)
class Lot:
    """Requests of one model under the same budgets."""

    candidate: Candidate
    claims: tuple[Claim, ...]
    """For all of them together."""
    bound: Bound
    """Likewise, at batch price."""
    bounded: bool
    """False: some request has no bound, and no hard budget asked for one."""
    user: str = ""
    """Whose requests they are; OTHER where they are several users'."""
    cached_long: bool = False
    """Some request asks for a prompt cache entry of 1h."""
    requests: int = 1

    @property
    def worst(self) -> Charge:
        """What is charged where nothing is known about the results."""
        return structs.replace(self.bound.charge, requests=self.requests)

    def with_more(self, other: Lot) -> Lot:
        """Both together: of the same model, under the same budgets."""
        return Lot(
            self.candidate,
            tuple(
                structs.replace(claim, amount=claim.amount + more.amount)
                for claim, more in zip(self.claims, other.claims, strict=True)
            ),
            _sum(self.bound, other.bound),
            self.bounded and other.bounded,
            self.user if self.user == other.user else OTHER,
            self.cached_long or other.cached_long,
            self.requests + other.requests,
        )


def _sum(one: Bound, other: Bound) -> Bound:
    return Bound(
        one.amount + other.amount,
        one.input_tokens + other.input_tokens,
        one.output_tokens + other.output_tokens,
        one.priced and other.priced,
    )


@dataclass(frozen=True, slots=True)
class LotIndex:
    """Which lot a `custom_id` is of: eight bytes for each request, since a batch may be open for a day.

    An entry is a digest with the number of the lot in its lowest bits.
    """

    entries: array[int] = field(default_factory=lambda: array("Q"))
    """Ascending; empty where there is one lot only."""
    sums: tuple[int, ...] = ()
    """By lot: of the digests of all that is in it."""

    @classmethod
    def of(cls, lots: dict[str, int]) -> LotIndex:
        sums = [0] * (max(lots.values(), default=-1) + 1)
        for name, lot in lots.items():
            sums[lot] += digest_of(name)
        many = len(set(lots.values())) > 1
        return cls(array("Q", sorted(digest_of(name) | lot for name, lot in lots.items()) if many else ()), tuple(sums))

    def lot_of(self, custom_id: str) -> int:
        """The lot's number; 0 for an id that is not in the batch."""
        digest = digest_of(custom_id)
        at = bisect_left(self.entries, digest)
        found = self.entries[at] if at < len(self.entries) else 0
        return found & ((1 << _LOT_BITS) - 1) if found >> _LOT_BITS == digest >> _LOT_BITS else 0


def digest_of(custom_id: str) -> int:
    digest = int.from_bytes(blake2b(custom_id.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "big")
    return digest >> _LOT_BITS << _LOT_BITS


@dataclass(frozen=True, slots=True)
class BatchOrder:
    """A whole batch, ready to be paid for and sent."""

    plan: Plan
    """Of its first request."""
    lots: tuple[Lot, ...]
    """Never empty; all at one backend."""
    index: LotIndex
    body: bytes
    """To be sent: as received, but for what tiers and caps replace."""
    changed: tuple[str, ...]
    """Fields of `params` that differ in some request; for the log line."""
    downgraded: Downgraded | None = None
    """Of the first request that got a cheaper tier, since a budget is nearly spent."""
    shadow: BatchShadow | None = None
    """Where something is in shadow."""

    @property
    def backend(self) -> Backend:
        return self.lots[0].candidate.backend

    @property
    def bound(self) -> Bound:
        """Of all lots."""
        return reduce(_sum, (lot.bound for lot in self.lots))

    @property
    def requests(self) -> int:
        return sum(lot.requests for lot in self.lots)


def requests_in(body: bytes) -> list[msgspec.Raw] | Refusal:
    """The batch's requests, each as its JSON stands in the body; a 400 or 413 that says what is wrong."""
    try:
        members = raw_members(body)
    except ValueError as error:
        return _bad("", f"the body {error}")
    misspelt = _misspelt(members, ("requests",))
    if misspelt is not None:
        return _bad(misspelt, "write it in lower case")
    try:
        requests = _REQUESTS.decode(members.get("requests", b"null"))
    except (msgspec.DecodeError, RecursionError):
        return _bad("requests", "a list of requests is needed")
    if not requests:
        return _bad("requests", "at least one request is needed")
    if len(requests) > REQUESTS_MAX:
        return Refusal(
            413, "RequestTooLarge", f"requests: {len(requests)} are more than {REQUESTS_MAX}: send several batches"
        )
    return requests


class BatchDraft:
    """A batch while its requests are read one by one: the caller may pause between them, as there may be 100,000."""

    def __init__(self, table: RoutingTable, body: bytes, read: Reader, used: Used, unix_s: float) -> None:
        self._table = table
        self._body = body
        self._read = read
        self._used = used
        self._unix_s = unix_s
        self._downgraded: Downgraded | None = None
        self._shadow = None if table.rehearsal is None else BatchShadow(table.rehearsal, used, unix_s)
        self._plan: Plan | None = None
        self._lots: list[Lot] = []
        self._keys: dict[tuple[object, ...], int] = {}
        self._names: dict[str, int] = {}
        self._requests: list[bytes | msgspec.Raw] = []
        self._changed: set[str] = set()

    def add(self, request: msgspec.Raw) -> Refusal | None:
        """Read the next request; the refusal names its field as `requests[3].params.max_tokens`."""
        where = f"requests[{len(self._requests)}]"
        raw = bytes(request)
        try:
            members = raw_members(raw)
        except ValueError as error:
            return _bad(where, str(error))
        misspelt = _misspelt(members, ("custom_id", "params"))
        if misspelt is not None:
            return _bad(f"{where}.{misspelt}", "write it in lower case")
        name = _string(members.get("custom_id"))
        if not name:
            return _bad(f"{where}.custom_id", "a string is needed")
        if name in self._names:
            return _bad(f"{where}.custom_id", "another request of the batch has the same: each needs one of its own")
        params = members.get("params", b"null")
        facts = self._read(params)
        if isinstance(facts, Refusal):
            return _inside(where, facts)
        choice = self._choice(where, facts)
        if isinstance(choice, Refusal):
            return choice
        rule, candidate = choice
        lot = self._count(where, facts, rule, candidate)
        if isinstance(lot, Refusal):
            return lot
        self._names[name] = lot
        changes = _changes(facts, candidate)
        self._changed.update(changes)
        self._requests.append(splice(raw, {"params": splice(params, changes)}) if changes else request)
        return None

    def order(self) -> BatchOrder:
        """The whole batch, after its last request; at least one was added."""
        assert self._plan is not None
        body = self._body
        if self._changed:
            body = splice(body, {"requests": b"[" + b",".join(self._requests) + b"]"})
        index = LotIndex.of(self._names)
        changed = tuple(sorted(self._changed))
        return BatchOrder(self._plan, tuple(self._lots), index, body, changed, self._downgraded, self._shadow)

    def _choice(self, where: str, facts: Facts) -> tuple[Rule, Candidate] | Refusal:
        """Whom the request goes to: the backend of all."""
        rule = self._table.rule(facts)
        if isinstance(rule, Refusal):
            return _inside(where, rule)
        plan = on_tier_at_once(self._table, rule, Case(facts, self._used, self._unix_s))
        if isinstance(plan, Refusal):
            return _inside(where, plan)
        downgraded = at_start(self._table, plan, facts, self._used)
        if downgraded is not None:
            plan, self._downgraded = downgraded.plan, self._downgraded or downgraded
        if plan.candidates[0].backend.dialect is not Dialect.ANTHROPIC:
            return _bad(
                f"{where}.params.model",
                f"{facts.model!r} goes to backend {plan.candidates[0].backend.name}, whose provider has no batches of "
                "this API: add an Anthropic backend to the tier, or send the request by itself",
            )
        self._plan = self._plan or plan
        candidate, backend = plan.candidates[0], self._plan.candidates[0].backend
        if candidate.backend.name == backend.name:
            return plan.rule, candidate
        return _bad(
            f"{where}.params.model",
            f"{facts.model!r} goes to backend {candidate.backend.name}, and requests[0] to {backend.name}: "
            "a batch has one backend, so send two batches",
        )

    def _count(self, where: str, facts: Facts, rule: Rule, candidate: Candidate) -> int | Refusal:
        """Add the request to its lot, which may be a new one; the lot's number."""
        bound = bound_of(facts, candidate, candidate.output_cap)
        if isinstance(bound, Unbounded):
            if candidate.hard:
                return _inside(where, bound.refusal())
            priced = Bound(0, 0, 0)
        else:
            priced = structs.replace(bound, amount=_at_batch_price(bound.amount, candidate, facts))
        if self._shadow is not None:
            self._shadow.add(facts, priced)
        claims = self._claims(candidate, rule, facts, priced)
        one = Lot(
            structs.replace(candidate, output_cap=0),
            claims,
            priced,
            isinstance(bound, Bound),
            facts.user,
            facts.weight.cached_long,
        )
        key = (candidate.model, *((claim.budget, claim.value, claim.unit, claim.hard) for claim in claims))
        number = self._keys.get(key)
        if number is not None:
            self._lots[number] = self._lots[number].with_more(one)
            return number
        if len(self._lots) == LOTS_MAX:
            return _bad(
                where,
                f"a batch may mix {LOTS_MAX} models or users that budgets tell apart, and this is one more: "
                "send several batches",
            )
        number = self._keys[key] = len(self._lots)
        self._lots.append(one)
        return number

    def _claims(self, candidate: Candidate, rule: Rule, facts: Facts, bound: Bound) -> tuple[Claim, ...]:
        """Budgets only: a rate is for calls that somebody waits for, and providers count batches apart."""
        return self._table.claims(candidate, rule, facts, bound.charge)


def _at_batch_price(amount: int, candidate: Candidate, facts: Facts) -> int:
    return amount if candidate.price is None else batch_share(amount, candidate.price, facts.parsed.get("speed"))


def _changes(facts: Facts, candidate: Candidate) -> dict[str, bytes]:
    """Members of `params` to set; the tier of service is a batch's own, whatever is asked for."""
    changes: dict[str, bytes] = {}
    if candidate.model != facts.model:
        changes["model"] = orjson.dumps(candidate.model)
    if candidate.output_cap and not facts.capped:
        changes["max_tokens"] = str(candidate.output_cap).encode()
    return changes


def _inside(where: str, refusal: Refusal) -> Refusal:
    """What is wrong with a call, as what is wrong with a request of the batch."""
    field = f"{where}.params.{refusal.field}" if refusal.field else f"{where}.params"
    text = refusal.message.removeprefix(f"{refusal.field}: ") if refusal.field else refusal.message
    return replace(refusal, field=field, message=f"{field}: {text}")


def _bad(field: str, remedy: str) -> Refusal:
    return Refusal(400, "BadRequest", f"{field}: {remedy}" if field else remedy, field)


def _misspelt(members: dict[str, bytes], names: tuple[str, ...]) -> str | None:
    """A member that some servers would read as one of those, which are in lower case."""
    return next((name[:80] for name in members if name not in names and name.casefold() in names), None)


def _string(raw: bytes | None) -> str:
    try:
        value = orjson.loads(raw) if raw is not None else None
    except orjson.JSONDecodeError:  # a lone surrogate, for one
        return ""
    return value if isinstance(value, str) else ""
