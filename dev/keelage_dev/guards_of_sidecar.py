"""The guards of the money in the sidecar: `keelage_dev.mutants` takes them away one by one."""

from __future__ import annotations

from keelage_dev.mutant import WORLDS, Mutant

HOLDER = "sidecar/keelage_sidecar/core/holder.py"
DIALOGUE = "sidecar/keelage_sidecar/core/dialogue.py"
ACCOUNT = "sidecar/keelage_sidecar/core/account.py"
JOURNAL = "sidecar/keelage_sidecar/core/journal_format.py"
ROUTING = "sidecar/keelage_sidecar/core/routing.py"
CLAMP = "sidecar/keelage_sidecar/core/clamp.py"
SETTLEMENT = "sidecar/keelage_sidecar/core/settlement.py"
RESERVATION = "sidecar/keelage_sidecar/shell/reservation.py"
ATTEMPT = "sidecar/keelage_sidecar/shell/attempt.py"
ATTEMPTS = "sidecar/keelage_sidecar/shell/attempts.py"

PROMPT_CACHE = "sidecar/keelage_sidecar/core/prompt_cache.py"
HISTORY = "sidecar/keelage_sidecar/core/history.py"
ALIKE = "sidecar/keelage_sidecar/core/alike.py"
WORDING = "sidecar/keelage_sidecar/core/wording.py"

OF_HOLDER = ("tests/sidecar/core/test_holder.py",)
OF_JOURNAL = ("tests/sidecar/core/test_journal_format.py",)
OF_WILL = ("tests/api/test_will.py", "tests/sidecar/core/test_last_will.py", "tests/operator/shell/test_last_wills.py")
OF_PATH = ("tests/sidecar/shell/test_reservation.py", "tests/sidecar/shell/test_exchange.py")
OF_QUESTIONS = ("tests/sidecar/core/test_questions.py",)
OF_ACCOUNT = ("tests/sidecar/core/test_account.py",)

GUARDS = (
    Mutant(
        "the last will is written before more is reserved than it says",
        HOLDER,
        "        if not promised and not self.declare(",
        "        if False and not self.declare(",
        OF_WILL + OF_HOLDER,
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
        "self._journal.settle(slot, account.slot, account.spent, account.uncertain)",
        "self._journal.settle(slot, account.slot, amount, account.uncertain)",
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
        "if self.heard_s < max(self.told_s, 0.0) or self.ledger != self.ledger_told:",
        "if self.ledger != self.ledger_told:",
        OF_HOLDER,
    ),
    Mutant(
        "nothing is offered to a ledger that was made again before it was told so",
        ACCOUNT,
        "if self.heard_s < max(self.told_s, 0.0) or self.ledger != self.ledger_told:",
        "if self.heard_s < max(self.told_s, 0.0):",
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
        "        words[at + 2] = spent + 1  # from here on both targets count\n"
        "        words[total + 5] = uncertain\n        words[total + 2] = spent\n        words[at] = 0\n",
        "        words[at] = 0\n        words[total + 5] = uncertain\n        words[total + 2] = spent\n",
        OF_JOURNAL,
    ),
    Mutant(
        "open holds of a killed container are spent",
        JOURNAL,
        "words[at + 2] = max(words[at + 2], words[hold + 2] - 1)",
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
        'value_of(terms.per, facts) if terms.per else ""',
        '""',
        ("tests/sidecar/core/test_routing.py",),
    ),
    Mutant(
        "a budget in tokens is claimed in tokens",
        ROUTING,
        "                    most.of(terms.unit),\n",
        "                    most.picodollars,\n",
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
        "an attempt that was outrun by the one beside it is charged, too",
        ATTEMPT,
        "settlement = settle_attempt(reading, reserved.bound, self.candidate, status, self._sent)",
        "settlement = settle_attempt(reading, reserved.bound, self.candidate, status, self._sent and status > 0)",
        ("tests/sidecar/shell/test_resilience.py",),
    ),
    Mutant(
        "an attempt beside another one ends with its call",
        ATTEMPTS,
        "each.settle()",
        "attempts[0].settle()",
        ("tests/sidecar/shell/test_resilience.py",),
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
        "charge = bound.charge if bound is not None else SENT",
        "charge = SENT",
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
        "a call that money refuses at once gives its room back",
        RESERVATION,
        "        for held in holds:\n            means.purse.settle(held, NOTHING)\n",
        "        pass\n",
        OF_PATH,
    ),
    Mutant(
        "a queue has its depth",
        RESERVATION,
        "if refused and queues[backend] < max(quota.queue_depth for quota in quotas):",
        "if refused:",
        OF_PATH,
    ),
    Mutant(
        "a question about a value is asked until it is answered",
        DIALOGUE,
        "if value and len(self._wanted) < ERRORS_MAX:",
        "if False:",
        OF_QUESTIONS,
    ),
    Mutant(
        "a question names the windows in which there is an account",
        DIALOGUE,
        "besides=self._portfolio.windows(owner),",
        "besides=(),",
        OF_QUESTIONS,
    ),
    Mutant(
        "what was told of a value is said again until it is answered",
        DIALOGUE,
        "if asked.account is not None and asked.account.value:",
        "if False:",
        OF_QUESTIONS,
    ),
    Mutant(
        "a lease is a small part of its limit",
        ACCOUNT,
        "return min(wish, max(self.told_limit // LEASE_PARTS, int(self.rate * LEASE_MIN_S), 2 * largest))",
        "return wish",
        OF_ACCOUNT,
    ),
    Mutant(
        "who waits longest at a sidecar is not passed by",
        HOLDER,
        "short.update(self._verdicts.short(waiter.claims, now))",
        "pass",
        OF_HOLDER,
    ),
    Mutant(
        "fragments go back while money is short",
        ACCOUNT,
        "if self.tight and needed > self.free:",
        "if False:",
        OF_ACCOUNT,
    ),
    Mutant(
        "a call that gets breakpoints reserves the dearer writes",
        PROMPT_CACHE,
        "weight = replace(facts.weight, cached=True, cached_long=long)",
        "weight = facts.weight",
        ("tests/sidecar/core/test_prompt_cache.py", "tests/sidecar/shell/test_prompt_caching.py"),
    ),
    Mutant(
        "a shortened call reserves what its summary adds",
        HISTORY,
        "            weight=weigh(self.facts.endpoint.kind, body),\n",
        "            weight=weigh(self.facts.endpoint.kind, {**body, name: body[name][1:]}),\n",
        ("tests/sidecar/core/test_history.py",),
    ),
    Mutant(
        "a question in other words gets no answer to a question with another word",
        ALIKE,
        "(tier, whom, place.words)",
        "(tier, whom)",
        ("tests/sidecar/core/test_alike.py", "tests/sidecar/shell/test_semantic_cache.py"),
    ),
    Mutant(
        "a capital, a bracket or a mark within a question counts",
        WORDING,
        "return [lexicon.NUMBERS.get(word) or lexicon.SAME.get(word, piece)]",
        'return [piece.lower().strip("()[]{}.,;:!?")]',
        ("tests/sidecar/core/test_wording.py",),
    ),
)
