"""`python -m keelage_dev.mutants [NAME]`: take away one guard of the money at a time; its tests must fail.

Each guard is removed in a copy of the tree in a temporary directory, so that nothing here changes.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
COPIED = ("crds", "operator", "sidecar", "dev", "tests", "pyproject.toml")
TIMEOUT_S = 300.0
"""A mutant that makes the tests hang is caught, too."""

LEDGER = "operator/keelage_operator/core/ledger.py"
LEDGER_ACCOUNT = "operator/keelage_operator/core/ledger_account.py"
SHARE = "operator/keelage_operator/core/share.py"
PAGE = "operator/keelage_operator/shell/ledger_page.py"
HOLDER = "sidecar/keelage_sidecar/core/holder.py"
DIALOGUE = "sidecar/keelage_sidecar/core/dialogue.py"
ACCOUNT = "sidecar/keelage_sidecar/core/account.py"
JOURNAL = "sidecar/keelage_sidecar/core/journal_format.py"
ROUTING = "sidecar/keelage_sidecar/core/routing.py"
CLAMP = "sidecar/keelage_sidecar/core/clamp.py"
SETTLEMENT = "sidecar/keelage_sidecar/core/settlement.py"
RESERVATION = "sidecar/keelage_sidecar/shell/reservation.py"
ATTEMPT = "sidecar/keelage_sidecar/shell/attempt.py"

OF_LEDGER = ("tests/operator/core/test_ledger.py",)
OF_VALUES = ("tests/operator/core/test_ledger_values.py",)
OF_SHARDS = ("tests/operator/shell/test_ledger_shards.py",)
OF_PAGE = ("tests/operator/shell/test_ledger_book.py",)
OF_HOLDER = ("tests/sidecar/core/test_holder.py",)
OF_JOURNAL = ("tests/sidecar/core/test_journal_format.py",)
OF_WILL = ("tests/api/test_will.py", "tests/sidecar/core/test_last_will.py", "tests/operator/shell/test_last_wills.py")
OF_PATH = ("tests/sidecar/shell/test_reservation.py", "tests/sidecar/shell/test_exchange.py")
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


MUTANTS = (
    Mutant(
        "statements merge by number",
        LEDGER_ACCOUNT,
        "if row is not None and statement.seq <= row.seq:",
        "if False:",
        OF_LEDGER + WORLDS,
    ),
    Mutant(
        "spending never falls",
        LEDGER_ACCOUNT,
        "spent = max(row.spent, statement.spent)",
        "spent = statement.spent",
        OF_LEDGER + WORLDS,
    ),
    Mutant(
        "no more than is free is granted",
        LEDGER_ACCOUNT,
        "gifts = share(0 if around.learning else max(0, free), askers, active)",
        "gifts = share(0 if around.learning else max(0, left), askers, active)",
        OF_LEDGER + WORLDS,
    ),
    Mutant(
        "a rebuilt ledger waits for claims",
        LEDGER,
        "learning = self._full or now_s < self._record.learning_until_s",
        "learning = False",
        OF_LEDGER + OF_PAGE + WORLDS,
    ),
    Mutant(
        "a claim above its row is counted",
        LEDGER_ACCOUNT,
        "            total += above\n",
        "",
        OF_LEDGER + WORLDS,
    ),
    Mutant(
        "without a gift no more than was claimed is confirmed",
        LEDGER_ACCOUNT,
        "    total = min(row.granted, counts_on(statement))\n",
        "    total = row.granted\n",
        OF_LEDGER + WORLDS,
    ),
    Mutant(
        "a row shrinks to no less than is spent and reserved",
        LEDGER_ACCOUNT,
        "total = min(total, max(statement.keep, spent + statement.reserved))",
        "total = min(total, statement.keep)",
        OF_LEDGER + WORLDS,
    ),
    Mutant(
        "what a vanished pod may have spent is forfeited",
        LEDGER_ACCOUNT,
        "            settled += row.spent\n            forfeited += row.granted - row.spent\n",
        "            settled += row.spent\n",
        OF_LEDGER + OF_PAGE + WORLDS,
    ),
    Mutant(
        "a last will that is older than the last word is none",
        LEDGER_ACCOUNT,
        "evidence.holder == holder and evidence.will.seq >= row.seq",
        "evidence.holder == holder",
        OF_LEDGER + OF_PAGE + OF_WILL,
    ),
    Mutant(
        "a last will that is not signed is none",
        "crds/keelage_api/will.py",
        "if found is None or not any(hmac.compare_digest(found[5], _mac(found[1], key)) for key in keys):",
        "if found is None:",
        OF_WILL,
    ),
    Mutant(
        "the last will is written before more is reserved than it says",
        HOLDER,
        "        if not promised and not self.declare(",
        "        if False and not self.declare(",
        OF_WILL + OF_HOLDER,
    ),
    Mutant(
        "a late word about a row that was folded is void",
        LEDGER,
        "if not self._void(account, heard) and not self._refused(account, heard)]",
        "if not self._refused(account, heard)]",
        OF_VALUES,
    ),
    Mutant(
        "a goodbye that is said again is counted once",
        LEDGER,
        "            account = self._returned(account, heard)\n",
        "            pass\n",
        OF_VALUES,
    ),
    Mutant(
        "a row that comes back leaves the sum it was folded into",
        LEDGER,
        "return replace(account, settled=account.settled - back, rows=rows)",
        "return replace(account, rows=rows)",
        OF_VALUES,
    ),
    Mutant(
        "a shard that was lost counts in each of its accounts",
        LEDGER,
        "Around(self._record.floor, learning)",
        "Around(0, learning)",
        OF_VALUES + OF_SHARDS,
    ),
    Mutant(
        "an account of a value is stored before its holder has one",
        LEDGER,
        "any(holder not in rows for holder in answered.account.rows)",
        "False",
        OF_VALUES,
    ),
    Mutant(
        "a lowered limit is recalled",
        LEDGER_ACCOUNT,
        "(row.waiting > 0 or (free < 0 and row.idle > 0))",
        "row.waiting > 0",
        OF_VALUES,
    ),
    Mutant(
        "a ledger counts one unit for one kind of value",
        "operator/keelage_operator/core/shard.py",
        "    return f\"{calendar_id}{counted}{f'.{letters}' if letters else ''}\"\n",
        "    return calendar_id\n",
        OF_SHARDS,
    ),
    Mutant(
        "a request gets its floor or nothing",
        SHARE,
        "if asker.floor <= left:",
        "if left > 0:",
        OF_LEDGER + WORLDS,
    ),
    Mutant(
        "a right is stored before it is answered",
        PAGE,
        "if applied.urgent or flush or self._version is None:",
        "if flush or self._version is None:",
        OF_PAGE + WORLDS,
    ),
    Mutant(
        "a ledger of another epoch is left alone",
        PAGE,
        "if stored.record.epoch != self._epoch:",
        "if False:",
        OF_PAGE + WORLDS,
    ),
    Mutant(
        "a leader writes its epoch first",
        PAGE,
        "epoch = stored.record.epoch + 1",
        "epoch = stored.record.epoch",
        OF_PAGE + WORLDS,
    ),
    Mutant(
        "spent and reserved stay within what was granted",
        HOLDER,
        "if claim.hard and (now >= account.ends_s or total > account.granted):",
        "if claim.hard and now >= account.ends_s:",
        OF_HOLDER,
    ),
    Mutant(
        "rights end with their window",
        HOLDER,
        "if claim.hard and (now >= account.ends_s or total > account.granted):",
        "if claim.hard and total > account.granted:",
        OF_HOLDER,
    ),
    Mutant(
        "the window's end counts from the sending",
        DIALOGUE,
        "account.ends_s = asked.sent_s + right.ends_in_s",
        "account.ends_s = now + right.ends_in_s",
        OF_HOLDER,
    ),
    Mutant(
        "answers to older statements are void",
        DIALOGUE,
        "        self._pending, self.eager = {}, False\n",
        "        self.eager = False\n",
        OF_HOLDER + WORLDS,
    ),
    Mutant(
        "what is offered is not spent any more",
        DIALOGUE,
        "            account.granted -= back\n",
        "            account.granted -= 0\n",
        OF_HOLDER + WORLDS,
    ),
    Mutant(
        "what is offered is out of the journal first",
        DIALOGUE,
        "            account.granted -= back\n            self._journal.set_granted(account.slot, account.granted)\n",
        "            account.granted -= back\n",
        OF_HOLDER + WORLDS,
    ),
    Mutant(
        "a call is charged to the account that admitted it",
        HOLDER,
        "self._journal.settle(slot, account.slot, account.spent)",
        "self._journal.settle(slot, account.slot, amount)",
        OF_HOLDER + WORLDS,
    ),
    Mutant(
        "numbers of statements rise over restarts",
        DIALOGUE,
        "self.newest_seq = self._seq_limit = journal.seq_limit",
        "self.newest_seq = self._seq_limit = 0",
        OF_HOLDER + WORLDS,
    ),
    Mutant(
        "nothing is offered while nobody answers",
        ACCOUNT,
        "if self.heard_s < max(self.told_s, 0.0):",
        "if False:",
        OF_HOLDER,
    ),
    Mutant(
        "a hold is in the journal with its amount first",
        JOURNAL,
        "        words[at + 1] = amount\n        words[at + 2] = 0\n"
        "        words[at] = account + 1  # last: from here on the hold counts\n",
        "        words[at] = account + 1\n        words[at + 1] = amount\n        words[at + 2] = 0\n",
        OF_JOURNAL,
    ),
    Mutant(
        "a settlement is announced before it frees the hold",
        JOURNAL,
        "        words[at + 2] = spent + 1\n"
        "        words[_ACCOUNTS_WORD + account * _ACCOUNT_WORDS + 2] = spent\n        words[at] = 0\n",
        "        words[at] = 0\n        words[_ACCOUNTS_WORD + account * _ACCOUNT_WORDS + 2] = spent\n",
        OF_JOURNAL,
    ),
    Mutant(
        "open holds of a killed container are spent",
        JOURNAL,
        "words[_account(account) + 2] = max(words[_account(account) + 2], words[_hold(slot) + 2] - 1)",
        "pass",
        OF_JOURNAL,
    ),
    Mutant(
        "a journal of an earlier boot is not believed",
        JOURNAL,
        "if NO_BOOT not in (boot, written_in) and boot != written_in:",
        "if False:",
        OF_JOURNAL,
    ),
    Mutant(
        "a window's end is believed only on the clock that measured it",
        JOURNAL,
        "self._same_clock = boot == written_in != NO_BOOT",
        "self._same_clock = True",
        OF_JOURNAL,
    ),
    Mutant(
        "each value has an account of its own",
        ROUTING,
        "value_of(terms.per, facts), terms.unit)",
        '"", terms.unit)',
        ("tests/sidecar/core/test_routing.py",),
    ),
    Mutant(
        "a budget in tokens is claimed in tokens",
        ROUTING,
        "Claim(terms.name, most.of(terms.unit), terms.hard,",
        "Claim(terms.name, most.picodollars, terms.hard,",
        ("tests/sidecar/core/test_routing.py",),
    ),
    Mutant(
        "a clamped call fits its budgets",
        CLAMP,
        "return isinstance(bound, Bound) and fits(bound.charge)",
        "return isinstance(bound, Bound)",
        ("tests/sidecar/core/test_clamp.py",),
    ),
    Mutant(
        "what is sent has the cap that was paid for",
        ATTEMPT,
        "outgoing(facts, candidate, reserved.output_cap,",
        "outgoing(facts, candidate, candidate.output_cap,",
        OF_PATH,
    ),
    Mutant(
        "a cut stream is charged its whole cap",
        SETTLEMENT,
        "output_tokens=max(usage.output_tokens, bound.output_tokens)",
        "output_tokens=usage.output_tokens",
        ("tests/sidecar/core/test_settlement.py",),
    ),
    Mutant(
        "an attempt without evidence is charged its bound",
        SETTLEMENT,
        "return Settlement(most or Charge(requests=1), uncertain=True)",
        "return Settlement(Charge(requests=1), uncertain=True)",
        ("tests/sidecar/core/test_settlement.py",),
    ),
    Mutant(
        "a call that money refuses gives its room back",
        RESERVATION,
        "            for hold in room:\n                means.purse.settle(hold, NOTHING)\n",
        "            pass\n",
        OF_PATH,
    ),
    Mutant(
        "a queue has its depth",
        RESERVATION,
        "elif queues[backend] < depth:",
        "elif True:",
        OF_PATH,
    ),
)


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


def main(wanted: str = "") -> int:
    missed = 0
    with tempfile.TemporaryDirectory(prefix="keelage-mutants-") as name:
        tree = Path(name)
        for part in COPIED:
            source = ROOT / part
            if source.is_dir():
                shutil.copytree(source, tree / part, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
            else:
                shutil.copy(source, tree / part)
        chosen = [mutant for mutant in MUTANTS if wanted in mutant.name]
        for tests in sorted({tests for mutant in chosen for tests in mutant.tests}):
            if _fails(tree, tests):
                print(f"{tests} fails with every guard in place")
                return 1
        for mutant in chosen:
            tests = caught(tree, mutant)
            missed += not tests
            print(f"{f'caught by {tests}' if tests else 'MISSED'}: without '{mutant.name}'", flush=True)
    print(f"{missed} missed")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:2]))
