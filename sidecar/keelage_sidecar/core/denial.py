"""Why a budget or rate does not pay, in words for whoever runs the application."""

from __future__ import annotations

import math
from typing import assert_never

from keelage_api.amount import measured
from keelage_api.proxy_config import Per, Quota, Unit
from keelage_sidecar.core.account import Account
from keelage_sidecar.core.claim import Claim, DenialReason, Denied
from keelage_sidecar.core.local_rate import refill_s
from keelage_sidecar.core.terms import Terms


def explain(
    claim: Claim,
    reason: DenialReason,
    account: Account | None,
    terms: Terms | None,
    error: str,
    now: float,
    alone_s: float | None = None,
) -> Denied:
    """The denial of `claim`; `account` is the current one, `error` what the ledger said of it.

    `alone_s`: where the sidecar keeps a rate by itself, seconds until the claim fits.
    """
    if terms is not None and terms.rate is not None:
        return _of_rate(claim, reason, account, terms.rate, error, now, alone_s)
    budget = f"LLMBudget {claim.budget}{_whose(terms, claim.value)}"
    amount = f"a request of up to {measured(claim.amount, claim.unit)}"
    field = "spec.limit.tokens" if claim.unit is Unit.TOKENS else "spec.limit.amount"
    match reason:
        case DenialReason.BUDGET_TOO_SMALL:
            limit = measured(account.told_limit, claim.unit) if account else "unknown"
            text = f"{budget} can never pay for {amount}: its whole limit is {limit}; lower max_tokens or raise {field}"
        case DenialReason.BUDGET_EXHAUSTED:
            held = (
                ""
                if account and 0 < account.hopeless <= claim.amount
                else ", or the rest is held for requests in flight"
            )
            text = (
                f"{budget} cannot pay for {amount}: too little of its limit is left{held}; wait for the next window or"
                f" raise {field}"
            )
        case DenialReason.NO_RIGHTS:
            text = (
                f"the lease on {budget} does not suffice for {amount}, and the keelage operator did not answer: "
                "try again"
            )
        case DenialReason.RATE_LIMITED:
            text = f"{claim.budget} has no room for this request now: try again later"
        case DenialReason.WINDOW_UNKNOWN:
            text = error or f"the keelage operator has not opened {budget} to this pod yet: try again"
        case _:
            assert_never(reason)
    resets_in_s = account.ends_s - now if account is not None and account.usable(now) else None
    return Denied(claim.budget, reason, claim.amount, resets_in_s, text, claim.value)


def _of_rate(
    claim: Claim,
    reason: DenialReason,
    account: Account | None,
    quota: Quota,
    error: str,
    now: float,
    alone_s: float | None,
) -> Denied:
    whose = _whose_of(quota.per, claim.value)
    if quota.rule:
        where = f"the rate limit of LLMRoute {quota.route}, rule {quota.rule}{whose}"
        remedy = "rules[].rateLimits"
    else:
        where = f"the provider's limit at backend {quota.backend}{whose}"
        remedy = "backends[].limits"
    limit = f"{measured(quota.limit, quota.unit)}{_window(quota.window_ms)}"
    resets_in_s: float | None
    if reason is DenialReason.BUDGET_TOO_SMALL:
        resets_in_s = None
        text = (
            f"{where} is {limit}: a request of up to {measured(claim.amount, quota.unit)} can never pass; "
            f"lower max_tokens or raise {remedy}"
        )
    elif reason is DenialReason.RATE_LIMITED:
        free = max(0, account.free_at(now)) if account is not None and account.usable(now) else 0
        resets_in_s = alone_s if alone_s is not None else refill_s(quota, max(0, claim.amount - free))
        text = f"{where} ({limit}) has no room now: try again in {_seconds(resets_in_s)}, or raise {remedy}"
    else:
        resets_in_s = None
        text = error or f"{where} is not known yet, and the keelage operator did not answer: try again"
    return Denied(claim.budget, reason, claim.amount, resets_in_s, text, claim.value)


def _whose(terms: Terms | None, value: str) -> str:
    return _whose_of(terms.per if terms is not None else (), value)


def _whose_of(per: tuple[Per, ...], value: str) -> str:
    """`, User alice`; values that no text should bear are digests already (`keelage_api.account`)."""
    if not value:
        return ""
    return "".join(f", {kind} {part}" for kind, part in zip(per, value.split("/"), strict=False))


def _window(window_ms: int) -> str:
    if not window_ms:
        return " at a time"
    seconds = window_ms / 1000
    for name, length in (("day", 86_400), ("hour", 3_600), ("minute", 60), ("second", 1)):
        if seconds == length:
            return f" per {name}"
    return f" per {seconds:g} s"


def _seconds(amount_s: float) -> str:
    return f"{max(1, math.ceil(amount_s)):,} s"
