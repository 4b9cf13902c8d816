"""The pairs of questions in tests/data/semantic, written by hand."""

from __future__ import annotations

from pathlib import Path

_DATA = Path(__file__).parents[2] / "data" / "semantic"


def pairs(name: str) -> list[tuple[str, str, str]]:
    """(kind, one question, the other) of `paraphrases` or `near_misses`."""
    found = []
    for line in (_DATA / f"{name}.txt").read_text("utf-8").splitlines():
        if not line.startswith("#"):
            kind, one, other = line.split(" | ")
            found.append((kind, one, other))
    return found
