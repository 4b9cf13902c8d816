"""`python -m tests.simulation WORLDS SEED [--kind KIND] [--to FILE]`: so many worlds from that seed on; their figures,
or a failure.

KIND: `faulty`, `calm`, `node lost` or `rates`; else every kind, by chance. FILE: what was lived through so far, from
which the same command goes on after it was stopped.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import msgspec
from tests.simulation.scene import Kind
from tests.simulation.tally import Tally
from tests.simulation.world import simulate

CHUNK = 10
"""Worlds that a process lives through at once."""
TOLD = 1000
"""Worlds between two lines of figures, and between two writes of FILE."""


@dataclass(slots=True)
class Travel:
    """So many worlds from `seed` on were lived through."""

    seed: int
    kind: Kind | None
    tally: Tally = field(default_factory=Tally)

    def line(self) -> str:
        return f"seed {self.seed}, {self.tally.line()}"


class OtherTravel(Exception):
    """The file is of worlds from another seed, or of another kind."""


def resumed(file: Path | None, seed: int, kind: Kind | None) -> Travel:
    """As far as the file tells. Raises OtherTravel."""
    if file is None or not file.exists():
        return Travel(seed, kind)
    # The one type that msgspec does not know is a Counter.
    travel = msgspec.json.decode(file.read_bytes(), type=Travel, dec_hook=lambda _, counts: Counter(counts))
    if (travel.seed, travel.kind) != (seed, kind):
        raise OtherTravel(
            f"{file} is of SEED={travel.seed} KIND={travel.kind or ''}: name another TO, or go on with these"
        )
    return travel


def kept(file: Path | None, travel: Travel) -> None:
    if file is not None:
        written = file.with_name(f"{file.name}.new")
        written.write_bytes(msgspec.json.encode(travel))
        written.replace(file)


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


def main(worlds: int, travel: Travel, file: Path | None = None) -> int:
    end, total = travel.seed + worlds, travel.tally
    chunks = [range(start, min(start + CHUNK, end)) for start in range(travel.seed + total.worlds, end, CHUNK)]
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        for outcome in pool.map(partial(live, kind=travel.kind), chunks):
            if isinstance(outcome, str):
                print(outcome)
                pool.shutdown(cancel_futures=True)
                return 1
            total.add(outcome)
            if total.worlds % TOLD == 0 and total.worlds < worlds:
                kept(file, travel)
                print(travel.line(), flush=True)
    kept(file, travel)
    print(travel.line())
    return 0 if total.overrun == 0 else 1


if __name__ == "__main__":
    told = argparse.ArgumentParser()
    told.add_argument("worlds", type=int)
    told.add_argument("seed", type=int)
    told.add_argument("--kind", type=Kind)
    told.add_argument("--to", type=Path)
    asked = told.parse_args()
    try:
        begun = resumed(asked.to, asked.seed, asked.kind)
    except OtherTravel as error:
        sys.exit(str(error))
    sys.exit(main(asked.worlds, begun, asked.to))
