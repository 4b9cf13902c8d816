"""`python -m keelage_dev.mutants [NAME]`: take away one guard of the money at a time; its tests must fail.

Each guard is removed in a copy of the tree in a temporary directory, so that nothing here changes.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from queue import Queue

from keelage_dev import guards_of_ledger, guards_of_sidecar
from keelage_dev.mutant import Mutant

ROOT = Path(__file__).parents[2]
COPIED = ("crds", "operator", "sidecar", "dev", "tests", "pyproject.toml")
TIMEOUT_S = 300.0
"""A mutant that makes the tests hang is caught, too."""

MUTANTS = (*guards_of_ledger.GUARDS, *guards_of_sidecar.GUARDS)


class Stale(Exception):
    """The text of a guard is not in its file any more: mend the list."""


class CannotRun(Exception):
    """Neither failed nor passed: the mutant proves nothing."""


def applied(source: str, mutant: Mutant) -> str:
    """The file without the guard. Raises Stale."""
    if source.count(mutant.text) != 1:
        raise Stale(f"{mutant.path}: {mutant.name}: its text stands there {source.count(mutant.text)} times")
    return source.replace(mutant.text, mutant.instead)


def caught(tree: Path, mutant: Mutant) -> str:
    """The tests that catch it; empty: none."""
    path = tree / mutant.path
    source = path.read_text("utf-8")
    path.write_text(applied(source, mutant), "utf-8")
    try:
        return next((tests for tests in mutant.tests if _fails(tree, tests)), "")
    finally:
        path.write_text(source, "utf-8")


def _fails(tree: Path, tests: str) -> bool:
    packages = [str(tree / name) for name in ("crds", "operator", "sidecar", "dev", ".")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(packages), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "-p", "no:xdist", tests]
    try:
        done = subprocess.run(command, cwd=tree, env=environment, capture_output=True, timeout=TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired:
        return True
    if done.returncode not in (0, 1):
        raise CannotRun(f"pytest cannot run {tests}: {done.stdout.decode()[-2000:]}")
    return done.returncode == 1


def copied_to(tree: Path) -> Path:
    for part in COPIED:
        source = ROOT / part
        if source.is_dir():
            shutil.copytree(source, tree / part, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
        else:
            tree.mkdir(exist_ok=True)
            shutil.copy(source, tree / part)
    return tree


def main(wanted: str = "") -> int:
    chosen = [mutant for mutant in MUTANTS if wanted in mutant.name]
    workers = os.cpu_count() or 1
    with tempfile.TemporaryDirectory(prefix="keelage-mutants-") as name, ThreadPoolExecutor(workers) as pool:
        trees: Queue[Path] = Queue()
        for number in range(workers):
            trees.put(copied_to(Path(name) / str(number)))

        def in_a_tree(work: Callable[[Path], str]) -> str:
            tree = trees.get()
            try:
                return work(tree)
            finally:
                trees.put(tree)

        tests = sorted({tests for mutant in chosen for tests in mutant.tests})
        failing = pool.map(in_a_tree, (partial(_failing, tests=each) for each in tests))
        broken = [each for each in failing if each]
        for each in broken:
            print(f"{each} fails with every guard in place")
        if broken:
            return 1
        missed = 0
        outcomes = pool.map(in_a_tree, (partial(caught, mutant=mutant) for mutant in chosen))
        for mutant, by in zip(chosen, outcomes, strict=True):
            missed += not by
            print(f"{f'caught by {by}' if by else 'MISSED'}: without '{mutant.name}'", flush=True)
    print(f"{missed} missed")
    return 1 if missed else 0


def _failing(tree: Path, tests: str) -> str:
    return tests if _fails(tree, tests) else ""


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:2]))
