"""The columns that `keelage get` prints are those of kubectl."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from keelage_api.v1alpha1.schema import Column
from keelage_operator.core.table import age, render

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)


def test_columns_are_padded_and_conditions_are_found_by_type() -> None:
    columns = [
        Column("Spent", ".status.spent"),
        Column("Accepted", '.status.conditions[?(@.type=="Accepted")].status'),
        Column("Age", ".metadata.creationTimestamp", "date"),
    ]
    objects: list[dict[str, object]] = [
        {
            "metadata": {"name": "shop-month", "creationTimestamp": "2026-11-12T12:00:00Z"},
            "status": {"spent": "212.34", "conditions": [{"type": "Other"}, {"type": "Accepted", "status": "True"}]},
        },
        {"metadata": {"name": "b"}},
    ]
    assert render(columns, objects, NOW) == (
        "NAME         SPENT    ACCEPTED   AGE\n"
        "shop-month   212.34   True       9d\n"
        "b                                <unknown>"
    )


@pytest.mark.parametrize(
    ("seconds", "shown"), [(0, "0s"), (119, "119s"), (120, "2m"), (7_199, "119m"), (7_200, "2h"), (172_800, "2d")]
)
def test_ages_are_abbreviated_as_kubectl_does(seconds: int, shown: str) -> None:
    assert age(timedelta(seconds=seconds)) == shown
