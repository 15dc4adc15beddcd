"""Freeze windows: weekly times, and days of the calendar, at which nothing new comes into force.

Times are those on the wall of a time zone, so that a window keeps to them when clocks change: what
falls into an hour that is left out is the moment of the change, and an hour that comes twice is
in a window whole that begins or ends in it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from typing import Final

#: LIMIT: how far ahead the end of windows that follow one another is looked for.
_FORESEEN: Final = timedelta(days=400)
_DAY: Final = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Window:
    """One of them.

    Attributes:
        days: on which it begins, Monday is 0; in the zone.
        start, end: of the wall clock; an end that is not after the start is on the next day.
        zone: whose wall clock.
        reason: why, for people.
        first, last: days of the calendar on which it begins, both included; None for no bound.
    """

    days: frozenset[int]
    start: time
    end: time
    zone: tzinfo
    reason: str = ""
    first: date | None = None
    last: date | None = None

    def end_of(self, now: datetime) -> datetime | None:
        """Return when the window that it is in ends (UTC); None outside of it."""
        today = now.astimezone(self.zone).date()
        ends = [end for start, end in self._near(today) if start <= now < end]
        return max(ends, default=None)

    def _near(self, today: date) -> Iterator[tuple[datetime, datetime]]:
        """Yield those that begin around today, which is where they could hold it."""
        over = self.end <= self.start
        for day in (today - 2 * _DAY, today - _DAY, today, today + _DAY):
            if day.weekday() in self.days and self._holds(day):
                # SPEC(PEP 495): fold=1 is the second of two equal times.
                start = datetime.combine(day, self.start, self.zone)
                end = datetime.combine(day + _DAY * over, self.end, self.zone)
                yield _moment(start), _moment(end.replace(fold=1))

    def _holds(self, day: date) -> bool:
        return (self.first is None or self.first <= day) and (self.last is None or day <= self.last)


def _moment(wall: datetime) -> datetime:
    """Return when the clock on the wall says so, or jumps over it."""
    moment = wall.astimezone(UTC)
    if moment.astimezone(wall.tzinfo).replace(tzinfo=None, fold=0) == wall.replace(
        tzinfo=None, fold=0
    ):
        return moment
    first, last = sorted(wall.replace(fold=fold).astimezone(UTC) for fold in (0, 1))
    before = first.astimezone(wall.tzinfo).utcoffset()
    while last - first > timedelta(seconds=1):
        middle = (first + (last - first) / 2).replace(microsecond=0)
        if middle.astimezone(wall.tzinfo).utcoffset() == before:
            first = middle
        else:
            last = middle
    return last


@dataclass(frozen=True, slots=True)
class Freeze:
    """What holds now.

    Attributes:
        until: when the last of the windows that follow one another ends; None for none in sight.
        reasons: of the windows that hold now.
    """

    until: datetime | None
    reasons: tuple[str, ...]


def freeze_at(windows: Sequence[Window], now: datetime) -> Freeze | None:
    """Return what keeps commits out now, None for nothing."""
    holding = [one for one in windows if one.end_of(now) is not None]
    if not holding:
        return None
    reasons = tuple(dict.fromkeys(one.reason for one in holding if one.reason))
    until = now
    while until - now < _FORESEEN:
        ends = [end for one in windows if (end := one.end_of(until)) is not None]
        if not ends:
            return Freeze(until, reasons)
        until = max(ends)
    return Freeze(None, reasons)
