"""Durations in Go's spelling."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mergescale.policy.ssh.durations import HOUR, MINUTE, SECOND, duration_text, parse_duration


@pytest.mark.parametrize(
    ("text", "nanoseconds"),
    [
        ("0", 0),
        ("12h", 12 * HOUR),
        ("1h30m", HOUR + 30 * MINUTE),
        ("1.5h", 90 * MINUTE),
        (".5s", SECOND // 2),
        ("1.s", SECOND),
        ("-1m", -MINUTE),
        ("+1m", MINUTE),
        ("1us", 1_000),
        ("1\u00b5s2\u03bcs3ns", 3_003),
        ("0.1234567891s", 123_456_789),
    ],
)
def test_durations_are_read_as_go_reads_them(text: str, nanoseconds: int) -> None:
    """Units add up, fractions count, a lone zero needs no unit."""
    assert parse_duration(text) == nanoseconds


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", 'time: invalid duration ""'),
        ("abc", 'time: invalid duration "abc"'),
        (".s", 'time: invalid duration ".s"'),
        ("1h-2m", 'time: unknown unit "h-" in duration "1h-2m"'),
        ("12", 'time: missing unit in duration "12"'),
        ("1d", 'time: unknown unit "d" in duration "1d"'),
        ("9999999999h", 'time: invalid duration "9999999999h"'),
        ("9" * 5000 + "h", 'time: invalid duration "' + "9" * 79 + '…"'),
    ],
)
def test_what_is_no_duration_is_told_in_gos_words(text: str, message: str) -> None:
    """The message is that of Go's time package."""
    assert parse_duration(text) == message


@pytest.mark.parametrize(
    ("nanoseconds", "text"),
    [
        (0, "0s"),
        (200 * HOUR, "200h0m0s"),
        (168 * HOUR + SECOND, "168h0m1s"),
        (30 * SECOND, "30s"),
        (90 * SECOND, "1m30s"),
        (1_500_000, "1.5ms"),
        (2_000, "2\u00b5s"),
        (7, "7ns"),
        (-SECOND - 1, "-1.000000001s"),
    ],
)
def test_durations_are_written_as_go_writes_them(nanoseconds: int, text: str) -> None:
    """Hours, minutes and seconds from a second on, one smaller unit below."""
    assert duration_text(nanoseconds) == text


@given(st.integers(-(2**62), 2**62))
def test_what_is_written_is_read_back(nanoseconds: int) -> None:
    """Reading what was written gives the same duration."""
    assert parse_duration(duration_text(nanoseconds)) == nanoseconds
