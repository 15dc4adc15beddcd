"""What others ask to wait."""

from __future__ import annotations

from datetime import timedelta
from email.utils import format_datetime

import pytest

from mergescale.gitops.waits import asked_s, bounded_s
from support.clock import START


@pytest.mark.parametrize(
    ("said", "waits_s"),
    [
        ("7", 7),
        (" 7 ", 7),
        ("0", 1),
        ("", 60),
        ("soon", 60),
        ("-5", 60),
        ("9" * 400, 3600),
        ("\u0667", 60),
        (format_datetime(START + timedelta(seconds=90), usegmt=True), 90),
        ("Mon, 01 Jan 1990 00:00:00 -0000", 1),
        ("Fri, 31 Dec 9999 23:59:59 GMT", 3600),
    ],
)
def test_what_a_remote_asks_to_wait_is_bounded(said: str, waits_s: float) -> None:
    """It can neither make us hurry nor stop us for ever."""
    assert bounded_s(asked_s(said, START.timestamp())) == waits_s
