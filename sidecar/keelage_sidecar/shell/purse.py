"""Who pays, as the request path sees it: the lease keeper."""

from __future__ import annotations

from typing import Protocol

from keelage_sidecar.core.attribution import Spender
from keelage_sidecar.core.claim import NOTHING, Charge, Claim, Denied, Hold, Room


class Purse(Protocol):
    def try_reserve(self, claims: tuple[Claim, ...], passing: bool = False) -> Hold | None:
        """A hold on all accounts at once, if what this sidecar holds suffices and nobody waits for it; never waits
        itself. `passing`: whoever waits."""

    async def reserve(self, claims: tuple[Claim, ...], patience_s: float) -> Hold | Denied:
        """The same, asking the ledger and waiting that long."""

    def settle(self, hold: Hold, charge: Charge, spender: Spender | None = None, uncertain: Charge = NOTHING) -> None:
        """Replace the hold by what was used; `spender`: whom it is attributed to in the lists of the greatest,
        `uncertain`: the part of it that may not have been billed."""

    def room(self, claim: Claim) -> Room:
        """How much the claim's account could pay."""

    def used_percent(self, name: str, value: str) -> int | None:
        """Of the limit of a budget and value, by everybody, as the ledger said last; None where it has not."""

    def note_left(self, name: str, left: int) -> None:
        """What a provider said to be left of its limit just now."""
