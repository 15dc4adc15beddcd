"""Freeze windows keep to the clock on the wall, across midnight and when clocks change."""

from __future__ import annotations

from datetime import UTC, date, datetime, time
from zoneinfo import ZoneInfo

import pytest

from mergescale.gitops.freeze import Freeze, Window, freeze_at

BERLIN = ZoneInfo("Europe/Berlin")
FRIDAY, SATURDAY, SUNDAY = 4, 5, 6
EVERY_DAY = frozenset(range(7))


def at(text: str) -> datetime:
    """Return a moment; UTC unless it says otherwise."""
    when = datetime.fromisoformat(text)
    return when if when.tzinfo else when.replace(tzinfo=UTC)


def utc(text: str) -> datetime:
    return at(text).astimezone(UTC)


NIGHT = Window(frozenset({FRIDAY}), time(22), time(6), UTC, "weekend")


@pytest.mark.parametrize(
    ("now", "until"),
    [
        ("2026-01-02T21:59:59", None),
        ("2026-01-02T22:00:00", "2026-01-03T06:00:00"),
        ("2026-01-03T00:00:00", "2026-01-03T06:00:00"),
        ("2026-01-03T05:59:59", "2026-01-03T06:00:00"),
        ("2026-01-03T06:00:00", None),
        ("2026-01-03T22:30:00", None),
        ("2026-01-04T03:00:00", None),
    ],
)
def test_a_window_across_midnight_belongs_to_the_day_it_begins_on(
    now: str, until: str | None
) -> None:
    """Its first moment is in it, its end is not, and the night after it is free."""
    found = freeze_at([NIGHT], at(now))

    assert found == (None if until is None else Freeze(at(until), ("weekend",)))


def test_whole_days_that_follow_one_another_are_one_freeze() -> None:
    """A window of equal times is a day; until when is the end of the last one."""
    weekend = Window(frozenset({SATURDAY, SUNDAY}), time(0), time(0), UTC)
    found = freeze_at([NIGHT, weekend], at("2026-01-02T23:00"))

    assert found == Freeze(at("2026-01-05T00:00"), ("weekend",))


def test_a_freeze_without_an_end_in_sight() -> None:
    """Every day from midnight to midnight; nothing comes into force by itself any more."""
    always = Window(EVERY_DAY, time(0), time(0), UTC, "handed over")

    assert freeze_at([always], at("2026-01-02T23:00")) == Freeze(None, ("handed over",))


def test_days_of_the_calendar_bound_it() -> None:
    """Both included, in the zone's own days."""
    holidays = Window(
        EVERY_DAY, time(0), time(0), BERLIN, "", date(2026, 12, 24), date(2026, 12, 26)
    )

    assert freeze_at([holidays], at("2026-12-23T22:59:59")) is None
    assert freeze_at([holidays], at("2026-12-23T23:00")) == Freeze(at("2026-12-26T23:00"), ())
    assert freeze_at([holidays], at("2026-12-26T23:00")) is None


@pytest.mark.parametrize(
    ("start", "end", "first", "last"),
    [
        # Clocks go from 2 to 3 on March 29th: the window has an hour less.
        (time(1), time(4), "2026-03-29T01:00+01:00", "2026-03-29T04:00+02:00"),
        # It begins, or ends, in the hour that there is not.
        (time(2, 30), time(4), "2026-03-29T03:00+02:00", "2026-03-29T04:00+02:00"),
        (time(1), time(2, 30), "2026-03-29T01:00+01:00", "2026-03-29T03:00+02:00"),
        # Clocks go from 3 to 2 on October 25th: the hour from 2 to 3 comes twice.
        (time(2, 30), time(4), "2026-10-25T02:30+02:00", "2026-10-25T04:00+01:00"),
        (time(1), time(2, 30), "2026-10-25T01:00+02:00", "2026-10-25T02:30+01:00"),
        # Across midnight, into the day on which clocks change.
        (time(22), time(4), "2026-10-24T22:00+02:00", "2026-10-25T04:00+01:00"),
    ],
)
def test_clocks_that_change(start: time, end: time, first: str, last: str) -> None:
    """A window begins and ends when the clock on the wall says so; a doubled hour is in it whole."""
    window = Window(EVERY_DAY, start, end, BERLIN)
    begins, ends = utc(first), utc(last)
    moment = (ends - begins) / 3600

    assert freeze_at([window], begins - moment) is None
    assert freeze_at([window], begins) == Freeze(ends, ())
    assert freeze_at([window], ends - moment) == Freeze(ends, ())
    assert freeze_at([window], ends) is None


def test_the_zone_says_which_day_it_is() -> None:
    """Saturday in Auckland begins while it is Friday in UTC."""
    there = Window(frozenset({SATURDAY}), time(0), time(0), ZoneInfo("Pacific/Auckland"))

    assert freeze_at([there], at("2026-01-02T10:59:59")) is None
    assert freeze_at([there], at("2026-01-02T11:00")) == Freeze(at("2026-01-03T11:00"), ())
