"""What a world is made of, drawn from its seed: budgets, pods, how they call, and what goes wrong."""

from __future__ import annotations

import enum
import random
from dataclasses import dataclass

from keelage_api.proxy_config import Per, Quota, Unit
from keelage_api.window import Every
from keelage_operator.core.terms import BudgetInForce
from keelage_sidecar.core.account import VALUED_IDLE_S
from keelage_sidecar.shell.reservation import BUDGET_WAIT_S

PODS_MAX = 6
BOUND_MAX = 150
"""The largest request: pico-dollars, and tokens too."""
RATIOS = (20, 50, 100, 200)
"""Of calm worlds: the limit is so many of the largest requests for each sidecar."""
LASTS_S = 3600
"""In a world that loses a node, the limit would pay for so many seconds of its calls at least."""


class Kind(enum.StrEnum):
    FAULTY = "faulty"
    """Everything goes wrong, for some seconds."""
    CALM = "calm"
    """Nothing goes wrong, until the first call is refused: shows how much of a limit can be used."""
    NODE_LOST = "node lost"
    """Nothing goes wrong but that one node ends without a word: shows what is forfeited then."""
    RATES = "rates"
    """Rates beside a budget, with everything going wrong but leaders that do not answer: then each sidecar keeps a
    rate for itself, and nothing is promised over all of them."""


SHARES = {Kind.FAULTY: 80, Kind.CALM: 10, Kind.NODE_LOST: 4, Kind.RATES: 6}
"""Of a hundred worlds."""


@dataclass(frozen=True, slots=True)
class Scene:
    kind: Kind
    budgets: tuple[BudgetInForce, ...]
    pods: int
    """At the beginning."""
    pauses_s: tuple[float, ...]
    """Between calls; a pod has one of them."""
    patience_s: tuple[float, float]
    """Least and most."""
    users: int
    ratio: int = 0
    """Of a calm world: one of RATIOS."""
    life_s: float = 0.0
    """Of a faulty world."""
    lull_s: tuple[float, float] = (0.0, 0.0)
    """Nobody calls and nothing goes wrong between these: accounts of values are given up meanwhile."""
    drift: float = 0.0
    """A pod's clock runs by so much faster or slower at most."""
    batches: float = 0.0
    """Chance that a call lasts like a batch."""
    quotas: tuple[Quota, ...] = ()
    events: tuple[str, ...] = ()
    """What happens in a faulty world, by chance; one that stands here twice happens twice as often."""


def budget(
    name: str,
    limit: int,
    every: Every = Every.HOUR,
    *,
    hard: bool = True,
    unit: Unit = Unit.PICODOLLARS,
    per: tuple[Per, ...] = (),
    overdraft: int = 0,
) -> BudgetInForce:
    return BudgetInForce(f"shop/{name}", "u", limit, every, "UTC", hard, unit=unit, per=per, overdraft=overdraft)


def lull(scene: Scene, now_s: float) -> float:
    """For how long nothing happens yet."""
    return scene.lull_s[1] - now_s if scene.lull_s[0] <= now_s < scene.lull_s[1] else 0.0


def draw(chance: random.Random, kind: Kind | None = None) -> Scene:
    """`kind` None: by chance."""
    if kind is None:
        kind = chance.choices(list(SHARES), weights=list(SHARES.values()))[0]
    match kind:
        case Kind.CALM:
            return _calm(chance)
        case Kind.NODE_LOST:
            return _node_lost(chance)
        case Kind.RATES:
            return _rates(chance)
        case Kind.FAULTY:
            return _faulty(chance)


def _calm(chance: random.Random) -> Scene:
    pods, ratio = chance.randint(1, 5), chance.choice(RATIOS)
    return Scene(
        Kind.CALM,
        (budget("hour", pods * ratio * BOUND_MAX),),
        pods,
        pauses_s=(0.05, 0.1),
        patience_s=(BUDGET_WAIT_S, BUDGET_WAIT_S),
        users=1,
        ratio=ratio,
    )


def _node_lost(chance: random.Random) -> Scene:
    pods, pause_s = chance.randint(1, 5), chance.choice([0.1, 0.3])
    limit = int(pods * LASTS_S / pause_s * BOUND_MAX / 4)  # a call costs a quarter of the largest, on average
    return Scene(
        Kind.NODE_LOST,
        (budget("hour", limit),),
        pods,
        pauses_s=(pause_s,),
        patience_s=(BUDGET_WAIT_S, BUDGET_WAIT_S),
        users=1,
    )


def _rates(chance: random.Random) -> Scene:
    route, per = "shop/assistant", chance.choice([(), (Per.USER,)])
    calls = Quota("shop/rate:assistant/all:0", Unit.REQUESTS, chance.choice([5, 20]), 4_000, route, "all", per=per)
    lanes = Quota("shop/limit:assistant/anthropic:concurrentRequests", Unit.CONCURRENT, 6, 0, route)
    return Scene(
        Kind.RATES,
        (budget("hour", 100_000),),
        chance.randint(1, 5),
        pauses_s=(0.1, 0.3, 1.0),
        patience_s=(0.0, 3.0),
        users=2,
        life_s=15.0,
        drift=chance.choice([0.0, 0.01]),
        quotas=(calls, lanes) if chance.random() < 0.5 else (calls,),
        events=("crash", "journal", "gone", "leaves", "pod", "leader", "leader"),
    )


def _faulty(chance: random.Random) -> Scene:
    limit = chance.choice([300, 1000, 5000])
    others = [
        budget("day", 3 * limit, Every.DAY),
        budget("seen", limit, hard=False),
        budget("tokens", limit, unit=Unit.TOKENS),
        budget("soft", limit - limit // 5, overdraft=limit // 5),
        budget("user", limit // 2, per=(Per.USER,)),
        budget("pod-tokens", limit // 2, unit=Unit.TOKENS, per=(Per.POD, Per.USER)),
    ]
    deletes = chance.random() < 0.4
    # Ledgers are deleted in worlds whose window stays, since a status tells of the current one only.
    special = ("delete",) if deletes else ("roll", "back")
    usual = ("crash", "crash", "journal", "gone", "leaves", "pod", "leader", "two", "none", "limit", "stop")
    calls_pause = chance.random() < 0.04
    return Scene(
        Kind.FAULTY,
        (budget("hour", limit), *(each for each in others if chance.random() < 0.3)),
        chance.randint(1, 5),
        pauses_s=(0.1, 0.3, 1.0),
        patience_s=(0.0, 3.0),
        users=chance.choice([2, 10, 100]),
        life_s=82.0 if calls_pause else 7.0,
        lull_s=(4.0, 4.0 + VALUED_IDLE_S + 10.0) if calls_pause else (0.0, 0.0),
        drift=chance.choice([0.0, 0.0, 0.05]),
        batches=chance.choice([0.0, 0.0, 0.1]),
        events=usual + special,
    )
