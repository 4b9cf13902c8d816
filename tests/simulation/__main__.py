"""`python -m tests.simulation WORLDS SEED [KIND]`: so many worlds from that seed on; their figures, or a failure.

KIND: `faulty`, `calm`, `node lost` or `rates`; else every kind, by chance.
"""

from __future__ import annotations

import logging
import os
import sys
from concurrent.futures import ProcessPoolExecutor
from functools import partial

from tests.simulation.scene import Kind
from tests.simulation.tally import Tally
from tests.simulation.world import simulate

CHUNK = 10
"""Worlds that a process lives through at once."""
TOLD = 1000
"""Worlds between two lines of figures."""


def live(seeds: range, kind: Kind | None) -> Tally | str:
    """All worlds of the seeds, or the first that breaks a promise."""
    logging.disable()  # stores and leaders fail all the time here
    tally = Tally()
    for seed in seeds:
        try:
            tally.add(simulate(seed, kind))
        except AssertionError as error:
            which = f" KIND='{kind}'" if kind is not None else ""
            return f"{error}\nagain: make simulate WORLDS=1 SEED={seed}{which}"
    return tally


def main(worlds: int, seed: int, kind: Kind | None) -> int:
    chunks = [range(start, min(start + CHUNK, seed + worlds)) for start in range(seed, seed + worlds, CHUNK)]
    total = Tally()
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        for outcome in pool.map(partial(live, kind=kind), chunks):
            if isinstance(outcome, str):
                print(outcome)
                pool.shutdown(cancel_futures=True)
                return 1
            total.add(outcome)
            if total.worlds % TOLD == 0 and total.worlds < worlds:
                print(f"seed {seed}, {total.line()}", flush=True)
    print(f"seed {seed}, {total.line()}")
    return 0 if total.overrun == 0 else 1


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), int(sys.argv[2]), Kind(sys.argv[3]) if sys.argv[3:] else None))
