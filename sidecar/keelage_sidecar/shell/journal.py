"""The journal's file in the state directory, mapped into memory."""

from __future__ import annotations

import mmap
import os
import secrets
from collections.abc import Callable
from pathlib import Path

from keelage_sidecar.core.holder import Holder
from keelage_sidecar.core.journal_format import JOURNAL_BYTES, Journal, JournalError, blank_journal

FILE_NAME = "journal"


def open_holder(directory: Path, complain: Callable[[str], None]) -> Holder:
    """The holder that goes on where the last container of this pod was killed, or a new one.

    A damaged journal is set aside as `journal.damaged` and complained of: the ledger then counts
    all that its holder had been granted, since nobody knows what of it was spent. OSError if the
    directory cannot be written: without a journal nothing may be spent.
    """
    path = directory / FILE_NAME
    if path.exists():
        try:
            return Holder(Journal(_map(path)))
        except JournalError as error:
            complain(f"the journal {path} is damaged: {error}; what its lease held stays counted as spent")
            path.replace(directory / f"{FILE_NAME}.damaged")
    fresh = directory / f"{FILE_NAME}.new"
    fresh.write_bytes(blank_journal(secrets.token_hex(8)))
    fresh.replace(path)
    return Holder(Journal(_map(path)))


def _map(path: Path) -> mmap.mmap:
    descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        size = os.fstat(descriptor).st_size
        if size != JOURNAL_BYTES:
            raise JournalError(f"it has {size} bytes, not {JOURNAL_BYTES}")
        return mmap.mmap(descriptor, JOURNAL_BYTES)
    finally:
        os.close(descriptor)
