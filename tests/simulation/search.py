"""`python -m tests.simulation.search LIMIT FAULTS`: every order of events in a small scope, none left out.

Two holders share a limit of a few units; each speaks so many times, calls cost nothing or their bound of one
unit. The ledger is the real `apply` and `pods_gone`; a holder is its rules in five numbers, since the real one
carries a journal of a quarter of a mebibyte. A fault is a message doubled or an answer lost after its write, a
crash with or without the journal, or a pod that vanishes; messages of different holders overtake each other
without one. In every state:

- I1: what the record has committed is within the limit;
- I2: at each holder spent + reserved <= granted <= granted in its row;
- what the provider billed, and may still bill, is within what is committed.
"""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from keelage_api.sync import Right, Statement
from keelage_operator.core.ledger import Account, Heard, LedgerRecord, Row, apply, committed, pods_gone

WORDS_MAX = 2
"""Statements of one holder."""
BUDGET, WINDOW = "b", "w"
NOW_S = 1
_BLANK = LedgerRecord(datetime(2026, 11, 1, tzinfo=UTC), datetime(2026, 12, 1, tzinfo=UTC))


@dataclass(frozen=True, slots=True)
class Small:
    """A holder: `pod` of two, its incarnation, and what its journal tells."""

    pod: int
    life: int = 1
    granted: int = 0
    spent: int = 0
    reserved: int = 0
    seq: int = 0
    newest: int = 0
    """Whose answer counts; 0: none is awaited."""
    there: bool = True

    @property
    def name(self) -> str:
        return f"{self.pod}.{self.life}"


@dataclass(frozen=True, slots=True)
class State:
    rows: tuple[tuple[str, Row], ...]
    settled: int
    forfeited: int
    holders: tuple[Small, ...]
    asked: frozenset[Heard]
    told: frozenset[tuple[str, Right]]
    billed: int
    faults: int
    """Left."""

    def record(self) -> LedgerRecord:
        return LedgerRecord(
            _BLANK.starts_at,
            _BLANK.ends_at,
            accounts={"": Account(self.settled, self.forfeited, rows=dict(self.rows))},
        )

    def with_record(self, record: LedgerRecord) -> State:
        account = record.account()
        return replace(
            self,
            rows=tuple(sorted(account.rows.items())),
            settled=account.settled,
            forfeited=account.forfeited,
        )

    def with_holder(self, holder: Small) -> State:
        return replace(self, holders=tuple(holder if each.pod == holder.pod else each for each in self.holders))


def broken(state: State, limit: int) -> str:
    """What does not hold in it; empty: all does."""
    record = state.record()
    if committed(record) > limit:
        return f"I1: {committed(record)} of {limit}"
    flying = sum(holder.reserved for holder in state.holders)
    if state.billed + flying > committed(record):
        return f"billed {state.billed}, in flight {flying}, counted {committed(record)}"
    for holder in state.holders:
        row = record.account().rows.get(holder.name, Row())
        if holder.there and not holder.spent + holder.reserved <= holder.granted <= row.granted:
            return f"I2: {holder} in {row}"
    return ""


def following(state: State, limit: int) -> Iterator[tuple[str, State]]:
    """Every event that can come next."""
    for holder in state.holders:
        if holder.there:
            yield from _of_holder(state, holder)
    for heard in state.asked:
        yield from _of_ledger(state, heard, limit)
    for answer in state.told:
        name, right = answer
        heard_of = replace(state, told=state.told - {answer})
        for holder in state.holders:
            if holder.there and holder.name == name and holder.newest == right.seq:
                granted = max(right.granted, min(holder.granted, holder.spent + holder.reserved))
                heard_of = heard_of.with_holder(replace(holder, granted=granted, newest=0))
        yield f"{name} hears {right.granted}", heard_of


