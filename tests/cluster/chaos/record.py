"""What could be seen of the money while it moved: the provider's bill and the ledger, every two seconds."""

from __future__ import annotations

import bisect
import json
import time
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

SILENT_S = 10
"""Whoever was not heard for so long may have spent all that it was granted."""


@dataclass(frozen=True, slots=True)
class Sample:
    """Pico-dollars."""

    at_s: float
    """Unix seconds."""
    bill: int
    counted: int
    """By the stored ledger: spent, forfeited, in flight, or with a holder that is silent."""


def bill_of(address: str) -> int:
    """What the provider at that address says it is owed. No API server is between: it may be away."""
    with urllib.request.urlopen(f"http://{address}:8080/fake/bill", timeout=10) as answer:
        return int(Decimal(json.loads(answer.read())["usd"]) * 10**12)


def configure(address: str, settings: Mapping[str, object]) -> None:
    """Change how the provider at that address behaves."""
    body = json.dumps(settings).encode()
    with urllib.request.urlopen(f"http://{address}:8080/fake/config", body, timeout=10) as answer:
        answer.read()


def counted(ledger: Mapping[str, Any], now_s: float) -> int:
    """What of a stored ledger (an LLMLedger object) nobody can be granted at that moment."""
    record = ledger["record"]
    total = 0
    for account in record.get("accounts", {"": record}).values():
        total += sum(int(account.get(name, 0)) for name in ("settled", "forfeited", "recovered"))
        for row in account.get("rows", {}).values():
            silent = now_s - row.get("heard_s", 0) > SILENT_S
            total += int(row.get("granted", 0) if silent else row.get("spent", 0) + row.get("reserved", 0))
    return total


def free_at(at_s: float, samples: Sequence[Sample], limit: int) -> int:
    """What was not counted around that moment: the lesser of what the samples before and after it say."""
    if not samples:
        return 0
    after = bisect.bisect_left([sample.at_s for sample in samples], at_s)
    around = samples[max(0, after - 1) : after + 1]
    return min(limit - sample.counted for sample in around)


def sample(bill: int, ledgers: Sequence[Mapping[str, Any]]) -> Sample:
    """As of now."""
    now_s = time.time()
    return Sample(now_s, bill, sum(counted(ledger, now_s) for ledger in ledgers))
