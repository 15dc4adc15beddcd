"""Time and randomness as arguments.

The core takes ``now`` and random bytes as plain values. Edges hold a `Clock` and an `Entropy`
and pass what they read; the server's real ones are in ``server.wiring``, tests have fakes.
"""

from __future__ import annotations

from datetime import datetime
from typing import Protocol


class Clock(Protocol):
    """Where an edge reads the time."""

    def now(self) -> datetime:
        """Return the time as an aware UTC datetime."""
        ...

    def monotonic(self) -> float:
        """Return seconds that never go back, for deadlines."""
        ...


class Entropy(Protocol):
    """Where an edge draws randomness."""

    def bytes(self, count: int) -> bytes:
        """Return `count` unpredictable bytes."""
        ...
