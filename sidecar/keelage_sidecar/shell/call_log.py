"""One JSON line per call on standard output, written many at a time."""

from __future__ import annotations

import asyncio
import os

from keelage_sidecar.core.log_line import CallRecord, LogLevel, lines

LINES = 64
DELAY_S = 0.25
"""How long a line waits for company; a write per line costs seven times as much."""


class CallLog:
    """Bounded by construction: whatever is not written within the delay is written at the next line but 64."""

    def __init__(self, descriptor: int = 1, level: LogLevel = LogLevel.INFO) -> None:
        self._descriptor = descriptor
        self.level = level
        """What is below is left out; may be changed at any time."""
        self._records: list[CallRecord] = []
        """Not written yet; encoded together, while the encoder's code is in the cache."""
        self._timer: asyncio.TimerHandle | None = None

    def write(self, record: CallRecord) -> None:
        """Queue the call's line; the record changes no more."""
        if record.judge() < self.level:
            return
        self._records.append(record)
        if len(self._records) >= LINES:
            self.flush()
        elif self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(DELAY_S, self.flush)

    def flush(self) -> None:
        """Write what is queued."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        data = memoryview(lines(self._records))
        self._records.clear()
        while data:
            try:
                data = data[os.write(self._descriptor, data) :]
            except OSError:
                return  # nobody reads: calls go on without their lines
