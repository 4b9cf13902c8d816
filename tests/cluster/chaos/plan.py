"""What goes wrong, when, and for how long: one seed makes one plan. Pure."""

from __future__ import annotations

import enum
import random
from dataclasses import dataclass


class Fault(enum.StrEnum):
    KILL_SIDECAR = "kill -9 of a sidecar"
    KILL_LEADER = "kill -9 of the operator that leads"
    KILL_API_SERVER = "kill -9 of the API server"
    STOP_SIDECAR = "SIGSTOP of a sidecar"
    STOP_LEADER = "SIGSTOP of the operator that leads"
    CUT_SIDECARS = "sidecars cut off from the operator"
    CUT_OPERATORS = "operators cut off from the API server"
    SCALE = "the Deployment scaled down and up"


@dataclass(frozen=True, slots=True)
class Stroke:
    """One fault; seconds since the beginning."""

    at_s: float
    lasts_s: float
    fault: Fault
    draw: float
    """Uniform in [0, 1): whom it hits, and in which way."""


LASTS_S = {
    Fault.KILL_SIDECAR: (0.0, 0.0),
    Fault.KILL_LEADER: (0.0, 0.0),
    Fault.KILL_API_SERVER: (1.0, 4.0),
    Fault.STOP_SIDECAR: (30.0, 30.0),
    Fault.STOP_LEADER: (30.0, 30.0),
    Fault.CUT_SIDECARS: (3.0, 12.0),
    Fault.CUT_OPERATORS: (3.0, 12.0),
    Fault.SCALE: (5.0, 10.0),
}
KILLS_EVERY_S = 8.0
"""Sidecars are killed this often; of the others one follows the other."""
OTHERS_EVERY_S = 9.0
CALM_S = 5.0
"""Before the first fault: what runs must have begun to run."""


def plan(seed: int, seconds: float) -> tuple[Stroke, ...]:
    """By time. Each kind comes in its turn, in an order that the seed draws, so that a minute has seen most of them.

    Every fault begins before `seconds`; those that last are cut to end with it.
    """
    dice = random.Random(seed)
    strokes = []
    at_s = CALM_S + dice.random() * KILLS_EVERY_S
    while at_s < seconds:
        strokes.append(Stroke(at_s, 0.0, Fault.KILL_SIDECAR, dice.random()))
        at_s += KILLS_EVERY_S * (0.5 + dice.random())
    at_s, order = CALM_S, list[Fault]()
    others = [fault for fault in Fault if fault is not Fault.KILL_SIDECAR]
    step_s = min(OTHERS_EVERY_S, (seconds - CALM_S) / len(others))
    while at_s < seconds:
        if not order:
            order = dice.sample(others, len(others))
        fault = order.pop()
        low, high = LASTS_S[fault]
        lasts_s = min(low + (high - low) * dice.random(), seconds - at_s)
        strokes.append(Stroke(at_s, lasts_s, fault, dice.random()))
        at_s += step_s * (0.7 + 0.6 * dice.random())
    return tuple(sorted(strokes, key=lambda stroke: stroke.at_s))
