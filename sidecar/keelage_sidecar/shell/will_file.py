"""The container's termination message file, which the kubelet reads after its death."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path


class TerminationFile:
    """WillFile. Nothing is synced to disk: the pages of a killed process stay in the kernel."""

    def __init__(self, descriptor: int) -> None:
        """`descriptor`: of the file, empty and open for writing."""
        self._descriptor = descriptor
        self._longest = 0

    def write(self, record: bytes) -> bool:
        # Never shorter than before, so that one write does it.
        self._longest = max(self._longest, len(record))
        record = record.ljust(self._longest)
        try:
            return os.pwrite(self._descriptor, record, 0) == len(record)
        except OSError:
            return False

    def erase(self) -> bool:
        try:
            os.ftruncate(self._descriptor, 0)
        except OSError:
            return False
        return True


def open_will_file(path: Path | None, complain: Callable[[str], None]) -> TerminationFile | None:
    """The file, blank; None where there is none to be had: then a lost pod's lease counts in full."""
    if path is None:
        return None
    try:
        return TerminationFile(os.open(path, os.O_WRONLY | os.O_TRUNC | os.O_CLOEXEC))
    except OSError as error:
        complain(f"no last will: {path}: {error.strerror}; if this pod is lost its whole lease counts as spent")
        return None
