"""What happened in a world, and the figures of many."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

CLASSES = (100, 20)
"""Of calm worlds: the limit is at least so many of the largest requests for each sidecar."""


@dataclass(slots=True)
class Tally:
    """Adds up over worlds. Utilisation, waiting and false refusals are of calm worlds, in which nothing fails."""

    worlds: int = 0
    seconds: float = 0.0
    """Simulated."""
    writes: int = 0
    """Of all ledgers."""
    overrun: int = 0
    """Billed above the greatest cap that a window had, of all windows and values; in the budget's unit."""
    calm_requests: int = 0
    calm_waited: int = 0
    """Served, but not at once."""
    steady_requests: int = 0
    """Of the calm ones: after the first seconds, while half of the limit is left."""
    steady_waited: int = 0
    calm_exhausted: int = 0
    false_refusals: int = 0
    """Refused as exhausted while limit - spent - reserved, over all sidecars, would have sufficed."""
    used: dict[int, list[float]] = field(default_factory=dict)
    """By class: share of the limit that was billed for the calls that had got their hold before the first was refused.
    """
    lost_nodes: list[float] = field(default_factory=list)
    """Share of the limit that was forfeited where one node was lost and all else was well."""
    shares: int = 0
    """Accounts over which the next two are summed."""
    stranded: float = 0.0
    """Share of the cap that at the end is kept for incarnations that lost their journal, while their pod is there.
    All else that is neither spent nor forfeited is granted, or the world fails."""
    forfeited: float = 0.0
    """Share of the cap, in worlds where pods vanish every few seconds."""
    counts: Counter[str] = field(default_factory=Counter)

    def add(self, other: Tally) -> None:
        self.worlds += other.worlds
        self.seconds += other.seconds
        self.writes += other.writes
        self.overrun += other.overrun
        self.calm_requests += other.calm_requests
        self.calm_waited += other.calm_waited
        self.steady_requests += other.steady_requests
        self.steady_waited += other.steady_waited
        self.calm_exhausted += other.calm_exhausted
        self.false_refusals += other.false_refusals
        self.lost_nodes += other.lost_nodes
        self.shares += other.shares
        self.stranded += other.stranded
        self.forfeited += other.forfeited
        self.counts += other.counts
        for kind, values in other.used.items():
            self.used.setdefault(kind, []).extend(values)

    def note_use(self, ratio: int, used: float) -> None:
        """The first refusal under a limit of `ratio` largest requests for each sidecar."""
        for kind in CLASSES:
            if ratio >= kind:
                self.used.setdefault(kind, []).append(used)
                return

    def line(self) -> str:
        """The figures, for people."""
        used = "; ".join(
            f"limit >= {kind} largest requests each: min {min(values):.2%} mean {_mean(values):.2%} of {len(values)}"
            for kind, values in sorted(self.used.items(), reverse=True)
        )
        lost = self.lost_nodes
        return (
            f"{self.worlds} worlds: overrun {self.overrun} | used at first refusal: {used or 'none'} | "
            f"forfeited by a lost node: max {max(lost, default=0):.2%} mean {_mean(lost):.2%} of {len(lost)}, "
            f"in faulty worlds {self.forfeited / max(1, self.shares):.2%} | "
            f"stranded {self.stranded / max(1, self.shares):.2%} | "
            f"ledger writes/s {self.writes / max(1.0, self.seconds):.2f} | "
            f"waited {self.calm_waited / max(1, self.calm_requests):.2%} of {self.calm_requests}, "
            f"steady {self.steady_waited / max(1, self.steady_requests):.3%} of {self.steady_requests} | "
            f"false refusals {self.false_refusals} of {self.calm_exhausted} | "
            + ", ".join(f"{name} {count}" for name, count in sorted(self.counts.items()))
        )


def _mean(values: list[float]) -> float:
    return sum(values) / max(1, len(values))
