"""The explanation of a budget: every pico-dollar of the limit is somewhere."""

from __future__ import annotations

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
            forfeited=parse_usd("0.25"),
            rows={
                "uid-1.a": Row(
                    granted=parse_usd("0.5"),
                    spent=parse_usd("0.100000000001"),
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
        "shop/month", "2026-11", record, parse_usd(limit), parsed.value, {"uid-1": "web-1", "uid-3": "web-3"}
    )


def test_an_explanation_says_where_each_dollar_is() -> None:
    assert told(picture(), NOW).splitlines() == [
        "LLMBudget shop/month, window 2026-11: 2026-11-01T00:00:00Z to 2026-12-01T00:00:00Z; figures of the ledger,"
        " epoch 3, in USD",
        "",
        "  settled   1.200000000000   spent by pods that are gone",
        "  recovered 0.000000000000   spent or held before the ledger was lost and rebuilt, claimed by nobody since",
        "  forfeited 0.250000000000   held by pods that vanished without a word; counted as spent",
        "  spent     1.100000000001   by the sidecars below",
        "  reserved  0.200000000000   by their calls under way, at the most that those can cost",
        "  idle      0.499999999999   held by them for their next calls",
        "  free      1.750000000000   granted to nobody",
        "  limit     5.000000000000   the sum of the above",
        "",
        "NAME     GRANTED   SPENT            RESERVED   IDLE             STATE         HEARD   HOLDER",
        "(gone)   1.00      1.00             0.00       0.00             Released      90s     uid-2.b",
        "web-1    0.50      0.100000000001   0.20       0.199999999999   Outstanding   2s      uid-1.a",
        "web-3    0.30      0.00             0.00       0.30             Silent        90s     uid-3.c",
        "",
        "there is no status yet",
    ]


def test_a_limit_below_what_is_out_leaves_less_than_nothing() -> None:
    text = told(picture(limit="2"), NOW)
    assert "free      -1.25" in text
    assert "nothing more is granted" in text


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
    found = breakdown(record, limit, NOW_S)
    assert found.idle == sum(idle for _, _, idle, _ in rows)
    lines = told(LedgerPicture("shop/month", "2026-11", record, limit, LLMBudgetStatus(), {}), NOW).splitlines()
    *parts, total = [Decimal(line.split()[1]) for line in lines if line.startswith("  ")]
    assert sum(parts) == total == Decimal(limit) / PICO_PER_USD


def test_dollars_are_exact() -> None:
    assert [dollars(each) for each in (0, 1, -5 * PICO_PER_USD, 1_500_000_000_000)] == [
        "0.00",
        "0.000000000001",
        "-5.00",
        "1.50",
    ]
