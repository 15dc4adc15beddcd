"""The machine's clock and randomness, handed to everything that needs them."""

from __future__ import annotations

import os
import time
from datetime import UTC, datetime
from typing import Final

import structlog

from mergescale.kernel.timekeeper import CONFIRM_S, Timekeeper

log = structlog.get_logger()

#: Goes on while the machine sleeps, where the system has such a clock: a laptop that was closed
#: for a night has not had its clock set.
_STEADY: Final = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


class SystemClock:
    """The machine's clock, as far as it is to be believed; see ``kernel.timekeeper``.

    Args:
        stored: the newest moment that is on record; None to believe the system's clock.
        confirm_s: how long the system's clock has to keep to a step forward.
    """

    def __init__(self, stored: datetime | None = None, confirm_s: float = CONFIRM_S) -> None:
        self._keeper = Timekeeper(_wall(), _steady_s(), stored=stored, confirm_s=confirm_s)
        self._doubted = False
        self._tell()

    def now(self) -> datetime:
        """Return the time as an aware UTC datetime; it never goes back."""
        now = self._keeper.read(_wall(), _steady_s())
        self._tell()
        return now

    def monotonic(self) -> float:
        """Return seconds that never go back."""
        return time.monotonic()

    def doubt(self) -> str:
        """Say why the time is not that of the system's clock; empty while it is."""
        self.now()
        if not self._keeper.doubted:
            return ""
        seconds = round(self._keeper.ahead.total_seconds())
        if seconds > 0:
            return f"the system's clock stepped {seconds} s ahead; not believed yet"
        return f"the system's clock is {-seconds} s behind what was the time already"

    def _tell(self) -> None:
        """Log when the system's clock stepped, and when it is the time again."""
        if self._keeper.doubted == self._doubted:
            return
        self._doubted = self._keeper.doubted
        ahead_s = round(self._keeper.ahead.total_seconds())
        if self._doubted:
            log.warning("clock.stepped", ahead_s=ahead_s)
        else:
            log.info("clock.agrees")


def _wall() -> datetime:
    return datetime.now(UTC)  # noqa: TID251 - this is the clock


def _steady_s() -> float:
    return time.clock_gettime(_STEADY)


class SystemEntropy:
    """The machine's randomness."""

    def bytes(self, count: int) -> bytes:
        """Return `count` unpredictable bytes."""
        return os.urandom(count)
