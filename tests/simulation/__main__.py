"""`python -m tests.simulation WORLDS SEED`: so many worlds from that seed on; their figures, or the first failure."""

from __future__ import annotations

import logging
import os
import sys
from concurrent.futures import ProcessPoolExecutor

from tests.simulation.tally import Tally
from tests.simulation.world import simulate

CHUNK = 10
"""Worlds that a process lives through at once."""
TOLD = 1000
"""Worlds between two lines of figures."""


def live(seeds: range) -> Tally | str:
    """All worlds of the seeds, or the first that breaks a promise."""
    logging.disable()  # stores and leaders fail all the time here
    tally = Tally()
    for seed in seeds:
        try:
            tally.add(simulate(seed))
        except AssertionError as error:
            return f"{error}\nagain: make simulate WORLDS=1 SEED={seed}"
    return tally


def main(worlds: int, seed: int) -> int:
    chunks = [range(start, min(start + CHUNK, seed + worlds)) for start in range(seed, seed + worlds, CHUNK)]
    total = Tally()
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        for outcome in pool.map(live, chunks):
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
    sys.exit(main(int(sys.argv[1]), int(sys.argv[2])))
