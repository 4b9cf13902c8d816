"""A sidecar's journal before its first start, in memory."""

from __future__ import annotations

from keelage_sidecar.core.journal_format import NO_BOOT, journal_bytes, journal_head


def blank_journal(incarnation: str, boot: bytes = NO_BOOT, accounts: int = 256) -> bytes:
    """Nothing in it, with as many slots as are asked for; `incarnation`: 16 characters."""
    return journal_head(incarnation, boot, accounts).ljust(journal_bytes(accounts), b"\0")
