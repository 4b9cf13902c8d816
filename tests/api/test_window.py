"""Windows of the calendar: which one an instant falls into, over changes of the clocks."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keelage_api.window import Every, Window, window_at

BERLIN, KATHMANDU, CAIRO, LORD_HOWE = "Europe/Berlin", "Asia/Kathmandu", "Africa/Cairo", "Australia/Lord_Howe"
"""Clocks that change by an hour; 5:45 ahead of UTC; that change at midnight; that change by half an hour."""
ZONES = ("UTC", BERLIN, KATHMANDU, CAIRO, LORD_HOWE, "America/St_Johns", "Pacific/Chatham", "America/Santiago")
DAY = timedelta(days=1)
INSTANTS = st.timedeltas(timedelta(0), 2_900 * DAY).map(lambda passed: datetime(2024, 1, 1, tzinfo=UTC) + passed)


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def window(every: Every, zone: str, at: str) -> Window:
    return window_at(every, ZoneInfo(zone), utc(at))


@pytest.mark.parametrize(
    ("every", "zone", "at", "name", "starts_at", "ends_at"),
    [
        (Every.MONTH, "UTC", "2026-11-30T23:59:59", "2026-11", "2026-11-01T00:00", "2026-12-01T00:00"),
        (Every.MONTH, BERLIN, "2026-11-30T23:00", "2026-12", "2026-11-30T23:00", "2026-12-31T23:00"),
        (Every.MONTH, BERLIN, "2026-03-15T12:00", "2026-03", "2026-02-28T23:00", "2026-03-31T22:00"),
        (Every.MONTH, "UTC", "2028-02-29T12:00", "2028-02", "2028-02-01T00:00", "2028-03-01T00:00"),
        (Every.MONTH, "UTC", "2026-12-31T23:59", "2026-12", "2026-12-01T00:00", "2027-01-01T00:00"),
        (Every.WEEK, "UTC", "2026-11-22T23:59", "2026-W47", "2026-11-16T00:00", "2026-11-23T00:00"),
        (Every.WEEK, "UTC", "2027-01-03T12:00", "2026-W53", "2026-12-28T00:00", "2027-01-04T00:00"),
        (Every.WEEK, BERLIN, "2026-10-25T12:00", "2026-W43", "2026-10-18T22:00", "2026-10-25T23:00"),
        (Every.DAY, "UTC", "2026-11-21T00:00", "2026-11-21", "2026-11-21T00:00", "2026-11-22T00:00"),
        (Every.DAY, BERLIN, "2026-03-29T12:00", "2026-03-29", "2026-03-28T23:00", "2026-03-29T22:00"),
        (Every.DAY, BERLIN, "2026-10-25T12:00", "2026-10-25", "2026-10-24T22:00", "2026-10-25T23:00"),
        (Every.DAY, CAIRO, "2026-04-24T12:00", "2026-04-24", "2026-04-23T22:00", "2026-04-24T21:00"),
        (Every.DAY, CAIRO, "2026-04-23T21:59", "2026-04-23", "2026-04-22T22:00", "2026-04-23T22:00"),
        (Every.HOUR, BERLIN, "2026-10-25T00:30", "2026-10-25T00Z", "2026-10-25T00:00", "2026-10-25T01:00"),
        (Every.HOUR, BERLIN, "2026-10-25T01:30", "2026-10-25T01Z", "2026-10-25T01:00", "2026-10-25T02:00"),
        (Every.HOUR, KATHMANDU, "2026-11-21T04:20", "2026-11-21T0415Z", "2026-11-21T04:15", "2026-11-21T05:15"),
        (Every.HOUR, LORD_HOWE, "2026-10-03T15:29", "2026-10-03T1430Z", "2026-10-03T14:30", "2026-10-03T15:30"),
        (Every.HOUR, LORD_HOWE, "2026-10-03T15:30", "2026-10-03T1530Z", "2026-10-03T15:30", "2026-10-03T16:00"),
        (Every.HOUR, LORD_HOWE, "2026-04-04T15:10", "2026-04-04T15Z", "2026-04-04T15:00", "2026-04-04T15:30"),
    ],
    ids=[
        "last second of a month",
        "a month begins at the zone's midnight",
        "a month over a change of the clocks",
        "a leap year's February",
        "December",
        "a week ends with Sunday",
        "a week of two years is named by the older",
        "a week with an hour more",
        "first instant of a day",
        "a day of 23 hours",
        "a day of 25 hours",
        "a day whose midnight is skipped begins where the clocks go on",
        "the day before it ends there",
        "a local hour that comes twice, first",
        "a local hour that comes twice, again",
        "a zone that is off by minutes",
        "the hour before the clocks go forward by half an hour",
        "half an hour is left of the next one",
        "half an hour comes twice, and is a window of its own the second time",
    ],
)
def test_a_window_is_that_of_the_calendar_on_the_wall(
    every: Every, zone: str, at: str, name: str, starts_at: str, ends_at: str
) -> None:
    assert window(every, zone, at) == Window(name, utc(starts_at), utc(ends_at))


def test_a_day_that_a_country_left_out_is_no_window() -> None:
    """Samoa went from 29 to 31 December 2011, over the date line."""
    before = window(Every.DAY, "Pacific/Apia", "2011-12-30T09:00")
    after = window(Every.DAY, "Pacific/Apia", "2011-12-30T10:00")
    assert (before.id, after.id) == ("2011-12-29", "2011-12-31")
    assert before.ends_at == after.starts_at


@given(st.sampled_from(Every), st.sampled_from(ZONES), INSTANTS)
def test_each_instant_is_in_one_window_and_the_next_begins_where_it_ends(every: Every, zone: str, at: datetime) -> None:
    found = window_at(every, ZoneInfo(zone), at)
    last = window_at(every, ZoneInfo(zone), found.ends_at - timedelta(microseconds=1))
    following = window_at(every, ZoneInfo(zone), found.ends_at)
    assert found.starts_at <= at < found.ends_at
    assert window_at(every, ZoneInfo(zone), found.starts_at) == found == last
    assert following.starts_at == found.ends_at
    assert following.id != found.id


@given(st.sampled_from((Every.DAY, Every.WEEK, Every.MONTH)), st.sampled_from(ZONES), INSTANTS)
def test_later_windows_of_the_calendar_have_greater_names(every: Every, zone: str, at: datetime) -> None:
    found = window_at(every, ZoneInfo(zone), at)
    assert found.id < window_at(every, ZoneInfo(zone), found.ends_at).id


def clocks_set(zone: ZoneInfo, year: int) -> list[datetime]:
    """The days of that year, as instants of UTC, within which the zone's clocks are set."""
    days = [datetime(year, 1, 1, tzinfo=UTC) + timedelta(days=day) for day in range(366)]
    return [day for day in days if day.astimezone(zone).utcoffset() != (day + DAY).astimezone(zone).utcoffset()]


@pytest.mark.parametrize("zone", ZONES[1:])
def test_hours_follow_each_other_when_the_clocks_are_set(zone: str) -> None:
    found_days = [day for year in (2026, 2027) for day in clocks_set(ZoneInfo(zone), year)]
    assert len(found_days) == (0 if zone == KATHMANDU else 4)
    for day in found_days:
        found = window_at(Every.HOUR, ZoneInfo(zone), day - DAY)
        while found.ends_at < day + 2 * DAY:
            following = window_at(Every.HOUR, ZoneInfo(zone), found.ends_at)
            assert following.starts_at == found.ends_at
            assert following.ends_at - following.starts_at in (timedelta(minutes=30), timedelta(hours=1))
            found = following
