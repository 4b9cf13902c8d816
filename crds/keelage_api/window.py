"""Budget windows: which one an instant falls into, and when it ends.

Calendar windows in a time zone, each of which begins where the one before ends: an hour of a day that has 23 or 25
of them is still one hour of elapsed time, and a day may last 23, 24 or 25.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo


class Every(enum.StrEnum):
    HOUR = "Hour"
    DAY = "Day"
    WEEK = "Week"
    MONTH = "Month"


@dataclass(frozen=True, slots=True)
class Window:
    """Half-open: `starts_at` is in it, `ends_at` is not. Both in UTC."""

    id: str
    """Sorts by time among windows of one length: `2026-11`, `2026-W47`, `2026-11-21`, `2026-11-21T14Z`."""
    starts_at: datetime
    ends_at: datetime


def window_at(every: Every, zone: ZoneInfo, at: datetime) -> Window:
    """The window of that length that holds the aware instant `at`.

    Hours are named in UTC, since a local hour happens twice when clocks go back.
    Weeks are ISO weeks: they begin on Monday.
    """
    if every is Every.HOUR:
        return _hour(zone, at.astimezone(UTC))
    local = at.astimezone(zone)
    day = local.replace(hour=0, minute=0, second=0, microsecond=0, fold=0, tzinfo=None)
    if every is Every.DAY:
        first, after, name = day, day + timedelta(days=1), day.strftime("%Y-%m-%d")
    elif every is Every.WEEK:
        first = day - timedelta(days=day.weekday())
        after = first + timedelta(days=7)
        year, week, _ = first.isocalendar()
        name = f"{year}-W{week:02d}"
    else:
        first = day.replace(day=1)
        after = (first + timedelta(days=32)).replace(day=1)
        name = first.strftime("%Y-%m")
    return Window(name, _instant(first, zone), _instant(after, zone))


def _hour(zone: ZoneInfo, at: datetime) -> Window:
    """The local hour, named by the instant it begins; a zone may be off by minutes.

    Where clocks are set by a part of an hour (Lord Howe Island), what is left of the hour is a window of its own.
    """
    start = _full_hour(zone, at)
    ends_at = start + timedelta(hours=1)
    before = _full_hour(zone, start)
    if before != start:  # the clocks were set since then
        end = before + timedelta(hours=1)
        start, ends_at = (end, ends_at) if end <= at else (before, end)
    name = start.strftime("%Y-%m-%dT%HZ") if start.minute == 0 else start.strftime("%Y-%m-%dT%H%MZ")
    return Window(name, start, ends_at)


def _full_hour(zone: ZoneInfo, at: datetime) -> datetime:
    """When the full hour was that local clocks show at `at`, if they have not been set since."""
    local = at.astimezone(zone)
    return at - timedelta(minutes=local.minute, seconds=local.second, microseconds=local.microsecond)


def _instant(naive: datetime, zone: ZoneInfo) -> datetime:
    """The first instant of a local date; where midnight is skipped, the moment the clocks jumped to."""
    return naive.replace(tzinfo=zone).astimezone(UTC)
