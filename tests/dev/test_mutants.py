"""The list of guards fits the code: each is where the list says, and the tests that should catch it exist."""

from __future__ import annotations

import re

from keelage_dev.mutants import MUTANTS, ROOT, applied


def test_every_guard_stands_in_its_file_exactly_once() -> None:
    for mutant in MUTANTS:
        source = (ROOT / mutant.path).read_text("utf-8")
        assert applied(source, mutant) != source, mutant.name


def test_the_tests_of_every_guard_exist() -> None:
    for tests in {tests for mutant in MUTANTS for tests in mutant.tests}:
        assert (ROOT / tests.partition("::")[0]).exists(), tests


def test_no_two_guards_have_one_name() -> None:
    assert len({mutant.name for mutant in MUTANTS}) == len(MUTANTS)


def test_the_proof_names_every_guard_and_no_other() -> None:
    proof = (ROOT / "docs/proof.md").read_text("utf-8")
    assert sorted(re.findall(r"^\| ([^|]+) \| `tests/", proof, re.MULTILINE)) == sorted(
        mutant.name for mutant in MUTANTS
    )
