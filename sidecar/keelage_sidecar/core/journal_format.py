"""The journal: what a holder must still know after its container was killed.

A buffer of fixed slots that the shell maps to a file; no sync to disk, since the pages of
a killed process stay in the kernel. They need not have reached the disk when the node itself
ends, so a journal of an earlier boot is not believed. Every change is one aligned store of
eight bytes; their order is such that a kill between any two never makes the spending read
lower than it is.

    header   128 bytes: magic, format, numbers of slots, incarnation, boot, checksum; then the limit of statement
             numbers, and how many account slots were ever used: those behind it are not even looked at
    hold     32 bytes each: account + 1 (0: free), amount, target, uncertain part of the target
    account  328 bytes each: used, granted, spent, checksum of the name, end of the window, uncertain part of what is
             spent, then the name
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from itertools import compress
from mmap import mmap
from zlib import crc32

import msgspec

from keelage_api.errors import MessageError

ACCOUNTS = 16_384
"""Budgets, rates and their values that are in use at once, times the windows that are open; a pod with more is
refused what exceeds it."""
HOLDS = 4096
"""Claims of requests in flight: far beyond what one process relays."""
SEQ_BLOCK = 1 << 16
"""Statement numbers taken at once: one store per 65,536 statements."""

_MAGIC = b"KEELJRNL"
_FORMAT = 4
_HEAD = struct.Struct("<8sIII16s16s")
_HEADER_BYTES = 128
_SEQ_WORD = 7
_USED_WORD = 8
_HOLD_BYTES = 32
_ACCOUNT_BYTES = 328  # the longest name of a rate in the longest namespace, with two values, has 277 bytes
_NAME_OFFSET = 48
_NAME_MAX = _ACCOUNT_BYTES - _NAME_OFFSET
_ACCOUNT_WORDS = _ACCOUNT_BYTES // 8
_HOLD_WORDS = _HOLD_BYTES // 8
_HOLDS_WORD = _HEADER_BYTES // 8
_ACCOUNTS_AT = _HEADER_BYTES + HOLDS * _HOLD_BYTES
_ACCOUNTS_WORD = _ACCOUNTS_AT // 8


NO_BOOT = bytes(16)
"""Where the node does not tell which boot it is: times on its clock mean nothing to the next process then."""


class JournalError(MessageError):
    """The bytes are not a journal, or not a whole one: nothing in them may be believed."""


class AccountEntry(msgspec.Struct, frozen=True):
    """An account as a restarted container finds it; what was in flight counts as spent at its bound."""

    slot: int
    budget: str
    window: str
    granted: int
    spent: int
    uncertain: int
    """The part of `spent` that nothing proves to have been billed; of what was in flight, all."""
    ends_s: float
    """When its window ends, on the node's monotonic clock; minus infinity where that is not known."""
    value: str = ""


def journal_bytes(accounts: int = ACCOUNTS) -> int:
    """The size of a journal with so many account slots."""
    return _ACCOUNTS_AT + accounts * _ACCOUNT_BYTES


def journal_head(incarnation: str, boot: bytes = NO_BOOT, accounts: int = ACCOUNTS) -> bytes:
    """A journal with nothing in it, but for the zeros up to `journal_bytes(accounts)`.

    `incarnation`: 16 characters, unique to it; `boot`: id of the node's boot.
    """
    head = _HEAD.pack(_MAGIC, _FORMAT, accounts, HOLDS, incarnation.encode("ascii"), boot)
    return head + struct.pack("<I", crc32(head))


