"""One of several replicas: who has the duties, who is taken for dead, and by whom."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta

import pytest

from mergescale.domain.record import Presence, Put
from mergescale.kernel.ids import NodeId, ReplicaId
from mergescale.state.engine import Engine
from mergescale.state.ports import Fence, StoreUnavailable
from mergescale.state.replica import DUTIES, Replica, Terms
from support.aio import aio, turns, until
from support.clock import START, FakeClock, FakeEntropy
from support.journal import MemoryFeed, MemoryJournal
from support.leases import MemoryLeases
from support.stores import HOME
from support.worlds import node

LEASE_S = 9.0
LEASE = timedelta(seconds=LEASE_S)
BEAT = LEASE / 3


@dataclass
class World:
    """Leases that several replicas share; time is moved."""

    clock: FakeClock = field(default_factory=FakeClock)
    journal: MemoryJournal = field(default_factory=MemoryJournal)
    leases: MemoryLeases = field(init=False)

    def __post_init__(self) -> None:
        self.leases = MemoryLeases(self.clock)

    async def join(self, seed: str, *, alone: bool = False) -> Replica:
        terms = Terms(LEASE_S, alone)
        return await Replica.join(self.leases, self.clock, FakeEntropy(seed), terms)

    @asynccontextmanager
    async def engine(self, *online: ReplicaId) -> AsyncIterator[Engine]:
        """Run an engine on a tailnet whose n-th node is connected at the n-th replica."""
        engine = await Engine.open(HOME, self.journal, MemoryFeed(), self.clock)
        for number, replica in enumerate(online, 1):
            added = node(number, f"n{number}", user=None, tags=("tag:x",))
            writes = (Put(added), Put(Presence(added.id, replica, START)))
            await self.journal.commit(HOME, engine.snapshot.revision, writes, START)
            await engine._catch_up()
        async with asyncio.TaskGroup() as group:
            group.create_task(engine.run())
            yield engine
            engine.stop()


@aio
async def test_the_first_has_the_duties_until_it_is_gone() -> None:
    """The second one gets them when the first let its lease lapse, under a higher number."""
    world = World()
    one, two = await world.join("one"), await world.join("two")
    assert (one.duties, two.duties) == (Fence(DUTIES, 1), None)
    assert one.seat.id != two.seat.id
    for _ in range(4):
        world.clock.advance(BEAT)
        await one.beat()
        await two.beat()
    assert (one.duties, two.duties) == (Fence(DUTIES, 1), None)
    world.clock.advance(LEASE)
    assert one.duties is None
    await two.beat()
    assert two.duties == Fence(DUTIES, 2)
    await one.beat()
    assert one.duties is None


@aio
async def test_an_orderly_stop_hands_the_duties_over_at_once() -> None:
    """The presence lease stays, so that clients can move without having been offline."""
    world = World()
    one, two = await world.join("one"), await world.join("two")
    await one.resign()
    assert one.duties is None
    await two.beat()
    assert two.duties == Fence(DUTIES, 2)
    assert await world.leases.living() == {one.seat.id, two.seat.id}


@aio
async def test_who_lost_its_seat_takes_another_and_says_so() -> None:
    """An id that was taken for dead never comes back; who is connected is said again."""
    world = World()
    one, two = await world.join("one"), await world.join("two")
    told: list[ReplicaId] = []
    one.on_new_seat.append(lambda: told.append(one.seat.id))
    before = one.seat
    await one.beat()
    assert (one.seat, told) == (before, [])
    world.clock.advance(BEAT * 2)
    await two.beat()
    world.clock.advance(BEAT * 2)
    assert await world.leases.living() == {two.seat.id}
    await one.beat()
    assert one.seat.id != before.id
    assert told == [one.seat.id]
    assert await world.leases.living() == {one.seat.id, two.seat.id}


@aio
async def test_the_dead_are_buried_by_whoever_has_been_steady() -> None:
    """Their nodes go offline, those of the living stay; nobody judges in its first moments."""
    world = World()
    one, two = await world.join("one"), await world.join("two")
    async with world.engine(one.seat.id, two.seat.id) as engine:
        world.clock.advance(BEAT * 2)
        await two.beat()
        world.clock.advance(BEAT * 2)
        fresh = await world.join("three")
        assert await fresh.bury([engine]) == 0
        assert engine.snapshot.online(NodeId(1))
        assert await two.bury([engine]) == 1
        assert dict(engine.snapshot.presence) == {2: {two.seat.id}}
        assert engine.snapshot.nodes[NodeId(1)].last_seen == world.clock.now()
        assert await two.bury([engine]) == 0


@aio
async def test_after_an_outage_everybody_gets_time_to_renew() -> None:
    """All leases have lapsed then; the first one back must not bury those who are as alive."""
    world = World()
    one, two = await world.join("one"), await world.join("two")
    async with world.engine(one.seat.id) as engine:
        world.clock.advance(LEASE)
        world.leases.away = True
        await two.turn([engine])
        assert two.duties is None
        world.leases.away = False
        await two.turn([engine])
        await one.turn([engine])
        for _ in range(6):
            world.clock.advance(BEAT)
            await one.turn([engine])
            await two.turn([engine])
        assert engine.snapshot.online(NodeId(1))


@aio
async def test_whoever_is_alone_buries_a_lease_later_and_never_lapses() -> None:
    """A restart on SQLite: the predecessor's clients have that long to come back unnoticed."""
    world = World()
    predecessor = await world.join("before", alone=True)
    async with world.engine(predecessor.seat.id) as engine:
        replica = await world.join("after", alone=True)
        for online in (True, True, False):
            await replica.turn([engine])
            assert engine.snapshot.online(NodeId(1))
            world.clock.advance(BEAT)
            await replica.turn([engine])
            assert engine.snapshot.online(NodeId(1)) is online
        world.clock.advance(LEASE * 100)
        assert replica.duties is not None
        seat = replica.seat
        await replica.beat()
        assert (replica.seat, replica.duties) == (seat, Fence(DUTIES, 3))


@aio
async def test_work_runs_only_on_duty() -> None:
    """It begins with the duties, is cancelled when they are lost, and begins again."""
    world = World()
    one, two = await world.join("one"), await world.join("two")
    log: list[str] = []

    async def work() -> None:
        log.append("began")
        try:
            await asyncio.Event().wait()
        finally:
            log.append("ended")

    on_duty = asyncio.create_task(two.on_duty(work))
    await turns()
    assert log == []
    world.clock.advance(LEASE)
    await two.beat()
    await until(lambda: log == ["began"])
    world.clock.advance(LEASE)
    await one.beat()
    await two.beat()
    await until(lambda: log == ["began", "ended"])
    await one.resign()
    await two.beat()
    await until(lambda: log == ["began", "ended", "began"])
    on_duty.cancel()
    await asyncio.gather(on_duty, return_exceptions=True)
    assert log == ["began", "ended", "began", "ended"]


@aio
async def test_work_that_breaks_is_not_hidden() -> None:
    """Whoever runs it learns of it."""
    replica = await World().join("one")

    async def work() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await replica.on_duty(work)


@aio
async def test_joining_needs_the_database() -> None:
    """A replica without a lease does not start."""
    world = World()
    world.leases.away = True
    with pytest.raises(StoreUnavailable):
        await world.join("one")