def _of_holder(state: State, holder: Small) -> Iterator[tuple[str, State]]:
    name, free = holder.name, holder.granted - holder.spent - holder.reserved
    if free > 0:
        yield f"{name} reserves", state.with_holder(replace(holder, reserved=holder.reserved + 1))
    if holder.reserved:
        for cost in (0, 1):
            done = replace(holder, reserved=holder.reserved - 1, spent=holder.spent + cost)
            yield f"{name} settles {cost}", replace(state.with_holder(done), billed=state.billed + cost)
    if holder.seq < WORDS_MAX:
        for back, want in ((0, 2), (free, 0)):
            spoken = replace(holder, granted=holder.granted - back, seq=holder.seq + 1, newest=holder.seq + 1)
            statement = Statement(
                BUDGET,
                WINDOW,
                spoken.seq,
                spoken.granted,
                spoken.spent,
                spoken.reserved,
                want,
                min(want, 1),
                spoken.granted,
            )
            said = replace(state.with_holder(spoken), asked=state.asked | {Heard(name, statement)})
            yield f"{name} gives back {back} and wants {want}", said
    if state.faults:
        dead = replace(state, faults=state.faults - 1, billed=state.billed + holder.reserved)
        kept = replace(holder, spent=holder.spent + holder.reserved, reserved=0, newest=0)
        yield f"{name} crashes", dead.with_holder(kept)
        if holder.life == 1:
            yield f"{name} loses its journal", dead.with_holder(Small(holder.pod, holder.life + 1))
        gone = replace(holder, there=False, reserved=0)
        left = dead.with_holder(gone).with_record(pods_gone(state.record(), {str(holder.pod): None}))
        # The token of a deleted pod is refused: nothing that it said arrives any more.
        others = frozenset(heard for heard in left.asked if not heard.holder.startswith(f"{holder.pod}."))
        yield f"{name} vanishes", replace(left, asked=others)


def _of_ledger(state: State, heard: Heard, limit: int) -> Iterator[tuple[str, State]]:
    applied = apply(state.record(), (heard,), limit, NOW_S)
    stored = state.with_record(applied.record)
    rest = replace(stored, asked=state.asked - {heard})
    answers = frozenset(applied.rights)
    yield f"{heard.holder} is heard", replace(rest, told=state.told | answers)
    if not applied.urgent:
        # Answered, and the leader died before it stored what need not have been stored.
        yield (
            f"{heard.holder} is heard by a leader that dies",
            replace(
                state,
                asked=state.asked - {heard},
                told=state.told | answers,
            ),
        )
    if state.faults:
        spent = state.faults - 1
        yield f"{heard.holder} is heard twice", replace(stored, told=state.told | answers, faults=spent)
        yield f"{heard.holder} is not answered", replace(rest, faults=spent)


def search(limit: int, faults: int, states_max: int) -> tuple[int, bool]:
    """The number of states, and whether they are all. AssertionError: the shortest way to one that is broken."""
    first = State((), 0, 0, (Small(1), Small(2)), frozenset(), frozenset(), 0, faults)
    came: dict[State, tuple[State, str] | None] = {first: None}
    queue = deque([first])
    while queue and len(came) < states_max:
        state = queue.popleft()
        for event, after in following(state, limit):
            after = _pruned(after)
            if after in came:
                continue
            came[after] = (state, event)
            wrong = broken(after, limit)
            assert not wrong, f"{wrong} after: {'; '.join(_way(came, after))}"
            queue.append(after)
    return len(came), not queue


def _pruned(state: State) -> State:
    """Without messages that would change nothing: answers that are void, statements that were heard."""
    awaited = {(holder.name, holder.newest) for holder in state.holders if holder.there}
    heard = {name: row.seq for name, row in state.rows}
    return replace(
        state,
        asked=frozenset(each for each in state.asked if each.statement.seq > heard.get(each.holder, 0)),
        told=frozenset(each for each in state.told if (each[0], each[1].seq) in awaited),
    )


def _way(came: dict[State, tuple[State, str] | None], state: State) -> list[str]:
    events: list[str] = []
    while (step := came[state]) is not None:
        state, event = step
        events.append(event)
    return events[::-1]


def main(limit: int, faults: int, states_max: int) -> int:
    states, all_of_them = search(limit, faults, states_max)
    print(
        f"limit {limit}, {faults} faults: {states} states, {'all' if all_of_them else 'not all'}; every promise holds"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]) if sys.argv[3:] else 5_000_000))
