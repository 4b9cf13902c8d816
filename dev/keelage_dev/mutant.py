"""A guard of the money, and the code without it."""

from __future__ import annotations

from dataclasses import dataclass

WORLDS = tuple(f"tests/simulation/test_worlds.py::test_no_fault_breaks_a_promise[{part}]" for part in range(3))


@dataclass(frozen=True, slots=True)
class Mutant:
    name: str
    path: str
    text: str
    """Stands in the file exactly once."""
    instead: str
    tests: tuple[str, ...]
    """The first of them that fails catches it."""
