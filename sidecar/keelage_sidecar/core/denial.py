"""Why a budget does not pay, in words for whoever runs the application."""

from __future__ import annotations

from typing import assert_never

from keelage_api.money import format_usd
from keelage_sidecar.core.account import Account
from keelage_sidecar.core.claim import Claim, DenialReason, Denied


def explain(claim: Claim, reason: DenialReason, account: Account | None, error: str, now: float) -> Denied:
    """The denial of `claim`; `account` is the budget's current one, `error` what the ledger said of the budget."""
    amount = f"a request of up to {format_usd(claim.amount)} USD"
    match reason:
        case DenialReason.BUDGET_TOO_SMALL:
            limit = format_usd(account.told_limit) if account else "?"
            text = (
                f"LLMBudget {claim.budget} can never pay for {amount}: its whole limit is {limit} USD; "
                "lower max_tokens or raise spec.limit.amount"
            )
        case DenialReason.BUDGET_EXHAUSTED:
            held = "" if account and 0 < account.hopeless <= claim.amount else " or held for requests in flight"
            text = (
                f"LLMBudget {claim.budget} cannot pay for {amount}: its limit is spent{held}; "
                "wait for the next window or raise spec.limit.amount"
            )
        case DenialReason.NO_RIGHTS:
            text = (
                f"the lease on LLMBudget {claim.budget} does not suffice for {amount}, "
                "and the keelage operator did not answer: try again"
            )
        case DenialReason.RATE_LIMITED:
            text = f"{claim.budget} has no room for this request now: try again later"
        case DenialReason.WINDOW_UNKNOWN:
            text = error or f"the keelage operator has not opened LLMBudget {claim.budget} to this pod yet: try again"
        case _:
            assert_never(reason)
    resets_in_s = account.ends_s - now if account is not None and account.usable(now) else None
    return Denied(claim.budget, reason, claim.amount, resets_in_s, text)
