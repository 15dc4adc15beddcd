"""What a hub tells of its work, for metrics. Nobody listens unless the server says so."""

from __future__ import annotations

from enum import StrEnum
from typing import Protocol


class Kind(StrEnum):
    """What a message of a map stream is."""

    FULL = "full"
    DELTA = "delta"
    KEEPALIVE = "keepalive"
    ASIDE = "aside"


class Meter(Protocol):
    """Takes note; must not block or raise."""

    def made(self, kind: Kind, size_bytes: int, seconds: float) -> None:
        """Note a message and how long it took to make."""
        ...

    def reached(self, seconds: float) -> None:
        """Note that a client holds a policy that concerns it, so long after it came into force."""
        ...


class Unmetered:
    """Listens to nothing."""

    def made(self, kind: Kind, size_bytes: int, seconds: float) -> None:
        """Take no note."""

    def reached(self, seconds: float) -> None:
        """Take no note."""
