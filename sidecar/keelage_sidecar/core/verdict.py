"""Whether a call that does not fit now may hope, and why not; and rates while there is nobody to ask."""

from __future__ import annotations

from collections.abc import Iterator

from keelage_sidecar.core.account import ASK_AGAIN_S, Account, Owner
from keelage_sidecar.core.claim import AMOUNT_MAX, Claim, DenialReason, Denied
from keelage_sidecar.core.denial import explain
from keelage_sidecar.core.dialogue import Dialogue
from keelage_sidecar.core.local_rate import LocalRates
from keelage_sidecar.core.portfolio import Portfolio


class Verdicts:
    def __init__(self, portfolio: Portfolio, dialogue: Dialogue, local: LocalRates) -> None:
        self._portfolio = portfolio
        self._dialogue = dialogue
        self._local = local

    def hopeless(self, claims: tuple[Claim, ...], since_s: float, now: float) -> Denied | None:
        """Why it is of no use to wait, if it is not; `since_s`: when the call began to."""
        for claim in claims:
            if not claim.hard:
                continue
            if claim.quota and self._dialogue.alone(now):
                if claim.at_once and not self.fits_alone(claim, now):
                    return self._denied(claim, DenialReason.RATE_LIMITED, now)
                continue
            account = self._portfolio.current.get(claim.owner)
            if account is None or not account.usable(now) or claim.amount <= account.free:
                continue
            # A limit of 0 is that of a budget which was not in force when the ledger answered.
            if 0 < account.told_limit < claim.amount or claim.amount > AMOUNT_MAX:
                return self._denied(claim, DenialReason.BUDGET_TOO_SMALL, now)
            if 0 < account.hopeless <= claim.amount and self._final(claim, account, since_s, now):
                account.refused_s = now
                account.note_demand(0, now)
                reason = DenialReason.RATE_LIMITED if claim.quota else DenialReason.BUDGET_EXHAUSTED
                return self._denied(claim, reason, now)
        return None

    def short(self, claims: tuple[Claim, ...], now: float) -> Iterator[Owner]:
        """Which accounts do not suffice because somebody has to give back first."""
        for claim in claims:
            account = self._portfolio.current.get(claim.owner)
            if claim.hard and account is not None and account.tight and claim.amount > account.free_at(now):
                yield claim.owner

    def too_late(self, claims: tuple[Claim, ...], since_s: float, now: float) -> Denied:
        """Why the call is not served though it has waited."""
        for claim in claims:
            if not claim.hard:
                continue
            if claim.quota and self._dialogue.alone(now):
                if not self.fits_alone(claim, now):
                    return self._denied(claim, DenialReason.RATE_LIMITED, now)
                continue
            account = self._portfolio.current.get(claim.owner)
            if account is None or not account.usable(now):
                return self._denied(claim, DenialReason.WINDOW_UNKNOWN, now)
            if claim.quota:
                if claim.amount > account.free_at(now):
                    return self._denied(claim, DenialReason.RATE_LIMITED, now)
            elif claim.amount > account.free:
                heard = account.heard_s >= since_s
                return self._denied(claim, DenialReason.BUDGET_EXHAUSTED if heard else DenialReason.NO_RIGHTS, now)
        return self._denied(claims[0], DenialReason.NO_RIGHTS, now)  # no slot for another hold

    def _final(self, claim: Claim, account: Account, since_s: float, now: float) -> bool:
        """What the ledger denied stays denied: money for the window, a rate for a moment.

        A call that is not to wait for a rate is refused as soon as the leader was asked on its behalf; one in a
        backend's queue keeps its place.
        """
        if not claim.quota:
            return True
        asked_lately = account.heard_s >= since_s or now - account.heard_s < ASK_AGAIN_S
        return asked_lately and claim.at_once

    def _denied(self, claim: Claim, reason: DenialReason, now: float) -> Denied:
        terms = self._portfolio.terms.get(claim.budget)
        account = self._portfolio.current.get(claim.owner)
        alone_s = None
        if claim.quota and terms is not None and terms.rate is not None and self._dialogue.alone(now):
            alone_s = self._local.fits_in_s(terms.rate, claim.value, claim.amount, now)
        return explain(claim, reason, account, terms, self._dialogue.error(claim.owner), now, alone_s)

    # While no leader answers

    def fits_alone(self, claim: Claim, now: float) -> bool:
        terms = self._portfolio.terms.get(claim.budget)
        # A rate that is not in force any more holds nobody up.
        return terms is None or terms.rate is None or self._local.fits(terms.rate, claim.value, claim.held, now)

    def take_alone(self, claim: Claim, now: float) -> None:
        terms = self._portfolio.terms.get(claim.budget)
        if terms is not None and terms.rate is not None:
            self._local.take(terms.rate, claim.value, claim.held, now)

    def settle_alone(self, claim: Claim, unused: int) -> None:
        terms = self._portfolio.terms.get(claim.budget)
        if terms is not None and terms.rate is not None:
            self._local.give_back(terms.rate, claim.value, unused)
