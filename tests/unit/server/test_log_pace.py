from __future__ import annotations

import logging
from typing import Any

from mergescale.server.log_pace import EVENTS, LINES, Pace


class Clock:
    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def record(message: Any, level: int = logging.INFO) -> logging.LogRecord:
    return logging.LogRecord("control", level, "", 0, message, (), None)


def passed(pace: Pace, count: int, message: Any, level: int = logging.INFO) -> int:
    return sum(pace.filter(record(message, level)) for _ in range(count))


def test_one_event_is_bounded_and_others_are_not_concerned() -> None:
    """Ten thousand lines of one event are LINES; another event and debugging still pass."""
    pace = Pace(Clock())
    assert passed(pace, 10_000, {"event": "control.dropped", "machine": "x"}) == LINES
    assert passed(pace, 1, {"event": "control.dropped", "machine": "y"}) == 0
    assert passed(pace, 1, {"event": "policy.applied"}) == 1
    assert passed(pace, 10_000, "Invalid HTTP request received.", logging.WARNING) == LINES
    assert passed(pace, 500, {"event": "map.sent"}, logging.DEBUG) == 500


def test_the_next_minute_tells_what_was_left_out() -> None:
    """The first line after a minute has the count, in the form of its kind; the next has none."""
    clock = Clock()
    pace = Pace(clock)
    for message in ({"event": "a"}, "b"):
        passed(pace, LINES + 5, message)
    clock.now_s = 60
    structured, plain, after = record({"event": "a"}), record("b"), record("b")
    assert [pace.filter(one) for one in (structured, plain, after)] == [True, True, True]
    assert structured.msg == {"event": "a", "left_out": 5}
    assert plain.msg == "b (5 more like this were left out)"
    assert after.msg == "b"


def test_events_told_apart_are_bounded() -> None:
    """A library that logs free text does not make the pace remember all of it."""
    pace = Pace(Clock())
    for number in range(EVENTS * 3):
        assert pace.filter(record(f"text {number}"))
    assert len(pace._minutes) <= EVENTS
