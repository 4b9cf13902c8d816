"""What a sidecar may say at all, whoever wrote it: its numbers and names end up in objects of the cluster."""

from __future__ import annotations

import re

from keelage_api.money import PICO_PER_USD
from keelage_api.sync import Resting, Statement, SyncRequest

STATEMENTS_MAX = 512
"""A sidecar that has more to say says it with the next request."""

AMOUNT_MAX = 9_000_000 * PICO_PER_USD
"""The greatest limit of a budget. The API server keeps integers up to 2**63 and makes floats of others."""

SEQ_MAX = 2**62

SAVINGS_MAX = 1024
"""Three kinds for each of the routes of a pod, of which there are a few."""
TIMES_MAX = 2**40
"""Tokens of a prompt cache, in one message."""

WAITED_MAX_S = 86_400.0
"""No call waits for money for longer than its caller's patience; rows keep since when."""

COMPLAINT_LENGTH_MAX = 512
"""Of what is kept of a sidecar's complaint; a condition shows no more than that."""
CREDENTIALS_MAX = 32
RESTING_MAX = 64

_INCARNATION = re.compile(r"[0-9A-Za-z_-]{1,64}")


def fault(request: SyncRequest) -> str:
    """The field that cannot be, and why; empty: none."""
    if not _INCARNATION.fullmatch(request.incarnation):
        return "incarnation: must be 1 to 64 letters, digits, '-' or '_'"
    if len(request.statements) > STATEMENTS_MAX:
        return f"statements: {len(request.statements)} are more than {STATEMENTS_MAX}: send the others later"
    for index, statement in enumerate(request.statements):
        wrong = _fault_of(statement)
        if wrong:
            return f"statements[{index}].{wrong}"
    return _fault_of_savings(request)


def _fault_of_savings(request: SyncRequest) -> str:
    if not 0 <= request.savings_seq <= SEQ_MAX:
        return f"savings_seq: {request.savings_seq} is not between 0 and {SEQ_MAX}"
    if len(request.savings) > SAVINGS_MAX:
        return f"savings: {len(request.savings)} are more than {SAVINGS_MAX}"
    for index, saving in enumerate(request.savings):
        if abs(saving.amount) > AMOUNT_MAX:
            return f"savings[{index}].amount: {saving.amount} is beyond {AMOUNT_MAX}"
        if not 0 <= saving.hits <= saving.tries <= TIMES_MAX:
            return f"savings[{index}].hits: {saving.hits} is not between 0 and tries, {saving.tries}"
    return ""


def _fault_of(statement: Statement) -> str:
    amounts = {
        "granted": statement.granted,
        "spent": statement.spent,
        "reserved": statement.reserved,
        "want": statement.want,
        "min_want": statement.min_want,
        "queued": statement.queued,
        "uncertain": statement.uncertain,
    }
    for name, amount in amounts.items():
        if not 0 <= amount <= AMOUNT_MAX:
            return f"{name}: {amount} is not between 0 and {AMOUNT_MAX}"
    for name, offer in (("keep", statement.keep), ("left", statement.left)):
        if offer > AMOUNT_MAX:
            return f"{name}: {offer} is above {AMOUNT_MAX}"
    if not 0 <= statement.waited_s <= WAITED_MAX_S:
        return f"waited_s: {statement.waited_s} is not between 0 and {WAITED_MAX_S:g}"
    if not 0 <= statement.seq <= SEQ_MAX:
        return f"seq: {statement.seq} is not between 0 and {SEQ_MAX}"
    return ""


def resting_of(request: SyncRequest) -> tuple[Resting, ...]:
    """As much as is kept of where a sidecar's prompt caches rest."""
    return tuple(Resting(short(e.route), short(e.rule), short(e.model)) for e in request.resting[:RESTING_MAX])


def short(complaint: str) -> str:
    """As much of a sidecar's complaint as is kept."""
    if len(complaint) <= COMPLAINT_LENGTH_MAX:
        return complaint
    return complaint[: COMPLAINT_LENGTH_MAX - 3] + "..."
