"""`python -m tests.simulation WORLDS SEED`: so many worlds from that seed on, up to the first that breaks a promise."""

from __future__ import annotations

import sys
from collections import Counter

from tests.simulation.world import simulate


def main(worlds: int, seed: int) -> int:
    counts: Counter[str] = Counter()
    for number in range(seed, seed + worlds):
        try:
            counts += simulate(number)
        except AssertionError as error:
            print(f"{error}\nagain: make simulate WORLDS=1 SEED={number}")
            return 1
    print(
        f"{worlds} worlds from seed {seed}: " + ", ".join(f"{name} {count}" for name, count in sorted(counts.items()))
    )
    return 0


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), int(sys.argv[2])))
