"""All quotas that this replica leads: what sidecars told and lease of them, in memory only.

A rate forgets by itself, so nothing is stored: a new leader's buckets begin empty at the moment
it began to lead, and holders claim what they have. Two leaders at a time would each fill buckets
of their own; the Lease keeps that to seconds. Who gets what is decided by `core/bucket`.
"""

from __future__ import annotations

import asyncio
import re
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace

from keelage_api.account import PART_MAX
from keelage_api.proxy_config import Quota
from keelage_api.sync import Right, Statement
from keelage_operator.core.bucket import Bucket
from keelage_operator.core.identity import PodIdentity
from keelage_operator.shell.ledger_page import LedgerUnavailable

GATHER_S = 0.03
"""What sidecars say within that time is shared at once: a call may wait for it."""
BUCKETS_MAX = 100_000
"""Of the whole cluster, a kibibyte each at most: values that were used within their window."""
LOOKS = 64
"""Buckets looked at after each gathering, whether they can be forgotten; the longest unused first."""
LOOK_EVERY_MS = 10_000
CROWDED_MS = 600_000
"""For so long a quota is told to have too many values after one was turned away."""
SILENT_MS = 45_000
"""A sidecar speaks every few seconds, and enforces the rates by itself when nobody answers: what it leases does
not keep others waiting for longer than this."""
SUCCEEDED_MS = 10_000
"""So long silent while another incarnation of its pod speaks, then that has succeeded it. Incarnations have no order,
and the words of one that is dead may arrive late, between those of the living: an exchange that timed out and the two
after it that were lost take less."""
RUNS_MAX = 4
"""Incarnations of one pod at a time."""

_PART = re.compile(rf"~?[A-Za-z0-9_.@:+=-]{{1,{PART_MAX}}}")


def _ignore(_namespace: str) -> None:
    return None


Key = tuple[str, str]
"""Quota and value."""


@dataclass(slots=True)
class QuotaFigures:
    """Of one quota, over all its values."""

    leased: int = 0
    """In all since this replica leads, in the unit of the quota."""
    refusals: int = 0
    """Statements that were told that a call does not fit now."""
    values: int = 0
    """Buckets that are not full, or leased from."""
    held: int = 0
    """Leased and not used, as far as is known."""


@dataclass(slots=True)
class _Sidecar:
    """One incarnation."""

    uid: str
    heard_ms: int
    folded_seq: int = 0
    """The newest statement that ended a row: older ones are void, though there is no row to tell."""
    buckets: set[Key] = field(default_factory=set)
    """Where it has a row."""


class _Gathering:
    """Statements that are heard already and are answered together."""

    def __init__(self) -> None:
        self.asked: dict[Key, dict[str, Statement]] = {}
        self.answers: dict[tuple[str, int], Right] | None = None
        """By holder and seq; None: this replica leads no more."""
        self.done = asyncio.Event()


