"""The bucket of a quota: what is shared, what comes back, and that no stretch of time sees more than the rate."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

import pytest

from keelage_api.proxy_config import Quota, Unit
from keelage_api.sync import Right, Statement
from keelage_operator.core.bucket import ACTIVE_MS, CONFIRM_MS, LEARNING_MS, RENEW_S, WAITS_MS, Bucket

NAME = "shop/rate:chat/all:0"
MINUTE = Quota(NAME, Unit.REQUESTS, limit=60, window_ms=60_000, route="shop/chat")
QUEUED = Quota(NAME, Unit.TOKENS, limit=60, window_ms=60_000, route="shop/chat", queue_wait_ms=5_000)
AT_ONCE = Quota(NAME, Unit.CONCURRENT, limit=10, window_ms=0, route="shop/chat", queue_wait_ms=5_000)


def bucket(quota: Quota = MINUTE, filled_ms: int | None = None) -> Bucket:
    return Bucket(quota, filled_ms, now_ms=0)


def word(
    seq: int,
    want: int = 0,
    least: int = 0,
    granted: int = 0,
    spent: int = 0,
    reserved: int = 0,
    final: bool = False,
    left: int = -1,
    window: str = "rate",
    queued: int = 0,
) -> Statement:
    keep = max(granted, spent + reserved)
    return Statement(NAME, window, seq, granted, spent, reserved, want, least, keep, final, left=left, queued=queued)


def tell(bucket: Bucket, now_ms: int, **statements: Statement) -> dict[str, Right]:
    heard = {holder: statement for holder, statement in statements.items() if bucket.hear(holder, statement, now_ms)}
    return bucket.grant(heard, now_ms)


def granted(rights: dict[str, Right]) -> dict[str, int]:
    return {holder: right.granted for holder, right in rights.items()}


def test_an_answer_names_everything_that_the_holder_must_know() -> None:
    (right,) = tell(bucket(), 0, a=word(7, want=1, least=1, window="")).values()
    assert right == Right(NAME, "rate", 7, granted=1, ends_in_s=RENEW_S, limit=60, spent=0)


def test_those_who_ask_together_get_shares_by_demand() -> None:
    assert granted(tell(bucket(), 0, a=word(1, want=40, least=1), b=word(1, want=3, least=1))) == {"a": 15, "b": 3}


def test_calls_that_wait_come_before_calls_that_are_expected() -> None:
    rights = tell(bucket(), 0, a=word(1, want=90, least=1, queued=50), b=word(1, want=90, least=1, queued=8))
    assert granted(rights) == {"a": 50, "b": 8}
    assert not any(right.exhausted for right in rights.values())


def test_a_leader_that_stood_still_between_hearing_and_granting_grants_no_more_than_there_is() -> None:
    it = bucket()
    asked = {holder: word(1, want=40) for holder in ("a", "b", "c")}
    for holder, statement in asked.items():
        it.hear(holder, statement, 0)
    assert sum(granted(it.grant(asked, 60_000)).values()) <= 30
    assert it.level + it.leased == 60


def test_who_has_more_calls_waiting_than_there_is_hears_it_with_the_grant() -> None:
    rights = tell(bucket(), 0, a=word(1, want=90, least=1, queued=50), b=word(1, want=90, least=1, queued=45))
    assert granted(rights) == {"a": 30, "b": 30}
    assert all(right.exhausted for right in rights.values())
    (patient,) = tell(bucket(QUEUED), 0, a=word(1, want=90, least=1, queued=90)).values()
    assert (patient.granted, patient.exhausted) == (60, False)


def test_a_new_leader_begins_empty_and_fills_at_the_rate() -> None:
    empty = bucket(filled_ms=0)
    (right,) = tell(empty, 0, a=word(1, want=5, least=1)).values()
    assert (right.granted, right.exhausted) == (0, True)
    assert granted(tell(empty, 999, a=word(2, want=1, least=1))) == {"a": 0}
    assert granted(tell(empty, 1000, a=word(3, want=1, least=1))) == {"a": 1}
    assert bucket(filled_ms=30_000).level == 30
    assert bucket(filled_ms=3_600_000).level == 60


def test_a_claim_takes_room_at_once_and_no_more_than_room() -> None:
    fresh = bucket(filled_ms=60_000)
    tell(fresh, 0, a=word(9, granted=1040, spent=1000))
    assert (fresh.leased, fresh.level) == (40, 20)
    early = bucket(filled_ms=0)
    tell(early, 0, a=word(9, granted=1040, spent=1000))
    assert (early.leased, early.level) == (40, 0)
    tell(early, 60_000, b=word(1))
    assert early.level == 20


def test_no_claim_is_honoured_beyond_the_limit() -> None:
    assert granted(tell(bucket(), 0, a=word(1, granted=10**15))) == {"a": 60}


def test_an_older_statement_changes_nothing() -> None:
    it = bucket()
    tell(it, 0, a=word(1, want=10, least=10))
    tell(it, 0, a=word(3, granted=10, spent=4))
    assert tell(it, 0, a=word(2, granted=10, spent=9)) == {}
    assert it.leased == 6


def test_a_lost_answer_gives_its_grant_back() -> None:
    it = bucket()
    tell(it, 0, a=word(1, want=10, least=10))
    tell(it, 0, a=word(2, granted=0))
    assert (it.leased, it.level) == (0, 60)


def test_an_answer_that_never_arrived_does_not_keep_the_rate_for_ever() -> None:
    it = bucket()
    tell(it, 0, a=word(1, want=60, least=60, window=""))
    assert granted(tell(it, CONFIRM_MS, b=word(1, want=1, least=1))) == {"b": 0}
    assert list(it.rows) == ["a", "b"]
    tell(it, CONFIRM_MS + 1, b=word(2, want=1, least=1))
    assert list(it.rows) == ["b"]
    assert granted(tell(it, CONFIRM_MS + 1_001, b=word(3, want=1, least=1))) == {"b": 1}


def test_idle_leases_come_back_when_somebody_lacks() -> None:
    it = bucket()
    tell(it, 0, a=word(1, want=60, least=60))
    waits = tell(it, 0, b=word(1, want=5, least=5))["b"]
    assert (waits.granted, waits.exhausted) == (0, False), "what is idle may come back before it is refused"
    assert tell(it, 100, a=word(2, granted=60))["a"].tight
    tell(it, 200, a=word(3, granted=2))
    assert granted(tell(it, 300, b=word(2, want=5, least=5))) == {"b": 5}
    assert not tell(it, 400, a=word(4, granted=2))["a"].tight


def test_nobody_is_waited_for_who_is_silent_or_uses_what_it_has() -> None:
    it = bucket()
    tell(it, 0, a=word(1, want=60, least=60))
    tell(it, 0, a=word(2, granted=60, reserved=60))
    assert tell(it, 0, b=word(1, want=1, least=1))["b"].exhausted
    tell(it, 0, a=word(3, granted=60))
    assert not tell(it, 0, b=word(2, want=1, least=1))["b"].exhausted
    assert tell(it, ACTIVE_MS + 1, b=word(3, want=1, least=1))["b"].exhausted


def test_a_goodbye_returns_what_was_not_used_and_a_vanished_lease_refills() -> None:
    it = bucket()
    tell(it, 0, a=word(1, want=20, least=20), b=word(1, want=20, least=20))
    (farewell,) = tell(it, 0, a=word(2, granted=20, spent=5, final=True)).values()
    assert (farewell.granted, farewell.spent) == (5, 5)
    assert (it.level, it.leased) == (35, 20)
    it.forget("b", 0)
    tell(it, 20_000, c=word(1))
    assert (it.level, it.leased) == (55, 0)


def test_use_above_the_grant_is_paid_back_before_anything_is_granted() -> None:
    it = bucket()
    tell(it, 0, a=word(1, want=10, least=10))
    tell(it, 0, a=word(2, granted=10, spent=90))
    assert it.level == -30
    assert tell(it, 0, a=word(3, granted=90, spent=90, want=1, least=1))["a"].exhausted
    assert granted(tell(it, 31_000, a=word(4, granted=90, spent=90, want=1, least=1))) == {"a": 91}


@pytest.mark.parametrize(
    "absurd",
    [
        {"want": 10**18, "least": 1, "queued": 10**18},
        {"least": 10**18, "want": 10**18},
        {"left": 10**18},
        {"granted": 10**18},
    ],
)
def test_absurd_numbers_of_one_holder_leave_others_their_share(absurd: dict[str, int]) -> None:
    it = bucket()
    rights = tell(it, 0, liar=word(1, **absurd), b=word(1, want=20, least=1, queued=20))  # type: ignore[arg-type]
    assert rights["b"].granted >= (0 if "granted" in absurd else 20)
    tell(it, 1_000, liar=word(2))
    assert tell(it, 21_000, b=word(2, want=40, least=1, granted=rights["b"].granted, queued=40))["b"].granted >= 20


def test_what_a_holder_makes_up_to_be_in_flight_gives_nothing_back_that_was_not_taken() -> None:
    it = bucket()
    tell(it, 0, a=word(1, want=60, least=1, queued=60))
    tell(it, 0, a=word(2, granted=60, spent=60), liar=word(1, reserved=10**18))
    tell(it, 0, liar=word(2))
    assert it.level <= 0
    assert granted(tell(it, 1_000, b=word(1, want=60, least=1, queued=60)))["b"] <= 1


def test_a_debt_never_grows_above_one_window() -> None:
    it = bucket()
    tell(it, 0, a=word(1))
    tell(it, 0, a=word(2, spent=10**15))
    assert it.level == -60
    tell(it, 61_000, a=word(3, granted=10**15, spent=10**15))
    assert it.level == 1


@pytest.mark.parametrize(("lacks", "exhausted"), [(5, False), (6, True)])
def test_a_call_waits_for_what_flows_in_before_its_queue_gives_up(lacks: int, exhausted: bool) -> None:
    (right,) = tell(bucket(QUEUED, filled_ms=10_000), 0, a=word(1, want=10 + lacks, least=10 + lacks)).values()
    assert right.exhausted is exhausted


def test_a_call_above_the_limit_never_fits() -> None:
    assert tell(bucket(QUEUED), 0, a=word(1, want=61, least=61))["a"].exhausted
    assert tell(bucket(AT_ONCE), 0, a=word(1, want=11, least=11))["a"].exhausted


def test_small_calls_do_not_keep_a_big_one_waiting_for_ever() -> None:
    it = bucket(QUEUED, filled_ms=56_000)
    tell(it, 0, a=word(1, want=58, least=58), b=word(1, want=2, least=0))
    now, big, small = 0, 0, 0
    for turn in range(2, 50):
        now += 250
        big = tell(it, now, a=word(turn, want=58, least=58))["a"].granted
        if big:
            break
        small = tell(it, now, b=word(turn, want=1, least=1, granted=small, spent=small))["b"].granted
    assert big == 58
    assert now <= 5_000


def test_one_who_stopped_waiting_blocks_nobody() -> None:
    it = bucket(QUEUED, filled_ms=56_000)
    tell(it, 0, a=word(1, want=58, least=58))
    assert granted(tell(it, WAITS_MS, b=word(1, want=1, least=1))) == {"b": 0}
    assert granted(tell(it, WAITS_MS + 1, b=word(2, want=1, least=1))) == {"b": 1}


def test_what_is_held_at_once_is_free_again_when_given_back_or_gone() -> None:
    it = bucket(AT_ONCE)
    tell(it, 0, a=word(1, want=6, least=6), b=word(1, want=4, least=4))
    (right,) = tell(it, 3_600_000, c=word(1, want=1, least=1)).values()
    assert (right.granted, right.exhausted) == (0, False)
    tell(it, 3_600_000, a=word(2, granted=5, reserved=5))
    assert granted(tell(it, 3_600_000, c=word(2, want=1, least=1))) == {"c": 1}
    it.forget("b", 3_600_000)
    assert granted(tell(it, 3_600_000, c=word(3, granted=1, reserved=1, want=4, least=4))) == {"c": 5}


def test_a_new_leader_hears_who_holds_what_before_it_lets_more_in_at_once() -> None:
    it = bucket(AT_ONCE, filled_ms=0)
    (right,) = tell(it, 0, a=word(1, want=1, least=1)).values()
    assert (right.granted, right.exhausted) == (0, False)
    tell(it, 2_000, b=word(8, granted=9, reserved=9))
    assert granted(tell(it, LEARNING_MS - 1, a=word(2, want=1, least=1))) == {"a": 0}
    assert granted(tell(it, LEARNING_MS, a=word(3, want=2, least=2))) == {"a": 0}
    assert granted(tell(it, LEARNING_MS, a=word(4, want=1, least=1))) == {"a": 1}


def test_the_providers_word_lowers_and_never_raises() -> None:
    it = bucket()
    tell(it, 0, a=word(1, want=10, least=10))
    tell(it, 0, a=word(2, granted=10, reserved=4, left=20))
    assert it.level == 14, "six of the twenty are leased and will be used"
    tell(it, 0, a=word(3, granted=10, reserved=4, left=1000))
    assert it.level == 14
    tell(it, 2_000, a=word(4, granted=10, reserved=4, left=1000))
    assert it.level == 16, "what was said before is forgotten as time refills"


def test_a_word_that_is_repeated_lowers_once() -> None:
    it = bucket()
    tell(it, 0, a=word(1, left=20))
    tell(it, 5_000, a=word(2, left=20))
    assert it.level == 25


def test_a_lowered_limit_takes_back_what_is_idle_and_a_raised_one_refills() -> None:
    it = bucket()
    tell(it, 0, a=word(1, want=30, least=30))
    it.obey(Quota(NAME, Unit.REQUESTS, 12, 60_000, "shop/chat"), 0)
    assert it.level == -18
    assert tell(it, 0, a=word(2, granted=30))["a"].tight
    tell(it, 0, a=word(3, granted=2))
    assert (it.level, it.leased) == (10, 2)
    it.obey(Quota(NAME, Unit.REQUESTS, 120, 60_000, "shop/chat"), 0)
    assert it.level == 10
    tell(it, 1_000, a=word(4, granted=2))
    assert it.level == 12


def test_a_full_bucket_without_rows_says_nothing() -> None:
    it = bucket()
    assert it.blank(0)
    tell(it, 0, a=word(1, want=10, least=10))
    assert not it.blank(0)
    tell(it, 0, a=word(2, granted=10, spent=10, final=True))
    assert not it.blank(9_999)
    assert it.blank(10_000)


# Any order of events


@dataclass
class Sidecar:
    """As a holder acts, without what makes it clever: it uses what it counts on, and obeys only the newest answer."""

    name: str
    granted: int = 0
    spent: int = 0
    reserved: int = 0
    seq: int = 0
    farewell: int = 0
    """The number of the goodbye that was said; 0: none."""

    @property
    def open(self) -> bool:
        return not self.farewell

    def say(self, want: int, back: int, final: bool) -> Statement:
        self.granted -= min(back, self.granted - self.spent - self.reserved)
        self.seq += 1
        final = final and not self.reserved
        if final:
            self.granted, self.farewell = self.spent, self.seq
        return word(self.seq, want, min(want, 1), self.granted, self.spent, self.reserved, final)

    def obey(self, right: Right) -> None:
        if right.seq == self.seq and self.open:
            self.granted = max(right.granted, self.spent + self.reserved)


class World:
    """Messages come late, twice, in another order or never; sidecars end without a word; leaders change."""

    def __init__(self, seed: int) -> None:
        self.chance = chance = Random(seed)
        window_ms = chance.choice([0, 1_000, 7_777, 60_000])
        unit = Unit.REQUESTS if window_ms else Unit.CONCURRENT
        self.quota = Quota(NAME, unit, chance.randint(1, 30), window_ms, "shop/chat", queue_wait_ms=2_000)
        self.bucket = Bucket(self.quota, chance.choice([None, 0]), 0)
        self.now_ms = 0
        self.sent: list[tuple[Sidecar, Statement]] = []
        self.answers: list[tuple[Sidecar, Right]] = []
        self.sidecars = [Sidecar(f"pod{number}.1") for number in range(chance.randint(1, 4))]
        self.events = (self.call, self.call, self.end, self.say, self.say, self.deliver, self.answer)
        self.filled = 0
        """As of a bucket into which all use flows and which empties at the rate: it must never overflow."""

    def step(self) -> None:
        chance, it = self.chance, self.chance.choice(self.sidecars)
        match chance.randrange(60):
            case 0:
                self.another_leader()
            case 1:
                self.end(it)
                self.sidecars[self.sidecars.index(it)] = Sidecar(f"{it.name}1")
                self.bucket.forget(it.name, self.now_ms)
                self.sent = [(who, what) for who, what in self.sent if who is not it]
            case number if number < 15:
                self.pass_time(chance.choice([1, 30, 250, 2_000, self.quota.window_ms // self.quota.limit]))
            case _:
                chance.choice(self.events)(it)
        self.check()

    def pass_time(self, ms: int) -> None:
        self.now_ms += ms
        self.filled = max(0, self.filled - self.quota.limit * ms)

    def call(self, it: Sidecar) -> None:
        free = it.granted - it.spent - it.reserved
        if it.open and free:
            amount = self.chance.choice([1, free])
            it.reserved += amount
            self.filled += amount * max(1, self.quota.window_ms)

    def end(self, it: Sidecar) -> None:
        if self.quota.window_ms:
            it.spent += it.reserved
        else:
            self.filled -= it.reserved
        it.reserved = 0

    def say(self, it: Sidecar) -> None:
        if not it.open:
            return
        chance = self.chance
        statement = it.say(chance.choice([0, 1, 5, 60]), chance.choice([0, 0, 1, 60]), chance.random() < 0.05)
        if chance.random() < 0.3:
            self.sent.append((it, statement))
            return
        if chance.random() < 0.2:
            self.sent.append((it, statement))  # and once more, later
        rights = self.arrive(it, statement)
        if chance.random() < 0.8:
            for right in rights:
                it.obey(right)
        else:
            self.answers += [(it, right) for right in rights]

    def deliver(self, _: Sidecar) -> None:
        if self.sent:
            it, statement = self.sent.pop(self.chance.randrange(len(self.sent)))
            self.answers += [(it, right) for right in self.arrive(it, statement)]

    def arrive(self, it: Sidecar, statement: Statement) -> list[Right]:
        # The book voids what is older than a goodbye: that is not the bucket's to know.
        if it.farewell and statement.seq < it.farewell and it.name not in self.bucket.rows:
            return []
        if not self.bucket.hear(it.name, statement, self.now_ms):
            return []
        asked = {it.name: statement}
        if self.chance.random() < 0.2:  # another one with it, and the leader stands still before it answers
            other = self.chance.choice(self.sidecars)
            if other is not it and other.open:
                told = other.say(self.chance.choice([0, 5, 60]), 0, final=False)
                if self.bucket.hear(other.name, told, self.now_ms):
                    asked[other.name] = told
            self.pass_time(self.chance.choice([30, 10_000]))
        rights = self.bucket.grant(asked, self.now_ms)
        self.answers += [(each, rights[each.name]) for each in self.sidecars if each is not it and each.name in rights]
        return [rights[it.name]]

    def answer(self, _: Sidecar) -> None:
        if self.answers:
            it, right = self.answers.pop(self.chance.choice([0, -1]))
            it.obey(right)

    def another_leader(self) -> None:
        """It hears of leases when their holders speak again; messages to the former leader are lost."""
        self.bucket = Bucket(self.quota, 0, self.now_ms)
        self.sent, self.answers = [], []
        if not self.quota.window_ms:  # they do so while it learns
            for it in self.sidecars:
                if it.open:
                    self.bucket.hear(it.name, it.say(0, 0, final=False), self.now_ms)

    def check(self) -> None:
        leased = 0
        for row in self.bucket.rows.values():
            assert row.idle >= 0
            leased += row.granted - row.spent
        assert self.bucket.leased == leased
        assert self.bucket.level + leased <= self.quota.limit
        assert self.filled <= self.quota.limit * max(1, self.quota.window_ms)


@pytest.mark.parametrize("seeds", [range(first, first + 100) for first in range(0, 1000, 100)])
def test_no_stretch_of_time_sees_more_than_the_rate_in_any_order_of_events(seeds: range) -> None:
    for seed in seeds:
        world = World(seed)
        for step in range(400):
            try:
                world.step()
            except AssertionError as error:
                raise AssertionError(f"seed {seed}, step {step}: {error}") from error
