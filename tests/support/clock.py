"""A clock that moves when told to, and randomness that repeats."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta

START = datetime(2026, 1, 1, tzinfo=UTC)


class FakeClock:
    """Starts at `START`; monotonic time moves with it."""

    def __init__(self, start: datetime = START) -> None:
        self._now = start
        self._elapsed_s = 0.0

    def now(self) -> datetime:
        return self._now

    def monotonic(self) -> float:
        return self._elapsed_s

    def advance(self, step: timedelta) -> datetime:
        self._now += step
        self._elapsed_s += step.total_seconds()
        return self._now


class FakeEntropy:
    """A repeatable stream of bytes."""

    def __init__(self, seed: str = "seed") -> None:
        self._seed = seed
        self._drawn = 0

    def bytes(self, count: int) -> bytes:
        out = b""
        while len(out) < count:
            self._drawn += 1
            out += hashlib.sha256(f"{self._seed}/{self._drawn}".encode()).digest()
        return out[:count]
