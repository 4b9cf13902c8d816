"""LLMLedger: the durable accounts of one budget in one window; internal, written only by the operator."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, StringConstraints

from keelage_api.v1alpha1.metadata import ObjectMeta, Opaque, Part

KIND = "LLMLedger"


def ledger_name(budget: str, window_id: str, shard: int | None = None) -> str:
    """Of the object that holds a budget's accounts in a window, in the budget's own namespace.

    `shard`: of a budget that holds for each value of something; None: it has one account.
    """
    return f"{budget}-{window_id.lower()}{'' if shard is None else f'-{shard}'}"


class LLMLedger(Part):
    """What was granted to whom in one window of one budget. Internal: written only by the operator, with
    compare-and-swap; do not edit it. When it is lost it is rebuilt from the budget's status."""

    api_version: str
    kind: str
    metadata: ObjectMeta
    budget: Annotated[str, StringConstraints(max_length=64)] = ""
    """Name of the LLMBudget."""
    window: Annotated[str, StringConstraints(max_length=32)] = ""
    """The window's id, with what it counts and for whom: 2026-11, 2026-11.tokens, 2026-11.u."""
    shard: Annotated[int, Field(ge=0, le=31)] = 0
    """Which part of the values' accounts it holds."""
    record: Opaque = Field(default_factory=dict)
    """The account, in the operator's own form."""