class Journal:
    """A view of such a buffer; the only one that writes to it."""

    def __init__(self, buffer: bytearray | mmap, boot: bytes = NO_BOOT) -> None:
        """JournalError if the buffer is not a journal of this format with a sound header, or of another boot."""
        if len(buffer) < _HEADER_BYTES:
            raise JournalError(f"journal has {len(buffer)} bytes: not even a header")
        head = bytes(buffer[: _HEAD.size])
        magic, form, accounts, holds, incarnation, written_in = _HEAD.unpack(head)
        (checksum,) = struct.unpack_from("<I", buffer, _HEAD.size)
        if magic == _MAGIC and form < _FORMAT:
            raise JournalError(f"journal has format {form}, not {_FORMAT}")
        if magic != _MAGIC or checksum != crc32(head):
            raise JournalError("journal has a damaged header")
        if (form, holds) != (_FORMAT, HOLDS) or not 0 < accounts <= ACCOUNTS:
            raise JournalError(f"journal has format {form}, {accounts} accounts, {holds} holds")
        if len(buffer) != journal_bytes(accounts):
            raise JournalError(f"journal has {len(buffer)} bytes, not {journal_bytes(accounts)}")
        self._accounts: int = accounts
        if NO_BOOT not in (boot, written_in) and boot != written_in:
            raise JournalError("journal is of an earlier boot of the node, which may have lost its last pages")
        self._same_clock = boot == written_in != NO_BOOT
        self.incarnation: str = incarnation.decode("ascii")
        self._view = memoryview(buffer)
        self._words: memoryview[int] = self._view.cast("Q")
        self._used: int = min(self._words[_USED_WORD], accounts)
        self._free_accounts = [slot for slot in range(self._used - 1, -1, -1) if not self._words[_account(slot)]]
        """Below `_used`."""
        self._free_holds: list[int] = []  # filled by recover()

    def close(self) -> None:
        """Let go of the buffer."""
        self._words.release()
        self._view.release()

    # What is there after a restart

    def recover(self) -> tuple[AccountEntry, ...]:
        """The accounts, with every open hold counted spent at its bound, and the holds freed; call it once.

        A hold that was being settled has a target: the spending that was to be stored. JournalError
        if an account's name does not match its checksum or a hold points nowhere.
        """
        words = self._words
        owners = words[_HOLDS_WORD : _HOLDS_WORD + HOLDS * _HOLD_WORDS : _HOLD_WORDS].tolist()
        open_holds = list(compress(range(HOLDS), owners))
        open_holds.sort(key=lambda slot: not words[_hold(slot) + 2])  # totals first, then what adds to them
        for slot in open_holds:
            account = words[_hold(slot)] - 1
            if account >= self._used or not words[_account(account)]:
                raise JournalError(f"hold {slot} points to account {account}, which is not there")
            # Its target carries either the settlement that was under way or, from here on, the bound: so a
            # kill in the middle of this recovery counts nothing twice.
            hold, at = _hold(slot), _account(account)
            if not words[hold + 2]:
                words[hold + 3] = words[at + 5] + words[hold + 1]
                words[hold + 2] = words[at + 2] + words[hold + 1] + 1
            words[at + 5] = max(words[at + 5], words[hold + 3])
            words[at + 2] = max(words[at + 2], words[hold + 2] - 1)
            words[_hold(slot)] = 0
        self._free_holds = list(range(HOLDS - 1, -1, -1))
        return tuple(self._entries())

    def _entries(self) -> Iterator[AccountEntry]:
        for slot in range(self._used):
            at = _account(slot)
            length = self._words[at]
            if not length:
                continue
            start = _ACCOUNTS_AT + slot * _ACCOUNT_BYTES + _NAME_OFFSET
            name = bytes(self._view[start : start + min(length, _NAME_MAX)])
            if length > _NAME_MAX or crc32(name) != self._words[at + 3]:
                raise JournalError(f"account {slot} has a damaged name")
            parts = name.decode("utf-8", "replace").split("\n")
            if len(parts) != 3:
                raise JournalError(f"account {slot} has {len(parts)} parts in its name, not 3")
            budget, window, value = parts
            ends_us = self._words[at + 4] if self._same_clock else 0
            yield AccountEntry(
                slot,
                budget,
                window,
                granted=self._words[at + 1],
                spent=self._words[at + 2],
                uncertain=self._words[at + 5],
                ends_s=ends_us / 1e6 if ends_us else float("-inf"),
                value=value,
            )

    # Accounts

    def open_account(self, budget: str, window: str, value: str = "") -> int | None:
        """A slot for a new account with nothing granted; None: all are taken or the name is too long."""
        name = f"{budget}\n{window}\n{value}".encode()
        if len(name) > _NAME_MAX or (not self._free_accounts and self._used == self._accounts):
            return None
        if self._free_accounts:
            slot = self._free_accounts.pop()
        else:
            slot = self._used
            self._used += 1
            self._words[_USED_WORD] = self._used
        at = _account(slot)
        start = _ACCOUNTS_AT + slot * _ACCOUNT_BYTES + _NAME_OFFSET
        self._view[start : start + len(name)] = name
        self._words[at + 1] = 0
        self._words[at + 2] = 0
        self._words[at + 3] = crc32(name)
        self._words[at + 4] = 0
        self._words[at + 5] = 0
        self._words[at] = len(name)  # last: from here on the account exists
        return slot

    def close_account(self, slot: int) -> None:
        """Forget an account that has no hold and that the ledger has released."""
        self._words[_account(slot)] = 0
        self._free_accounts.append(slot)

    def set_granted(self, slot: int, granted: int) -> None:
        self._words[_account(slot) + 1] = granted

    def set_spent(self, slot: int, spent: int, uncertain: int) -> None:
        """`uncertain`: the part of it that nothing proves."""
        self._words[_account(slot) + 5] = uncertain
        self._words[_account(slot) + 2] = spent

    def set_ends(self, slot: int, ends_s: float) -> None:
        """Monotonic seconds, which all processes of one boot share. Rounded down: over here before it is over there."""
        self._words[_account(slot) + 4] = max(0, int(ends_s * 1e6))

    # Holds: the hot path

    def holds_left(self) -> int:
        return len(self._free_holds)

    def reserve(self, account: int, amount: int) -> int:
        """The hold's slot; the caller has checked `holds_left`."""
        slot = self._free_holds.pop()
        at = _HOLDS_WORD + slot * _HOLD_WORDS
        words = self._words
        words[at + 1] = amount
        words[at + 2] = 0
        words[at] = account + 1  # last: from here on the hold counts
        return slot

    def settle(self, slot: int, account: int, spent: int, uncertain: int) -> None:
        """Replace the hold by the account's new totals, in steps that can be taken again."""
        at = _HOLDS_WORD + slot * _HOLD_WORDS
        total = _ACCOUNTS_WORD + account * _ACCOUNT_WORDS
        words = self._words
        words[at + 3] = uncertain
        words[at + 2] = spent + 1  # from here on both targets count
        words[total + 5] = uncertain
        words[total + 2] = spent
        words[at] = 0
        self._free_holds.append(slot)

    # Statement numbers

    @property
    def seq_limit(self) -> int:
        """All numbers up to here may have been used."""
        return self._words[_SEQ_WORD]

    def take_seqs(self) -> int:
        """Another block of numbers; the new limit."""
        limit = self._words[_SEQ_WORD] + SEQ_BLOCK
        self._words[_SEQ_WORD] = limit
        return limit


def _account(slot: int) -> int:
    return _ACCOUNTS_WORD + slot * _ACCOUNT_WORDS


def _hold(slot: int) -> int:
    return _HOLDS_WORD + slot * _HOLD_WORDS