class QuotaBook:
    """Used by one event loop; grants only between `lead()` and `stop_leading()`."""

    def __init__(self, clock: Callable[[], float], gather_s: float = GATHER_S, buckets_max: int = BUCKETS_MAX) -> None:
        """`clock` gives monotonic seconds."""
        self._clock = clock
        self._gather_s = gather_s
        self._buckets_max = buckets_max
        self._quotas: dict[str, Quota] = {}
        self._empty_since_ms: dict[str, int] = {}
        """Quotas whose former use is not known."""
        self._buckets: OrderedDict[Key, Bucket] = OrderedDict()
        """The longest unused first."""
        self._looked_ms: dict[Key, int] = {}
        self._sidecars: OrderedDict[str, _Sidecar] = OrderedDict()
        """By holder, the longest silent first."""
        self._runs: dict[str, list[str]] = {}
        """By pod uid: its holders, the one that was met first first."""
        self._figures: dict[str, QuotaFigures] = {}
        self._crowded_ms: dict[str, int] = {}
        """When a value of the quota was turned away last."""
        self.on_crowded: Callable[[str], None] = _ignore
        """Told the namespace of a quota that has too many values since now."""
        self._gathering: _Gathering | None = None
        self._leading = False

    @property
    def leading(self) -> bool:
        return self._leading

    def lead(self, after_nobody: bool = False) -> None:
        """Begin with empty buckets, since another replica may have granted what was in them; `after_nobody`: with
        full ones."""
        self.stop_leading()
        self._leading = True
        self._empty_since_ms = {} if after_nobody else dict.fromkeys(self._quotas, self._now_ms())

    def stop_leading(self) -> None:
        """Grant nothing from here on; whoever waits gets LedgerUnavailable."""
        self._leading = False
        if self._gathering is not None:
            self._gathering.done.set()
            self._gathering = None
        for known in (self._buckets, self._looked_ms, self._sidecars, self._runs, self._figures, self._crowded_ms):
            known.clear()

    def set_quotas(self, quotas: Mapping[str, Quota]) -> None:
        """All those in force, by name."""
        self.change_quotas({**dict.fromkeys(self._quotas.keys() - quotas.keys()), **quotas})

    def change_quotas(self, changed: Mapping[str, Quota | None]) -> None:
        """Those in force from now on, by name; None: not any more. The others stay."""
        now_ms = self._now_ms()
        known = {name for name in changed if name in self._quotas and self._quotas[name] != changed[name]}
        for key, bucket in list(self._buckets.items()) if known else ():
            if key[0] not in known:
                continue
            quota = changed[key[0]]
            if quota is None:
                self._drop(key)
            else:
                bucket.obey(quota, now_ms)
        for name, quota in changed.items():
            if quota is not None:
                self._quotas[name] = quota
                continue
            self._quotas.pop(name, None)
            self._empty_since_ms.pop(name, None)
            self._figures.pop(name, None)
            self._crowded_ms.pop(name, None)

    async def sync(self, pod: PodIdentity, incarnation: str, statements: Iterable[Statement]) -> tuple[Right, ...]:
        """Rights for one pod's statements, a moment later; a statement that came too late has none.

        Raises LedgerUnavailable if this replica does not lead.
        """
        if not self._leading:
            raise LedgerUnavailable("this replica does not lead")
        now_ms = self._now_ms()
        holder = f"{pod.uid}.{incarnation}"
        self._meet(pod.uid, holder, now_ms)
        self._forget_silent(now_ms)
        rights: list[Right] = []
        heard: list[int] = []
        gathering = self._gathering or _Gathering()
        for statement in sorted(statements, key=lambda each: each.seq):
            error = self._fault(pod, statement) or self._full(statement, now_ms)
            if error:
                rights.append(_error(statement, error))
            elif statement.final and self._folded(holder, statement):
                rights.append(_farewell(statement))
            elif self._hear(holder, statement, gathering, now_ms):
                heard.append(statement.seq)
        if not heard:
            return tuple(rights)
        if self._gathering is None:
            self._gathering = gathering
            asyncio.get_running_loop().call_later(self._gather_s, self._answer, gathering)
        await gathering.done.wait()
        if gathering.answers is None:
            raise LedgerUnavailable("this replica does not lead any more")
        return (*rights, *(gathering.answers[holder, seq] for seq in heard if (holder, seq) in gathering.answers))

    def pod_gone(self, uid: str) -> None:
        """The pod object is gone, and with it what it leased."""
        for holder in list(self._runs.get(uid, ())):
            self._vanish(holder, self._now_ms())

    def pods(self) -> frozenset[str]:
        """Uids of all pods that lease anything."""
        return frozenset(sidecar.uid for sidecar in self._sidecars.values() if sidecar.buckets)

    def figures(self) -> dict[str, QuotaFigures]:
        """By quota in force; empty if this replica does not lead."""
        if not self._leading:
            return {}
        values, held = Counter[str](), Counter[str]()
        for (name, _), bucket in self._buckets.items():
            values[name] += 1
            held[name] += bucket.leased
        return {
            name: replace(self._figures.get(name, QuotaFigures()), values=values[name], held=held[name])
            for name in self._quotas
        }

    def crowded(self) -> frozenset[str]:
        """Quotas of which a value was turned away lately, since too many are in use."""
        since_ms = self._now_ms() - CROWDED_MS
        return frozenset(name for name, at_ms in self._crowded_ms.items() if at_ms >= since_ms)

    def _hear(self, holder: str, statement: Statement, gathering: _Gathering, now_ms: int) -> bool:
        key = statement.budget, statement.value
        sidecar = self._sidecars[holder]
        bucket = self._buckets.get(key)
        if self._folded(holder, statement):
            return False
        if bucket is None:
            since_ms = self._empty_since_ms.get(statement.budget)
            bucket = Bucket(self._quotas[statement.budget], None if since_ms is None else now_ms - since_ms, now_ms)
            self._buckets[key] = bucket
        self._buckets.move_to_end(key)
        self._looked_ms[key] = now_ms
        if not bucket.hear(holder, statement, now_ms):
            return False
        if holder in bucket.rows:
            sidecar.buckets.add(key)
        else:
            sidecar.buckets.discard(key)
            sidecar.folded_seq = max(sidecar.folded_seq, statement.seq)
        gathering.asked.setdefault(key, {})[holder] = statement
        return True

    def _folded(self, holder: str, statement: Statement) -> bool:
        """Whether it is from before the goodbye that ended its row; a goodbye is said again until it is answered."""
        bucket = self._buckets.get((statement.budget, statement.value))
        return (bucket is None or holder not in bucket.rows) and statement.seq <= self._sidecars[holder].folded_seq

    def _answer(self, gathering: _Gathering) -> None:
        if self._gathering is not gathering:
            return
        self._gathering = None
        now_ms = self._now_ms()
        gathering.answers = {}
        for key, asked in gathering.asked.items():
            bucket = self._buckets.get(key)
            if bucket is None:  # its quota is not in force any more: asked again, it is said so
                continue
            told = self._figures.setdefault(key[0], QuotaFigures())
            granted = sum(row.granted for holder, row in bucket.rows.items() if holder in asked)
            for holder, right in bucket.grant(asked, now_ms).items():
                gathering.answers[holder, right.seq] = right
                told.refusals += right.exhausted
            told.leased += sum(row.granted for holder, row in bucket.rows.items() if holder in asked) - granted
        gathering.done.set()
        self._look(LOOKS, now_ms)

    # What is forgotten

    def _meet(self, uid: str, holder: str, now_ms: int) -> None:
        """It speaks; those of its pod that have not for long are no more."""
        if holder not in self._sidecars:
            self._sidecars[holder] = _Sidecar(uid, now_ms)
            self._runs.setdefault(uid, []).append(holder)
        self._sidecars[holder].heard_ms = now_ms
        self._sidecars.move_to_end(holder)
        runs = self._runs[uid]
        for each in [each for each in runs if now_ms - self._sidecars[each].heard_ms >= SUCCEEDED_MS]:
            self._vanish(each, now_ms)
        while len(runs) > RUNS_MAX:
            self._vanish(next(each for each in runs if each != holder), now_ms)

    def _forget_silent(self, now_ms: int) -> None:
        while self._sidecars:
            holder, sidecar = next(iter(self._sidecars.items()))
            if now_ms - sidecar.heard_ms <= SILENT_MS:
                return
            self._vanish(holder, now_ms)

    def _vanish(self, holder: str, now_ms: int) -> None:
        sidecar = self._sidecars.pop(holder)
        runs = self._runs[sidecar.uid]
        runs.remove(holder)
        if not runs:
            del self._runs[sidecar.uid]
        for key in sidecar.buckets:
            if key in self._buckets:
                self._buckets[key].forget(holder, now_ms)

    def _drop(self, key: Key) -> None:
        for holder in self._buckets.pop(key).rows:
            sidecar = self._sidecars.get(holder)
            if sidecar is not None:
                sidecar.buckets.discard(key)
        self._looked_ms.pop(key, None)

    def _look(self, most: int, now_ms: int) -> None:
        """Forget buckets that say nothing."""
        for key in [key for key, _ in zip(self._buckets, range(most), strict=False)]:
            if now_ms - self._looked_ms[key] < LOOK_EVERY_MS:
                return
            if self._buckets[key].blank(now_ms):
                self._drop(key)
            else:
                self._looked_ms[key] = now_ms
                self._buckets.move_to_end(key)

    # What cannot be answered

    def _fault(self, pod: PodIdentity, statement: Statement) -> str:
        quota = self._quotas.get(statement.budget)
        if quota is None or not statement.budget.startswith(f"{pod.namespace}/"):
            return f"limit {statement.budget} is not in force: its LLMRoute was changed or deleted"
        parts = statement.value.split("/") if statement.value else []
        if len(parts) != len(quota.per) or not all(_PART.fullmatch(part) for part in parts):
            each = " and ".join(per.value for per in quota.per) or "nothing"
            return f"limit {statement.budget} holds per {each}: {statement.value[:200]!r} is no value of that"
        return ""

    def _full(self, statement: Statement, now_ms: int) -> str:
        if (statement.budget, statement.value) in self._buckets or len(self._buckets) < self._buckets_max:
            return ""
        self._look(self._buckets_max // 100, now_ms)
        if len(self._buckets) < self._buckets_max:
            return ""
        news = statement.budget not in self.crowded()
        self._crowded_ms[statement.budget] = now_ms
        if news:
            self.on_crowded(statement.budget.partition("/")[0])
        return (
            f"limit {statement.budget}: {self._buckets_max} values are in use already: shorten the windows of"
            " rateLimits, or hold them per Feature or Pod instead of per User"
        )

    def _now_ms(self) -> int:
        return int(self._clock() * 1000)


def _farewell(statement: Statement) -> Right:
    return Right(
        statement.budget,
        statement.window,
        statement.seq,
        granted=statement.spent,
        spent=statement.spent,
        value=statement.value,
    )


def _error(statement: Statement, text: str) -> Right:
    return Right(
        statement.budget, statement.window, statement.seq, granted=statement.spent, error=text, value=statement.value
    )
