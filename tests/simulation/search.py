"""`python -m tests.simulation.search`: every order of events in small scopes, none left out.

One scope of your own: `... search HOLDERS LIMIT FAULTS WORDS VALUED [STATES]`.

Holders share a limit of a few units; each speaks so many times, calls cost nothing or their bound of one unit. The
ledger is the real `apply` and `pods_gone`; a holder is its rules in a few numbers. A fault is a message doubled or an
answer lost after its write, a crash with or without the journal, or a pod that vanishes; messages of different
holders overtake each other without one. In a ledger with values a holder says goodbye, its row is folded, and it asks
again, also before it has heard the answer. In every state:

- I1: what the record has committed is within the limit;
- I2: at each holder spent + reserved <= granted <= granted in its row;
- what the provider billed, and may still bill, is within what is committed;
- no more is counted as spent than was billed.

States that differ only in which pod is which are one; of those that differ only in what was billed, the ones with the
greatest and the least bill break whatever the others would.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache, partial
from typing import NamedTuple

from keelage_api.sync import Right, Statement
from keelage_operator.core.ledger import Account, Heard, LedgerRecord, Row, RowState, apply, pods_gone

BUDGET, WINDOW = "shop/b", "2026-11"
NOW_S = 1
_MONTH = datetime(2026, 11, 1, tzinfo=UTC), datetime(2026, 12, 1, tzinfo=UTC)


class Told(NamedTuple):
    """A right on its way."""

    life: int
    seq: int
    granted: int
    spent: int


class Said(NamedTuple):
    """A statement on its way."""

    life: int
    seq: int
    granted: int
    spent: int
    reserved: int
    want: int
    final: bool
    question: bool = False
    """For the current window, which happens to be that of the account that it gives up."""


class Kept(NamedTuple):
    """A row of the ledger."""

    life: int
    granted: int
    spent: int
    reserved: int
    seq: int
    state: RowState


class Pod(NamedTuple):
    """A holder, what its journal tells, what the ledger knows of it, and its messages."""

    there: bool = True
    life: int = 1
    granted: int = 0
    spent: int = 0
    reserved: int = 0
    seq: int = 0
    newest: int = 0
    """Whose answer counts; 0: none is awaited."""
    leaving: bool = False
    """It has said goodbye on this account, and reserves nothing before that is answered."""
    rows: tuple[Kept, ...] = ()
    seen: tuple[tuple[int, int], ...] = ()
    """Life and number of rows that were folded."""
    buried: bool = False
    """The ledger knows that the pod is gone."""
    said: tuple[Said, ...] = ()
    told: tuple[Told, ...] = ()


class State(NamedTuple):
    settled: int
    forfeited: int
    faults: int
    """Left."""
    pods: tuple[Pod, ...]
    billed: int


@dataclass(frozen=True, slots=True)
class Scope:
    holders: int
    limit: int
    faults: int
    words: int = 2
    """Statements of one holder."""
    valued: bool = False

    @property
    def value(self) -> str:
        return "v" if self.valued else ""

    def first(self) -> State:
        return State(0, 0, self.faults, (Pod(),) * self.holders, 0)


def broken(state: State, scope: Scope) -> str:
    """What does not hold in it; empty: all does."""
    committed = state.settled + state.forfeited + sum(row.granted for pod in state.pods for row in pod.rows)
    if committed > scope.limit:
        return f"I1: {committed} of {scope.limit}"
    flying = sum(pod.reserved for pod in state.pods)
    if state.billed + flying > committed:
        return f"billed {state.billed}, in flight {flying}, counted {committed}"
    counted = state.settled + sum(row.spent for pod in state.pods for row in pod.rows)
    if counted > state.billed:
        return f"billed {state.billed}, counted as spent {counted}"
    for pod in state.pods:
        if pod.there and not pod.spent + pod.reserved <= pod.granted <= _held(pod):
            return f"I2: {pod}"
    return ""


def _held(pod: Pod) -> int:
    """What the ledger holds for the living incarnation; one that was folded has what it spent, and no more."""
    for row in pod.rows:
        if row.life == pod.life:
            return row.granted
    return pod.spent if any(life == pod.life for life, _ in pod.seen) else 0


class Search:
    def __init__(self, scope: Scope) -> None:
        self.scope = scope
        self._heard: dict[tuple[object, ...], tuple[State, Told | None, bool]] = {}
        """What the ledger makes of a statement: the same for thousands of states."""

    def following(self, state: State) -> Iterator[tuple[str, State]]:
        """Every event that can come next."""
        before = None
        for index, pod in enumerate(state.pods):
            if pod == before:
                continue  # equal pods have equal futures
            before = pod
            if pod.there:
                yield from self._of_holder(state, index, pod)
                yield from self._hearing(state, index, pod)
            for said in pod.said:
                yield from self._of_ledger(state, index, pod, said)

    def _of_holder(self, state: State, index: int, pod: Pod) -> Iterator[tuple[str, State]]:
        name, free = f"{index}.{pod.life}", pod.granted - pod.spent - pod.reserved
        if free > 0 and not pod.leaving:
            yield f"{name} reserves", _with(state, index, pod._replace(reserved=pod.reserved + 1))
        if pod.reserved:
            for cost in (0, 1):
                done = pod._replace(reserved=pod.reserved - 1, spent=pod.spent + cost)
                yield f"{name} settles {cost}", _with(state, index, done)._replace(billed=state.billed + cost)
        if pod.seq < self.scope.words:
            for back, want in ((0, 2), (free, 0)):
                yield f"{name} gives back {back} and wants {want}", _with(state, index, _spoken(pod, back, want))
            if self.scope.valued and not pod.reserved:
                yield f"{name} says goodbye", _with(state, index, _spoken(pod, free, 0, final=True))
            if pod.leaving:
                yield f"{name} asks for the window", _with(state, index, _asked(pod))
        if state.faults:
            yield from self._fates(state, index, pod, name)

    def _fates(self, state: State, index: int, pod: Pod, name: str) -> Iterator[tuple[str, State]]:
        dead = state._replace(faults=state.faults - 1, billed=state.billed + pod.reserved)
        kept = pod._replace(spent=pod.spent + pod.reserved, reserved=0, newest=0, leaving=False)
        yield f"{name} crashes", _with(dead, index, kept)
        if pod.life == 1:
            blank = Pod(life=2, rows=pod.rows, seen=pod.seen, said=pod.said)
            yield f"{name} loses its journal", _with(dead, index, blank)
        # What it said may still be on its way to another leader.
        left = _with(dead, index, pod._replace(there=False, reserved=0, told=()))
        record = pods_gone(self._record(left), {str(index): None})
        yield f"{name} vanishes", self._with_record(left, record)

    def _hearing(self, state: State, index: int, pod: Pod) -> Iterator[tuple[str, State]]:
        for told in pod.told:
            spent = max(pod.spent, told.spent)
            granted = max(told.granted, told.spent, min(pod.granted, spent + pod.reserved))
            after = pod._replace(granted=granted, spent=spent, newest=0)
            if pod.leaving:
                after = pod._replace(granted=0, spent=0, newest=0, leaving=False)
            yield f"{index}.{pod.life} hears {told.granted}", _with(state, index, after)

    def _of_ledger(self, state: State, index: int, pod: Pod, said: Said) -> Iterator[tuple[str, State]]:
        name = f"{index}.{said.life}"
        stored, told, urgent = self._hear(state, index, said)
        stored = stored._replace(billed=state.billed)
        answers = (told,) if told is not None else ()
        there = stored.pods[index]
        rest = _without(there, said)
        yield f"{name} is heard", _with(stored, index, rest._replace(told=rest.told + answers))
        if not urgent:
            # Answered, and the leader died before it stored what need not have been stored.
            lost = _without(pod, said)
            dies = _with(state, index, lost._replace(told=lost.told + answers))
            yield f"{name} is heard by a leader that dies", dies
        if state.faults:
            spent = stored._replace(faults=state.faults - 1)
            yield f"{name} is heard twice", _with(spent, index, there._replace(told=there.told + answers))
            yield f"{name} is not answered", _with(spent, index, rest)

    def _hear(self, state: State, index: int, said: Said) -> tuple[State, Told | None, bool]:
        key = (state.settled, state.forfeited, index, said, *((pod.rows, pod.seen, pod.buried) for pod in state.pods))
        found = self._heard.get(key)
        if found is None:
            applied = apply(self._record(state), (self._statement(index, said),), self.scope.limit, NOW_S)
            right = next((right for _, right in applied.rights), None)
            after = self._with_record(state, applied.record)
            found = self._heard[key] = (after, _told(said.life, right), applied.urgent)
            return found
        known, told, urgent = found
        pods = tuple(
            pod._replace(rows=then.rows, seen=then.seen) for pod, then in zip(state.pods, known.pods, strict=True)
        )
        return State(known.settled, known.forfeited, state.faults, pods, state.billed), told, urgent

    def _statement(self, index: int, said: Said) -> Heard:
        statement = Statement(
            BUDGET,
            WINDOW,
            said.seq,
            said.granted,
            said.spent,
            said.reserved,
            said.want,
            min(said.want, 1),
            max(said.granted, said.spent + said.reserved),
            said.final,
            self.scope.value,
            besides=(WINDOW,) if said.question else (),
        )
        return Heard(f"{index}.{said.life}", statement)

    def _record(self, state: State) -> LedgerRecord:
        rows = {
            f"{index}.{row.life}": Row(row.granted, row.spent, reserved=row.reserved, seq=row.seq, state=row.state)
            for index, pod in enumerate(state.pods)
            for row in pod.rows
        }
        seen = {f"{index}.{life}": seq for index, pod in enumerate(state.pods) for life, seq in pod.seen}
        accounts = {self.scope.value: Account(settled=state.settled, forfeited=state.forfeited, rows=rows)}
        buried = tuple(str(index) for index, pod in enumerate(state.pods) if pod.buried)
        return LedgerRecord(*_MONTH, seen=seen, buried=buried, accounts=accounts)

    def _with_record(self, state: State, record: LedgerRecord) -> State:
        account = record.account(self.scope.value)
        rows: list[list[Kept]] = [[] for _ in state.pods]
        seen: list[list[tuple[int, int]]] = [[] for _ in state.pods]
        # Times, and who waits, change who gets something and not how much there is.
        for holder, row in account.rows.items():
            index, _, life = holder.partition(".")
            rows[int(index)].append(Kept(int(life), row.granted, row.spent, row.reserved, row.seq, row.state))
        for holder, seq in record.seen.items():
            index, _, life = holder.partition(".")
            seen[int(index)].append((int(life), seq))
        pods = tuple(
            pod._replace(
                rows=tuple(sorted(rows[index])), seen=tuple(sorted(seen[index])), buried=str(index) in record.buried
            )
            for index, pod in enumerate(state.pods)
        )
        return state._replace(settled=account.settled, forfeited=account.forfeited, pods=pods)


def _spoken(pod: Pod, back: int, want: int, final: bool = False) -> Pod:
    seq, granted = pod.seq + 1, pod.granted - back
    said = Said(pod.life, seq, granted, pod.spent, pod.reserved, want, final)
    return pod._replace(granted=granted, seq=seq, newest=seq, leaving=final, said=(*pod.said, said))


def _asked(pod: Pod) -> Pod:
    """A question with which nothing is said of the account; its answer would be that of another one."""
    seq = pod.seq + 1
    return pod._replace(seq=seq, newest=0, said=(*pod.said, Said(pod.life, seq, 0, 0, 0, 2, False, question=True)))


def _told(life: int, right: Right | None) -> Told | None:
    return Told(life, right.seq, right.granted, right.spent) if right is not None else None


def _without(pod: Pod, said: Said) -> Pod:
    return pod._replace(said=tuple(each for each in pod.said if each != said))


def _with(state: State, index: int, pod: Pod) -> State:
    return state._replace(pods=(*state.pods[:index], pod, *state.pods[index + 1 :]))


def canonical(state: State) -> State:
    """Without messages that would change nothing, and with the pods in one order."""
    return state._replace(pods=tuple(sorted(map(_tidy, state.pods))))


@lru_cache(maxsize=1 << 18)
def _tidy(pod: Pod) -> Pod:
    if not pod.said and not pod.told:
        return pod
    seen = dict(pod.seen)
    heard = {**seen, **{row.life: row.seq for row in pod.rows}}
    said = {each for each in pod.said if each.seq > heard.get(each.life, 0)}
    told = {each for each in pod.told if pod.there and each.life == pod.life and each.seq == pod.newest}
    return pod._replace(said=tuple(sorted(said)), told=tuple(sorted(told)))


def search(scope: Scope, states_max: int) -> tuple[int, bool]:
    """The number of states, and whether they are all. AssertionError: the shortest way to one that is broken."""
    bills: dict[int, tuple[int, int]] = {}
    """By digest of a state without its bill: the least and the greatest one that it was reached with."""
    level, finder = [canonical(scope.first())], Search(scope)
    while level:
        following: list[State] = []
        for state in level:
            for _, after in finder.following(state):
                after = canonical(after)
                digest = hash(after[:4])
                least, most = bills.get(digest, (after.billed + 1, after.billed - 1))
                if least <= after.billed <= most:
                    continue
                wrong = broken(after, scope)
                assert not wrong, f"{wrong} after: {'; '.join(_way(scope, after))}"
                bills[digest] = min(least, after.billed), max(most, after.billed)
                following.append(after)
            if len(bills) >= states_max:
                return len(bills), False
        level = following
    return len(bills), True


def _way(scope: Scope, wanted: State) -> list[str]:
    """The events that lead to it, found once more: that many ways are not kept for a failure that never comes."""
    first = canonical(scope.first())
    came: dict[State, tuple[State, str] | None] = {first: None}
    level, finder = [first], Search(scope)
    while wanted not in came:
        reached: list[State] = []
        for state in level:
            for event, after in finder.following(state):
                after = canonical(after)
                if after not in came:
                    came[after] = (state, event)
                    reached.append(after)
        level = reached
    events: list[str] = []
    state = wanted
    while (step := came[state]) is not None:
        state, event = step
        events.append(event)
    return events[::-1]


STATES_MAX = 10_000_000
"""A hundred bytes each, and the states of the newest level whole."""
SCOPES: tuple[Scope, ...] = (
    Scope(holders=2, limit=2, faults=1, valued=True),  # the longest first: they run beside each other
    Scope(holders=2, limit=2, faults=1),
    Scope(holders=2, limit=2, faults=0, words=3, valued=True),
    Scope(holders=3, limit=2, faults=0),
    Scope(holders=2, limit=4, faults=0, valued=True),
    Scope(holders=2, limit=4, faults=0),
)
"""What `make search` searches to the end."""


def main(scopes: tuple[Scope, ...], states_max: int) -> int:
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        for scope, (states, whole) in zip(
            scopes, pool.map(partial(search, states_max=states_max), scopes), strict=True
        ):
            print(f"{scope}: {states} states, {'all' if whole else 'not all'}; every promise holds", flush=True)
    return 0


if __name__ == "__main__":
    if sys.argv[1:]:
        holders, limit, faults, words, valued = (int(word) for word in sys.argv[1:6])
        chosen: tuple[Scope, ...] = (Scope(holders, limit, faults, words, bool(valued)),)
    else:
        chosen = SCOPES
    sys.exit(main(chosen, int(sys.argv[6]) if sys.argv[6:] else STATES_MAX))
