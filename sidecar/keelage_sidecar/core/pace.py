"""How long the first byte, or the whole answer, takes: what is usual, and when it is late. Pure."""

from __future__ import annotations

import math
from collections import deque

SAMPLES = 100
SAMPLES_MIN = 20
"""Below, nothing can be said of one call in twenty."""
RECENT_WEIGHT = 0.1
USUAL_WEIGHT = 0.005
"""A recent change is one of tens of calls, the habit is made of hundreds."""
LEAST_S = 0.001


class Pace:
    """Of one model at one backend, streams and whole answers apart."""

    __slots__ = ("_late_s", "_recent", "_samples", "_usual", "count")

    def __init__(self) -> None:
        self._samples: deque[float] = deque(maxlen=SAMPLES)
        self._recent = 0.0
        self._usual = 0.0
        """Averages of logarithms: one call of a minute among those of a second is no change."""
        self._late_s: float | None = None
        self.count = 0

    def took(self, seconds: float) -> None:
        """Until it came; or until nobody waited any more, if it had not come by then."""
        self._samples.append(seconds)
        self._late_s = None
        count = self.count = self.count + 1
        logarithm = math.log(seconds if seconds > LEAST_S else LEAST_S)
        recent, usual = RECENT_WEIGHT, USUAL_WEIGHT
        if count < 1 / USUAL_WEIGHT:
            recent, usual = max(recent, 1 / count), 1 / count
        self._recent += recent * (logarithm - self._recent)
        self._usual += usual * (logarithm - self._usual)

    @property
    def late_s(self) -> float | None:
        """The 95th percentile of the last calls; None while there are too few."""
        if self._late_s is None:
            self._late_s = self.percentile(95, SAMPLES)
        return self._late_s

    def percentile(self, percent: int, most: int) -> float | None:
        """What so many percent of the newest calls (at `most` that many) did not exceed; None: they are too few."""
        ordered = sorted(self.newest(most))
        return ordered[-(-percent * len(ordered) // 100) - 1] if len(ordered) >= SAMPLES_MIN else None

    def newest(self, most: int) -> list[float]:
        """The newest calls, oldest first."""
        return list(self._samples)[-most:] if most > 0 else []

    @property
    def slowdown(self) -> float:
        """How many times as long as usual it took lately; 1.0 while too little is known."""
        return math.exp(self._recent - self._usual) if self.count >= SAMPLES_MIN else 1.0

    def forgive(self) -> None:
        """What was slow lately counts no more: it takes as many slow calls again to stand out."""
        self._recent = self._usual
