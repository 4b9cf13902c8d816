"""The guards of the money in the ledger, the rates and what both processes agree on: `keelage_dev.mutants` takes them
away one by one."""

from __future__ import annotations

from keelage_dev.mutant import WORLDS, Mutant

LEDGER = "operator/keelage_operator/core/ledger.py"
LEDGER_ACCOUNT = "operator/keelage_operator/core/ledger_account.py"
SHARE = "operator/keelage_operator/core/share.py"
PAGE = "operator/keelage_operator/shell/ledger_page.py"
BOOK = "operator/keelage_operator/shell/ledger_book.py"
BUCKET = "operator/keelage_operator/core/bucket.py"
QUOTAS = "operator/keelage_operator/shell/quota_book.py"

OF_LEDGER = ("tests/operator/core/test_ledger.py",)
OF_VALUES = ("tests/operator/core/test_ledger_values.py",)
OF_LOST = ("tests/operator/core/test_ledger_lost.py",)
OF_SHARDS = ("tests/operator/shell/test_ledger_shards.py",)
OF_PAGE = ("tests/operator/shell/test_ledger_book.py",)
OF_WILL = ("tests/api/test_will.py", "tests/sidecar/core/test_last_will.py", "tests/operator/shell/test_last_wills.py")
OF_BUCKET = ("tests/operator/core/test_bucket.py",)
OF_QUOTAS = ("tests/operator/shell/test_quota_book.py",)

GUARDS = (
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
        "gifts = share(0 if around.learning else max(0, free), askers, active, absent)",
        "gifts = share(0 if around.learning else max(0, left), askers, active, absent)",
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
        "what is spent without a right claims nothing of what was lost",
        LEDGER_ACCOUNT,
        "granted_once = max(0, statement.granted - total)",
        "granted_once = above",
        OF_LEDGER,
    ),
    Mutant(
        "without a gift no more than was claimed is confirmed",
        LEDGER_ACCOUNT,
        "    total = min(row.granted, counts_on(statement))\n",
        "    total = row.granted\n",
        OF_LEDGER + WORLDS,
    ),
    Mutant(
        "what is not stored tells a holder of no spending",
        LEDGER_ACCOUNT,
        "rows[holder] if gifts.get(holder) else statement for",
        "rows[holder] for",
        OF_LEDGER,
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
        "            forfeited += row.granted - row.spent\n",
        "",
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
        "a late word about a row that was folded is void",
        LEDGER,
        "if not self._void(account, heard) and not self._refused(account, heard)]",
        "if not self._refused(account, heard)]",
        OF_VALUES,
    ),
    Mutant(
        "a question opens no account beside one that its holder has",
        LEDGER,
        "if statement.window in statement.besides:",
        "if False:",
        OF_VALUES + WORLDS,
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
        "return replace(account, settled=left, settled_uncertain=kept, rows=",
        "return replace(account, settled_uncertain=kept, rows=",
        OF_VALUES,
    ),
    Mutant(
        "a shard that was lost counts in each of its accounts",
        LEDGER,
        "Around(self._record.floor, learning, ",
        "Around(0, learning, ",
        OF_VALUES + OF_SHARDS,
    ),
    Mutant(
        "what a belated word claimed of a lost ledger is not free when it comes back",
        LEDGER_ACCOUNT,
        "self.recovered += returned",
        "pass",
        OF_LOST,
    ),
    Mutant(
        "what a leader remembers of a lost ledger is not free when it comes back",
        LEDGER,
        "{value: doubted(account) for value, account in record.accounts.items()}",
        "record.accounts",
        OF_LOST,
    ),
    Mutant(
        "only who has heard of a ledger that was made again gives back as ever",
        LEDGER_ACCOUNT,
        "proven = not self._identity or statement.ledger == self._identity",
        "proven = True",
        OF_LOST,
    ),
    Mutant(
        "a last will frees nothing that a belated word may have claimed",
        LEDGER_ACCOUNT,
        "returned = min(row.unproven, max(0, row.granted - spent))",
        "returned = 0",
        OF_LOST,
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
        '    return f"{calendar_id}.{kind}" if kind else calendar_id\n',
        "    return calendar_id\n",
        OF_SHARDS,
    ),
    Mutant(
        "a request gets its floor or nothing",
        SHARE,
        "if asker.floor > left:",
        "if left <= 0:",
        OF_LEDGER + WORLDS,
    ),
    Mutant(
        "what comes back is gathered for the longest wait",
        SHARE,
        "            return given\n",
        "            continue\n",
        OF_LEDGER,
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
        "no more than limit and overdraft may be granted",
        BOOK,
        "return terms.cap if terms is not None and",
        "return terms.cap + terms.overdraft if terms is not None and",
        OF_PAGE + OF_SHARDS + WORLDS,
    ),
    Mutant(
        "a holder that speaks again is the living one of its pod",
        LEDGER_ACCOUNT,
        "if row is None or row.state is not RowState.OUTSTANDING:",
        "if row is None or row.state is RowState.SUSPECT:",
        OF_LEDGER,
    ),
    Mutant(
        "a bucket leases no more than it holds",
        BUCKET,
        "free = max(0, self.level)",
        "free = self.quota.limit",
        OF_BUCKET,
    ),
    Mutant(
        "what is leased of a rate does not refill",
        BUCKET,
        "return (self.quota.limit - self._leased) * self._scale",
        "return self.quota.limit * self._scale",
        OF_BUCKET + OF_QUOTAS,
    ),
    Mutant(
        "what a vanished sidecar had leased of a rate counts as used",
        BUCKET,
        "self._leased -= row.granted - row.spent\n",
        "self._leased -= row.granted - row.spent\n            self._level += (row.granted - row.spent) * self._scale\n",
        OF_BUCKET + OF_QUOTAS,
    ),
    Mutant(
        "late words about a rate are void",
        BUCKET,
        "if row is not None and statement.seq <= row.seq:",
        "if False:",
        OF_BUCKET,
    ),
    Mutant(
        "a late word of a dead incarnation ends no living one",
        QUOTAS,
        "if now_ms - self._sidecars[each].heard_ms >= SUCCEEDED_MS",
        "if each != holder",
        OF_QUOTAS,
    ),
    Mutant(
        "a new leader's buckets begin empty",
        QUOTAS,
        "self._empty_since_ms = {} if after_nobody else dict.fromkeys(self._quotas, self._now_ms())",
        "self._empty_since_ms = {}",
        OF_QUOTAS,
    ),
)
