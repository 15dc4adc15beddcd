"""This process as one of those that share the database.

A replica holds up to two leases and renews both at every beat:

* its presence lease, under which it says who is connected to it. When that lapses, whoever notices
  takes the replica's clients offline; a replica that lost it goes on under another id and says
  again who is connected.
* the duties, which only one replica holds: following repositories, and what time does (`upkeep`).

INVARIANT(dead-stay-dead): an id whose presence lease has ended is never used again, so that taking
the dead offline can not hit anybody who came back meanwhile.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine, Iterable
from dataclasses import dataclass
from datetime import datetime
from math import inf
from typing import Any, Final, Self

from mergescale.kernel.clock import Clock, Entropy
from mergescale.kernel.errors import MergescaleError
from mergescale.kernel.ids import ReplicaId
from mergescale.state import presence
from mergescale.state.engine import Engine, EngineStopped
from mergescale.state.ports import Fence, Leases, StoreUnavailable, presence_lease

#: The lease on what only one replica does.
DUTIES: Final = "duties"
#: Beats in the time that a lease lasts: two may fail before it lapses.
_BEATS: Final = 3
_ID_BYTES: Final = 8


class NoLease(MergescaleError):
    """Raised when a fresh replica gets no presence lease; its id is random, so this is a bug."""

    code = "replica.no-lease"


@dataclass(frozen=True, slots=True)
class Seat:
    """Under which name the replica says who is connected to it, and its right to do so."""

    id: ReplicaId
    fence: Fence


@dataclass(frozen=True, slots=True)
class Terms:
    """How leases are kept.

    Attributes:
        lease_s: how long one lasts unless it is renewed.
        alone: no other process uses the database (SQLite). Every lease that is found was a
            predecessor's, who is gone; one's own never lapse for want of a beat.
    """

    lease_s: float
    alone: bool


class Replica:
    """Use `join` to make one, `run` in a task group.

    Attributes:
        terms: how its leases are kept.
        seat: the presence lease; another one after it was lost.
        on_new_seat: called when it was lost and there is another one.
        beaten_s: when its leases were renewed last, by the monotonic clock.
        duties_since: when it got the duties that it had at that beat; None if others had them.
    """

    def __init__(self, leases: Leases, clock: Clock, entropy: Entropy, terms: Terms) -> None:
        self.seat = Seat(ReplicaId(""), Fence("", 0))
        self.on_new_seat: list[Callable[[], object]] = []
        self.terms = terms
        self.beaten_s = -inf
        self.duties_since: datetime | None = None
        self._leases = leases
        self._clock = clock
        self._entropy = entropy
        self._duties: Fence | None = None
        self._duties_until_s = -inf
        self._steady_since_s = clock.monotonic()
        self._on_duty = asyncio.Event()
        self._off_duty = asyncio.Event()

    @classmethod
    async def join(cls, leases: Leases, clock: Clock, entropy: Entropy, terms: Terms) -> Self:
        """Take a presence lease, and the duties if nobody has them.

        Raises:
            StoreUnavailable: the database did not answer.
        """
        replica = cls(leases, clock, entropy, terms)
        if terms.alone:
            await leases.end_all()
        await replica._sit_down()
        await replica._see_to_duties()
        return replica

    @property
    def duties(self) -> Fence | None:
        """The right to what only one replica does; None while it is not this one's.

        It ends by this process's own clock no later than the lease can lapse, and what it allowed
        until then is refused by its number if it comes too late.
        """
        return self._duties if self._clock.monotonic() < self._duties_until_s else None

    async def run(self, engines: Iterable[Engine]) -> None:
        """Beat for ever; cancel it to stop."""
        watched = tuple(engines)
        with contextlib.suppress(EngineStopped):
            while True:
                await asyncio.sleep(self.terms.lease_s / _BEATS)
                await self.turn(watched)

    async def turn(self, engines: Iterable[Engine]) -> None:
        """Beat and bury; a database that is away is waited for.

        Raises:
            EngineStopped: too late.
        """
        try:
            await self.beat()
            await self.bury(engines)
        except StoreUnavailable:
            self._steady_since_s = self._clock.monotonic()
            self._tell_duties()

    async def beat(self) -> None:
        """Renew what is held, take what is free.

        Raises:
            StoreUnavailable: the database did not answer.
        """
        if not await self._leases.renew(self.seat.fence, self.terms.lease_s):
            await self._sit_down()
            for tell in self.on_new_seat:
                tell()
        await self._see_to_duties()

    async def bury(self, engines: Iterable[Engine]) -> int:
        """Take offline who was connected to replicas that are gone; return how many nodes.

        Not before this replica has beaten without trouble for the length of a lease. After an
        outage of the database every lease has lapsed, and the living need time to renew theirs;
        after a restart clients need it to come back, and whoever does has never been offline:
        INVARIANT(sticky) routes would otherwise go to the first router that is back.

        Raises:
            StoreUnavailable: the database did not answer.
            EngineStopped: too late.
        """
        steady_s = self._clock.monotonic() - self._steady_since_s
        if steady_s < self.terms.lease_s:
            return 0
        # Who is named here had a lease before, so it is gone if it has none afterwards.
        named = [(engine, presence.replicas(engine.snapshot)) for engine in engines]
        living = await self._leases.living()
        buried = 0
        for engine, replicas in named:
            if gone := replicas - living:
                buried += await engine.apply(presence.sweep(gone))
        return buried

    async def on_duty(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Do the work whenever this replica has the duties; cancel it when it has them no more."""
        while True:
            await self._on_duty.wait()
            task = asyncio.ensure_future(work())
            relieved = asyncio.ensure_future(self._off_duty.wait())
            try:
                await asyncio.wait({task, relieved}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                task.cancel()
                relieved.cancel()
                done, _ = await asyncio.gather(task, relieved, return_exceptions=True)
            if isinstance(done, Exception):
                raise done

    async def resign(self) -> None:
        """Give the duties up, so that another replica has them at once; for an orderly stop.

        The presence lease stays until it lapses: the clients get that long to reconnect elsewhere
        without having been offline.

        Raises:
            StoreUnavailable: the database did not answer.
        """
        fence, self._duties, self.duties_since = self._duties, None, None
        self._duties_until_s = -inf
        self._tell_duties()
        if fence is not None:
            await self._leases.release(fence)

    async def _sit_down(self) -> None:
        """Take a presence lease under an id that nobody had before."""
        fresh = ReplicaId(self._entropy.bytes(_ID_BYTES).hex())
        fence = await self._leases.acquire(presence_lease(fresh), fresh, self.terms.lease_s)
        if fence is None:
            raise NoLease("the database gave no presence lease to a fresh id")
        self.seat = Seat(fresh, fence)

    async def _see_to_duties(self) -> None:
        """Renew the duties, or take them when they are free."""
        began_s, lasts_s = self._clock.monotonic(), self.terms.lease_s
        if self._duties is None or not await self._leases.renew(self._duties, lasts_s):
            self._duties = await self._leases.acquire(DUTIES, self.seat.id, lasts_s)
            self.duties_since = self._clock.now()
        self.beaten_s = began_s
        if self._duties is None:
            self.duties_since = None
            self._duties_until_s = -inf
        else:
            self._duties_until_s = inf if self.terms.alone else began_s + lasts_s
        self._tell_duties()

    def _tell_duties(self) -> None:
        held = self.duties is not None
        told, untold = (self._on_duty, self._off_duty) if held else (self._off_duty, self._on_duty)
        untold.clear()
        told.set()
