"""Log records as JSON lines on standard error; what `extra` holds becomes fields."""

from __future__ import annotations

import logging
from datetime import UTC, datetime

import orjson

_OWN = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}

LOUD_LIBRARIES = ("kopf", "aiohttp.access", "kubernetes")
"""Their informational lines repeat each event of a watch."""

POINTLESS = "kopf._core.reactor.running"
"""Warns that it takes no signals in a thread, which is meant."""


class JsonLines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        line.update({key: value for key, value in vars(record).items() if key not in _OWN})
        if record.exc_info is not None:
            line["error"] = self.formatException(record.exc_info)
        return orjson.dumps(line, default=str).decode()


def set_up(level: str) -> None:
    """Once, at start. `level`: debug, info, warning or error."""
    handler = logging.StreamHandler()
    handler.setFormatter(JsonLines())
    logging.basicConfig(handlers=[handler], level=level.upper(), force=True)
    if level.lower() != "debug":
        for name in LOUD_LIBRARIES:
            logging.getLogger(name).setLevel(logging.WARNING)
        logging.getLogger(POINTLESS).setLevel(logging.ERROR)
