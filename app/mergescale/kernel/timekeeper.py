"""What the server takes for the time when the system's clock steps.

Keys expire and abandoned nodes are removed by the clock, and what was removed does not come back
when the clock is put right. So a step is not believed at once, and time never goes back:

* A step forward counts only once the system's clock has kept to it for `confirm_s`. Until then time
  goes on from where it was, by the seconds that passed. If the step is taken back before, it never
  was.
* After a step back, time goes on at half the speed until the system's clock has caught up. What had
  expired stays expired, and an hour of lead is gone after two.
* A restart changes neither: time goes on from the newest moment that is stored. A server that was
  off for longer than `DOWNTIME` treats that as a step forward.

Between steps it is the system's clock, to the microsecond.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

#: LIMIT: what is no step: a leap second, a busy machine between two readings, an NTP correction.
TOLERANCE: Final = timedelta(seconds=60)
#: LIMIT: a server that is started after a longer time than this is rather one whose clock is wrong.
DOWNTIME: Final = timedelta(days=60)
#: LIMIT: an NTP client asks at least every 1024 s (RFC 5905, section 13: maximum poll 2^10 s as
#: shipped). Twice that, and a wrong clock had its chance to be put right.
CONFIRM_S: Final = 2048.0
_HALF: Final = 2


@dataclass(frozen=True, slots=True)
class _Reading:
    """Both clocks at one moment."""

    wall: datetime
    steady_s: float

    def leads_to(self, later: _Reading) -> bool:
        """Say whether the system's clock only ran, and was not set, from here to `later`."""
        ran = (later.wall - self.wall) - timedelta(seconds=later.steady_s - self.steady_s)
        return abs(ran) <= TOLERANCE


class Timekeeper:
    """Tells the time out of two clocks: one that may be set, and one that only runs.

    INVARIANT(time only grows): no answer of `read` is before an earlier one.

    Args:
        wall: the system's clock now; aware, UTC.
        steady_s: seconds of a clock that is never set, now.
        stored: the newest moment that is on record; None to believe the system's clock.
        confirm_s: how long the system's clock has to keep to a step forward; 0 believes all of them.

    Attributes:
        ahead: how far the system's clock was ahead of the time at the last `read`; negative when
            it was behind. Within `TOLERANCE` unless it stepped.
    """

    def __init__(
        self,
        wall: datetime,
        steady_s: float,
        *,
        stored: datetime | None = None,
        confirm_s: float = CONFIRM_S,
    ) -> None:
        plausible = stored is None or stored <= wall <= stored + DOWNTIME
        self._now = wall if stored is None or plausible else stored
        self._steady_s = steady_s
        self._claim: _Reading | None = None
        self._confirm_s = confirm_s
        self.ahead = wall - self._now

    @property
    def doubted(self) -> bool:
        """Say whether the time is not that of the system's clock, which stepped."""
        return abs(self.ahead) > TOLERANCE

    def read(self, wall: datetime, steady_s: float) -> datetime:
        """Return the time; the arguments are the two clocks, read at the same moment."""
        passed = timedelta(seconds=max(0.0, steady_s - self._steady_s))
        lead = wall - (self._now + passed)
        if lead > TOLERANCE and not self._keeps_to(_Reading(wall, steady_s)):
            now = self._now + passed
        else:
            if lead <= TOLERANCE:
                self._claim = None
            # Half speed while the system's clock is behind, its own time otherwise.
            now = max(wall, self._now + passed / _HALF)
        self._now, self._steady_s, self.ahead = now, max(steady_s, self._steady_s), wall - now
        return now

    def _keeps_to(self, reading: _Reading) -> bool:
        """Say whether the system's clock has shown the same step for long enough."""
        if self._claim is None or not self._claim.leads_to(reading):
            self._claim = reading
        return reading.steady_s - self._claim.steady_s >= self._confirm_s
