"""Who and what the money went to: the models, features and users that spent most of each budget.

For people, never for rights: bounded, and wrong by what was not told. Sidecars tell cumulative
amounts by name; what pods told that are gone is kept in the ledger, as far as it was great.
All the rest of what was spent is `(other)`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from heapq import nlargest
from itertools import islice

from keelage_api.sync import By, Share

NAMES_MAX = 64
"""By holder, budget and dimension; a sidecar tells no more than that."""
KEPT_MAX = 20
"""By dimension in a ledger: each of its writes bears them."""
SHOWN_MAX = 10
ENTRIES_MAX = 200_000
"""In all, some 30 MiB; what comes later is not attributed."""
LENGTH_MAX = 64
AMOUNT_MAX = 2**62
SHARES_MAX = 4096
"""Of one message: it is heard within some milliseconds."""
OTHER = "(other)"

Told = dict[By, dict[str, int]]


class Attribution:
    """What living holders told, by budget and window."""

    def __init__(self) -> None:
        self._told: dict[tuple[str, str], dict[str, Told]] = {}
        self._runs: dict[str, int] = {}
        """By holder, the newest start of its process: amounts count from there."""
        self._entries = 0

    def hear(self, holder: str, shares: Iterable[Share], run: int = 0) -> bool:
        """Whether the holder should tell all, since it speaks for the first time. The windows are the current ones."""
        before = self._runs.get(holder)
        if before is not None and run < before:
            return False
        if before is not None and run > before:
            self._close_run(holder)
        self._runs[holder] = run
        for share in islice(shares, SHARES_MAX):
            self._note(holder, share)
        return before is None

    def _close_run(self, holder: str) -> None:
        """Its process has started anew, and counts from nothing: what it told is kept, as far as it is great."""
        past = f"{holder}/past"
        for holders in self._told.values():
            told = holders.pop(holder, None)
            if told is not None:
                former = holders.get(past, {})
                holders[past] = kept(former, told)
                self._entries += _count(holders[past]) - _count(former) - _count(told)

    def _note(self, holder: str, share: Share) -> None:
        if not 0 < share.amount <= AMOUNT_MAX:
            return
        name = _shown(share.name)
        holders = self._told.setdefault((share.budget, share.window), {})
        names = holders.setdefault(holder, {}).setdefault(share.by, {})
        if name not in names:
            if name == OTHER or len(names) >= NAMES_MAX or self._entries >= ENTRIES_MAX:
                return
            self._entries += 1
        names[name] = max(share.amount, names.get(name, 0))

    def keep_only(self, windows: Mapping[str, str]) -> None:
        """The id of the current window by budget: the others are forgotten."""
        for key in [key for key in self._told if windows.get(key[0]) != key[1]]:
            self._entries -= sum(_count(told) for told in self._told.pop(key).values())

    def of_pod(self, uid: str) -> dict[tuple[str, str], Told]:
        """What a pod's holders told, by budget and window."""
        prefix = f"{uid}."
        found = {}
        for key, holders in self._told.items():
            told = merged(each for holder, each in holders.items() if holder.startswith(prefix))
            if told:
                found[key] = told
        return found

    def forget_pod(self, uid: str) -> None:
        prefix = f"{uid}."
        self._runs = {holder: run for holder, run in self._runs.items() if not holder.startswith(prefix)}
        for holders in self._told.values():
            for holder in [holder for holder in holders if holder.startswith(prefix)]:
                self._entries -= _count(holders.pop(holder))

    def clear(self) -> None:
        """Whoever leads next hears all anew."""
        self._told.clear()
        self._runs.clear()
        self._entries = 0

    def shown(
        self, budget: str, window: str, kept: Iterable[Mapping[By, Mapping[str, int]]], spent: int
    ) -> dict[By, tuple[tuple[str, int], ...]]:
        """The greatest of each dimension, the greatest first, then `(other)`, so that each sums up to `spent`."""
        together = merged((*self._told.get((budget, window), {}).values(), *kept))
        found = {}
        for by in By:
            names = together.get(by, {})
            if not names:
                continue
            top = sorted(nlargest(SHOWN_MAX, names.items(), key=_amount), key=lambda each: (-each[1], each[0]))
            rest = spent - sum(amount for _, amount in top)
            found[by] = (*top, (OTHER, rest)) if rest > 0 else tuple(top)
        return found


def merged(parts: Iterable[Mapping[By, Mapping[str, int]]]) -> Told:
    """The sums by name."""
    together: Told = {}
    for part in parts:
        for by, names in part.items():
            into = together.setdefault(by, {})
            for name, amount in names.items():
                into[name] = into.get(name, 0) + amount
    return together


def kept(before: Mapping[By, Mapping[str, int]], told: Mapping[By, Mapping[str, int]]) -> Told:
    """What a ledger keeps: the greatest of both together."""
    return {by: dict(nlargest(KEPT_MAX, names.items(), key=_amount)) for by, names in merged((before, told)).items()}


def _amount(each: tuple[str, int]) -> int:
    return each[1]


def _count(told: Told) -> int:
    return sum(len(names) for names in told.values())


def _shown(name: str) -> str:
    """It becomes a part of a status and of a terminal's line."""
    text = name[:LENGTH_MAX]
    return text if text.isprintable() else "".join(each if each.isprintable() else "?" for each in text)
