"""The explanation of a budget: every pico-dollar of the limit is somewhere."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from keelage_api.money import PICO_PER_USD, parse_usd
from keelage_api.v1alpha1.llmbudget import LLMBudgetStatus
from keelage_api.v1alpha1.manifest import Parsed, parse
from keelage_operator.core.breakdown import LedgerPicture, breakdown, dollars, told
from keelage_operator.core.ledger import Account, LedgerRecord, Row, RowState

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
NOW_S = int(NOW.timestamp())
RECORD = LedgerRecord(
    starts_at=datetime(2026, 11, 1, tzinfo=UTC),
    ends_at=datetime(2026, 12, 1, tzinfo=UTC),
    epoch=3,
    accounts={
        "": Account(
            settled=parse_usd("1.2"),
            settled_uncertain=parse_usd("0.3"),
            forfeited=parse_usd("0.25"),
            rows={
                "uid-1.a": Row(
                    granted=parse_usd("0.5"),
                    spent=parse_usd("0.100000000001"),
                    uncertain=parse_usd("0.04"),
                    reserved=parse_usd("0.2"),
                    heard_s=NOW_S - 2,
                ),
                "uid-2.b": Row(
                    granted=parse_usd("1"), spent=parse_usd("1"), heard_s=NOW_S - 90, state=RowState.RELEASED
                ),
                "uid-3.c": Row(granted=parse_usd("0.3"), heard_s=NOW_S - 90),
            },
        )
    },
)


def picture(record: LedgerRecord = RECORD, limit: str = "5", status: object = None) -> LedgerPicture:
    parsed = parse(LLMBudgetStatus, status or {})
    assert isinstance(parsed, Parsed)
    return LedgerPicture(
        "shop/month", "2026-11", (record,), parse_usd(limit), parsed.value, {"uid-1": "web-1", "uid-3": "web-3"}
    )


def test_an_explanation_says_where_each_dollar_is() -> None:
    assert told(picture(), NOW).splitlines() == [
        "LLMBudget shop/month, window 2026-11: 2026-11-01T00:00:00Z to 2026-12-01T00:00:00Z; figures of the ledger,"
        " epoch 3, in USD",
        "",
        "  settled   1.200000000000   spent by pods that are gone",
        "  recovered 0.000000000000   spent or held before the ledger was lost, claimed by nobody since",
        "  forfeited 0.250000000000   held by pods that vanished without a word; counted as spent",
        "  spent     1.100000000001   by the sidecars below",
        "  reserved  0.200000000000   by their calls under way, at the most that those can cost",
        "  idle      0.499999999999   held by them for their next calls",
        "  free      1.750000000000   granted to nobody",
        "  limit     5.000000000000   the sum of the above",
        "",
        "so far the provider bills between 1.960000000001 and 3.050000000001 USD; 0.34 of what is settled, recovered"
        " and spent is uncertain: calls whose end nobody knows count at the most that they can cost",
        "",
        "NAME     GRANTED   SPENT            UNCERTAIN   RESERVED   IDLE             STATE         HEARD   HOLDER",
        "(gone)   1.00      1.00             0.00        0.00       0.00             Released      90s     uid-2.b",
        "web-1    0.50      0.100000000001   0.04        0.20       0.199999999999   Outstanding   2s      uid-1.a",
        "web-3    0.30      0.00             0.00        0.00       0.30             Silent        90s     uid-3.c",
        "",
        "there is no status yet",
    ]


def test_a_limit_below_what_is_out_leaves_less_than_nothing() -> None:
    text = told(picture(limit="2"), NOW)
    assert "free      -1.250000000000   below zero: the limit was lowered below what was spent or held" in text
    observed = told(replace(picture(limit="2"), observed=True), NOW)
    assert "free      -1.250000000000   below zero; the budget only counts, and nothing is refused" in observed
    assert "not used; the budget only counts" in told(replace(picture(), observed=True), NOW)


def test_the_status_is_held_against_the_ledger() -> None:
    spent = parse_usd("2.300000000001")
    same = {"window": {"id": "2026-11"}, "amounts": {"spent": spent, "forfeited": parse_usd("0.25")}}
    assert "the status says the same: 2.300000000001 spent, 0.25 forfeited" in told(picture(status=same), NOW)
    behind = {"window": {"id": "2026-11"}, "amounts": {"spent": parse_usd("2"), "forfeited": 0}}
    assert "the status says 2.00 spent, 0.00 forfeited; the ledger 2.300000000001" in told(picture(status=behind), NOW)
    assert "about window 2026-12" in told(picture(status={"window": {"id": "2026-12"}}), NOW)


amounts = st.integers(0, 10 * PICO_PER_USD)


@given(
    amounts,
    amounts,
    amounts,
    amounts,
    st.lists(st.tuples(amounts, amounts, amounts, st.sampled_from(RowState)), max_size=5),
)
def test_the_parts_add_up_to_the_limit(
    limit: int, settled: int, forfeited: int, recovered: int, rows: list[tuple[int, int, int, RowState]]
) -> None:
    record = LedgerRecord(
        starts_at=RECORD.starts_at,
        ends_at=RECORD.ends_at,
        accounts={
            "": Account(
                settled=settled,
                forfeited=forfeited,
                recovered=recovered,
                rows={
                    f"uid-{index}.x": Row(granted=spent + reserved + idle, spent=spent, reserved=reserved, state=state)
                    for index, (spent, reserved, idle, state) in enumerate(rows)
                },
            )
        },
    )
    found = breakdown(record.account(), limit, NOW_S)
    assert found.idle == sum(idle for _, _, idle, _ in rows)
    lines = told(LedgerPicture("shop/month", "2026-11", (record,), limit, LLMBudgetStatus(), {}), NOW).splitlines()
    *parts, total = [Decimal(line.split()[1]) for line in lines if line.startswith("  ")]
    assert sum(parts) == total == Decimal(limit) / PICO_PER_USD


def test_dollars_are_exact() -> None:
    assert [dollars(each) for each in (0, 1, -5 * PICO_PER_USD, 1_500_000_000_000)] == [
        "0.00",
        "0.000000000001",
        "-5.00",
        "1.50",
    ]


def by_user(floor: int = 0, value: str = "") -> LedgerPicture:
    one = LedgerRecord(
        RECORD.starts_at,
        RECORD.ends_at,
        epoch=3,
        floor=floor,
        accounts={
            "alice": Account(settled=400, rows={"uid-1.a": Row(granted=200, spent=50, reserved=30, heard_s=NOW_S - 2)}),
            "bob": Account(settled=7),
        },
    )
    two = LedgerRecord(
        RECORD.starts_at,
        RECORD.ends_at,
        epoch=4,
        accounts={"carol": Account(forfeited=100, settled=900, settled_uncertain=5)},
    )
    status = parse(
        LLMBudgetStatus, {"window": {"id": "2026-11.tokens.u"}, "amounts": {"spent": 1357, "forfeited": 100}}
    )
    assert isinstance(status, Parsed)
    others = ("2026-10.tokens.u",)
    return LedgerPicture(
        "shop/user", "2026-11.tokens.u", (one, two), 1_000, status.value, {"uid-1": "web-1"}, others, value
    )


def test_a_budget_with_values_has_a_line_for_each_the_fullest_first() -> None:
    assert told(by_user(), NOW).splitlines() == [
        "LLMBudget shop/user, window 2026-11.tokens.u: 2026-11-01T00:00:00Z to 2026-12-01T00:00:00Z; figures of the"
        " ledger, epoch 3, 4, in tokens",
        "",
        "the limit of 1000 holds for each of 3 values (--value NAME tells more)",
        "",
        "NAME    USED   SPENT   UNCERTAIN   FORFEITED   RESERVED   IDLE   FREE   SIDECARS",
        "carol   100%   900     5           100         0          0      0      0",
        "alice   45%    450     0           0           30         120    400    1",
        "bob     0%     7       0           0           0          0      993    0",
        "",
        "the status says the same: 1357 spent, 100 forfeited",
        "other windows with a ledger: 2026-10.tokens.u (--window)",
    ]


def test_of_very_many_values_those_that_used_most_are_shown() -> None:
    accounts = {f"u{number:03d}": Account(settled=number) for number in range(150)}
    many = replace(by_user(), records=(LedgerRecord(RECORD.starts_at, RECORD.ends_at, accounts=accounts),))
    lines = told(many, NOW).splitlines()
    assert "each of 150 values, the 100 that used most (" in lines[2]
    assert [line.split()[0] for line in lines if line.startswith("u")] == [f"u{149 - n:03d}" for n in range(100)]


def test_one_value_is_explained_as_a_budget_is() -> None:
    lines = told(by_user(value="alice"), NOW).splitlines()
    assert lines[2:15] == [
        "the account of alice, one of those that the limit holds for",
        "",
        "  settled    400   spent by sidecars that gave it up",
        "  recovered    0   spent or held before the ledger was lost, by all values of it, counted for each",
        "  forfeited    0   held by pods that vanished without a word; counted as spent",
        "  spent       50   by the sidecars below",
        "  reserved    30   by their calls under way, at the most that those can cost",
        "  idle       120   held by them for their next calls",
        "  free       400   granted to nobody",
        "  limit     1000   the sum of the above",
        "",
        "so far the provider bills between 450 and 480 tokens",
        "",
    ]
    assert lines[16].startswith("web-1")


def test_an_overdraft_is_told_as_a_part_of_what_may_be_granted_and_percent_are_of_the_limit() -> None:
    text = told(replace(by_user(), overdraft=200), NOW)
    assert "the limit of 1000, 200 of it overdraft, holds for each of 3 values" in text
    assert "carol   125%" in text
    text = told(replace(by_user(value="alice"), overdraft=200), NOW)
    assert "  limit     1000   the sum of the above; 200 of it is overdraft" in text


def test_a_window_in_another_unit_has_a_sum_and_no_limit() -> None:
    lines = told(replace(picture(), limit=None), NOW).splitlines()
    assert not [line for line in lines if "free" in line or "limit" in line]
    assert lines[8:10] == [
        "  sum       3.250000000000   of the above; the budget has another unit or another per now, and grants nothing"
        " here any more",
        "",
    ]
    lines = told(replace(by_user(), limit=None), NOW).splitlines()
    assert lines[2].startswith("the budget has another unit or another per now")
    assert "3 values" in lines[2]
    assert lines[5].split() == ["carol", "900", "5", "100", "0", "0", "0"]


def test_what_was_lost_counts_for_each_value_of_its_ledger() -> None:
    text = told(by_user(floor=300), NOW)
    assert "1 of its ledgers were lost and rebuilt: 0 that was spent or held by then is claimed by nobody since" in text
    (alice,) = [line.split() for line in text.splitlines() if line.startswith("alice")]
    assert alice[1:3] == ["75%", "750"]
    assert "recovered  300" in told(by_user(floor=300, value="alice"), NOW)


def test_a_ledger_that_is_not_there_is_explained_by_what_it_will_be_made_of() -> None:
    lost = LedgerRecord(RECORD.starts_at, RECORD.ends_at, accounts={"": Account(recovered=parse_usd("3"))})
    text = told(replace(picture(lost), lost=1), NOW)
    assert "its ledger is lost: figures of the status, from which it is made again, in USD" in text
    assert "recovered 3.00   spent or held before the ledger was lost" in text
    shard = LedgerRecord(RECORD.starts_at, RECORD.ends_at, floor=40, accounts={"": Account(recovered=40)})
    there = by_user()
    lines = told(replace(there, records=(*there.records, shard), lost=1), NOW).splitlines()
    assert lines[0].endswith("figures of the ledger, epoch 3, 4, in tokens")
    assert lines[9].startswith("1 of its ledgers were lost and rebuilt: 40 that was spent or held by then is claimed")
