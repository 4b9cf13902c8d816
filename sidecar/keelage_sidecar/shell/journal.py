"""The journal's file in the state directory, mapped into memory."""

from __future__ import annotations

import mmap
import os
import secrets
from collections.abc import Callable
from pathlib import Path

from keelage_sidecar.core.holder import Holder
from keelage_sidecar.core.journal_format import NO_BOOT, Journal, JournalError, journal_bytes, journal_head
from keelage_sidecar.core.last_will import WillFile

FILE_NAME = "journal"
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
"""Linux, proc_sys_kernel(5): another one at each boot. The monotonic clock goes on as long as it is the same."""


def open_holder(
    directory: Path, complain: Callable[[str], None], will: WillFile | None = None, boot: bytes | None = None
) -> Holder:
    """The holder that goes on where the last container of this pod was killed, or a new one.

    While the ledger is away it spends what the journal says it was granted, until the window ends. A damaged
    journal, or one of an earlier boot, is set aside as `journal.damaged` and complained of: the ledger then
    counts all that its holder had been granted, since nobody knows what of it was spent. OSError if the
    directory cannot be written: without a journal nothing may be spent.
    """
    boot = boot_id() if boot is None else boot
    path = directory / FILE_NAME
    if path.exists():
        try:
            return Holder(Journal(_map(path), boot), will)
        except JournalError as error:
            complain(f"the journal {path} cannot be used: {error}; what its lease held stays counted as spent")
            path.replace(directory / f"{FILE_NAME}.damaged")
    fresh = directory / f"{FILE_NAME}.new"
    with fresh.open("wb") as file:
        file.write(journal_head(secrets.token_hex(8), boot))
        file.flush()
        # The room on the disk is taken now: a store to a page that the disk has none for would kill the process.
        # It takes memory only as its pages are used.
        os.posix_fallocate(file.fileno(), 0, journal_bytes())
    fresh.replace(path)
    return Holder(Journal(_map(path), boot), will)


def boot_id(source: Path = BOOT_ID) -> bytes:
    """Of the node's boot; NO_BOOT if it does not tell."""
    try:
        found = bytes.fromhex(source.read_text("ascii").strip().replace("-", ""))
    except (OSError, ValueError):
        return NO_BOOT
    return found if len(found) == len(NO_BOOT) else NO_BOOT


def _map(path: Path) -> mmap.mmap:
    descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        size = os.fstat(descriptor).st_size
        if not size:
            raise JournalError("it is empty")
        return mmap.mmap(descriptor, size)
    finally:
        os.close(descriptor)
