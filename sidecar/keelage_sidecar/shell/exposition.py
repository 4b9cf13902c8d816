"""What Prometheus scrapes: its text format 0.0.4, of families that are made anew for each scrape.

By itself, since the client library takes 4.5 MiB and an eighth of the start: it does nothing else here.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

CONTENT_TYPE = b"text/plain; version=0.0.4; charset=utf-8"


class Family:
    """One metric: a line for each set of label values."""

    kind: str
    suffix = ""
    """Of the name of counters."""

    def __init__(self, name: str, text: str, labels: Sequence[str] = (), value: float | None = None) -> None:
        """`value`: of a metric without labels."""
        self._name = name + self.suffix
        self._text = text
        self._labels = labels
        self._lines: list[str] = []
        if value is not None:
            self.add((), value)

    def add(self, values: Sequence[str], value: float) -> None:
        """The line for these values of the labels."""
        self._line(self._name, zip(self._labels, values, strict=True), value)

    def render(self) -> str:
        """The lines, with what the metric is."""
        about = self._text.replace("\\", "\\\\").replace("\n", "\\n")
        return f"# HELP {self._name} {about}\n# TYPE {self._name} {self.kind}\n{''.join(self._lines)}"

    def _line(self, name: str, labels: Iterable[tuple[str, str]], value: float) -> None:
        said = ",".join(f'{label}="{_escaped(text)}"' for label, text in sorted(labels))
        self._lines.append(f"{name}{{{said}}} {float(value)}\n" if said else f"{name} {float(value)}\n")


class CounterFamily(Family):
    kind = "counter"
    suffix = "_total"


class GaugeFamily(Family):
    kind = "gauge"


class HistogramFamily(Family):
    kind = "histogram"

    def add_buckets(self, values: Sequence[str], buckets: Sequence[float], counts: Sequence[int], total: float) -> None:
        """`counts`: of each bucket by itself, and of what lies beyond the last; `total`: of all that was observed."""
        labels = tuple(zip(self._labels, values, strict=True))
        running = 0
        for bound, count in zip((*map(str, buckets), "+Inf"), counts, strict=True):
            running += count
            self._line(f"{self._name}_bucket", (*labels, ("le", bound)), running)
        self._line(f"{self._name}_count", labels, running)
        self._line(f"{self._name}_sum", labels, total)


def exposition(families: Iterable[Family]) -> bytes:
    """The text of a scrape."""
    return "".join(family.render() for family in families).encode()


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')
