"""Conditions of a status: new ones over old ones, with transition times kept where nothing turned."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from keelage_api.v1alpha1.metadata import Condition, ConditionStatus

MESSAGE_LENGTH_MAX = 2048
"""As the schema bounds it."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """A condition as it was found, before it is known when it began."""

    type: str
    status: ConditionStatus
    reason: str
    message: str = ""


def verdict(type: str, holds: bool | None, reason: str, message: str = "") -> Verdict:
    """None: it cannot be known yet."""
    if holds is None:
        return Verdict(type, ConditionStatus.UNKNOWN, reason, message)
    return Verdict(type, ConditionStatus.TRUE if holds else ConditionStatus.FALSE, reason, message)


def merge(old: Sequence[Condition], new: Sequence[Verdict], generation: int, now: str) -> tuple[Condition, ...]:
    """The conditions to write, in the order of `new`; those of a type that is not in `new` are dropped.

    `now` (RFC 3339) becomes the transition time only where `status` differs from the
    old one: a second run with the same findings changes nothing.
    """
    before = {condition.type: condition for condition in old}
    merged = []
    for found in new:
        former = before.get(found.type)
        turned = former is None or former.status is not found.status
        message = found.message
        if len(message) > MESSAGE_LENGTH_MAX:
            message = message[: MESSAGE_LENGTH_MAX - 1] + "…"
        merged.append(
            Condition.model_validate(
                {
                    "type": found.type,
                    "status": found.status,
                    "observedGeneration": generation,
                    "lastTransitionTime": now if former is None or turned else former.last_transition_time,
                    "reason": found.reason,
                    "message": message,
                }
            )
        )
    return tuple(merged)
