"""Letters in memory, and an outbox whose pauses a test decides about."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from mergescale.domain.letter import Letter
from mergescale.gitops.outbox import Duties, Letters, Outbox
from mergescale.gitops.watch import Pace
from mergescale.kernel.ids import TailnetName
from mergescale.state.ports import Fence, LeaseLost, StoreUnavailable
from support.clock import FakeClock

HOME = TailnetName("default")


@dataclass(slots=True)
class Kept:
    """A letter, and how far it is."""

    letter: Letter
    said: datetime
    delivered: int = 0
    trouble: str = ""


@dataclass(slots=True)
class MemoryLetters:
    """The in-memory twin of ``store.outbox.SqlLetters``.

    Attributes:
        lost: fences that are another replica's by now.
        away: whether nothing can be read or written.
    """

    kept: dict[tuple[TailnetName, str, str], Kept] = field(default_factory=dict)
    lost: set[Fence] = field(default_factory=set)
    away: bool = False

    async def put(self, tailnet: TailnetName, letter: Letter, fence: Fence | None) -> bool:
        self._reach()
        if fence in self.lost:
            raise LeaseLost("the lease that this rests on is lost")
        place = tailnet, letter.channel, letter.key
        before = self.kept.get(place)
        if before is None:
            first = replace(letter, sequence=1, attempts=0)
            self.kept[place] = Kept(first, letter.due, int(letter.quiet))
            return True
        old = before.letter
        if old.body == letter.body or (old.final and not letter.final):
            return False
        fresh = replace(letter, sequence=old.sequence + 1, attempts=0)
        self.kept[place] = Kept(fresh, letter.due, before.delivered)
        return True

    async def due(self, tailnet: TailnetName, channel: str, now: datetime) -> list[Letter]:
        self._reach()
        found = [one for one in self._waiting(tailnet, channel) if one.due <= now]
        return sorted(found, key=lambda one: (one.due, one.key))

    async def next_due(self, tailnet: TailnetName, channel: str, now: datetime) -> datetime | None:
        self._reach()
        found = [one.due for one in self._waiting(tailnet, channel) if one.due > now]
        return min(found, default=None)

    async def wanted(self, tailnet: TailnetName, channel: str, key: str) -> Letter | None:
        self._reach()
        kept = self.kept.get((tailnet, channel, key))
        return None if kept is None else kept.letter

    async def states(
        self, tailnet: TailnetName, channel: str, key: str | None = None, *, under: str = ""
    ) -> list[Letter]:
        self._reach()
        return [
            kept.letter
            for (whose, at, name), kept in self.kept.items()
            if (whose, at) == (tailnet, channel) and key in (None, name) and name.startswith(under)
        ]

    async def delivered(self, tailnet: TailnetName, letter: Letter, trouble: str = "") -> None:
        self._reach()
        kept = self.kept[tailnet, letter.channel, letter.key]
        if kept.delivered < letter.sequence:
            kept.delivered, kept.trouble = letter.sequence, trouble

    async def failed(
        self, tailnet: TailnetName, letter: Letter, due: datetime, trouble: str
    ) -> None:
        self._reach()
        kept = self.kept[tailnet, letter.channel, letter.key]
        if kept.letter.sequence == letter.sequence:
            kept.letter = replace(kept.letter, attempts=kept.letter.attempts + 1, due=due)
            kept.trouble = trouble

    async def prune(self, tailnet: TailnetName, before: datetime) -> int:
        self._reach()
        old = [at for at, one in self.kept.items() if at[0] == tailnet and one.said < before]
        for at in old:
            del self.kept[at]
        return len(old)

    def _reach(self) -> None:
        if self.away:
            raise StoreUnavailable("the database could not be read")

    def _waiting(self, tailnet: TailnetName, channel: str) -> list[Letter]:
        return [
            kept.letter
            for (whose, at, _), kept in self.kept.items()
            if (whose, at) == (tailnet, channel) and kept.delivered < kept.letter.sequence
        ]


class Pauses:
    """Pauses that end at once and move the clock; what was slept is in `slept_s`."""

    def __init__(self, clock: FakeClock) -> None:
        self._clock = clock
        self.slept_s: list[float] = []

    @property
    def pace(self) -> Pace:
        return Pace(self._sleep, lambda: 0.5)

    async def _sleep(self, seconds: float) -> None:
        if seconds >= 60 * 60 or seconds == 5.0:
            await asyncio.Event().wait()  # until there is news
        self.slept_s.append(seconds)
        self._clock.advance(timedelta(seconds=seconds))
        await asyncio.sleep(0)


@asynccontextmanager
async def working(
    letters: Letters, clock: FakeClock, *, duties: Duties = lambda: None, pace: Pace | None = None
) -> AsyncIterator[Outbox]:
    """Make an outbox; what is said is kept. `dispatching` delivers it."""
    outbox = Outbox(HOME, letters, clock, duties, pace or Pauses(clock).pace)
    task = asyncio.create_task(outbox.run())
    try:
        yield outbox
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@asynccontextmanager
async def dispatching(outbox: Outbox) -> AsyncIterator[None]:
    """Deliver for the block."""
    task = asyncio.create_task(outbox.dispatch())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
