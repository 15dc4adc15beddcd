"""The engine on a real database."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import datetime
from ipaddress import ip_network

from mergescale.domain.node import Node
from mergescale.domain.record import Presence, Put, Write
from mergescale.domain.snapshot import Snapshot
from mergescale.kernel.ids import NodeId, ReplicaId, TailnetName
from mergescale.state import presence
from mergescale.state.engine import Engine
from mergescale.state.outcome import Decision, Outcome, outcome
from mergescale.state.ports import StoreConflict
from support.aio import aio
from support.clock import START, FakeClock
from support.journal import MemoryFeed
from support.stores import HOME, opened
from support.worlds import node


def adding(new: Node) -> Decision[Node]:
    def decide(snapshot: Snapshot, _: datetime) -> Outcome[Node]:
        return outcome(snapshot, [Put(new)], new)

    return decide


@aio
async def test_what_cannot_be_fails_alone(database_url: str) -> None:
    """A node key that another tailnet has is refused without failing the rest of its batch."""
    async with opened(database_url) as store:
        home, other = [
            await Engine.open(name, store.journal, MemoryFeed(), FakeClock())
            for name in (HOME, TailnetName("other"))
        ]
        running = [asyncio.create_task(engine.run()) for engine in (home, other)]
        taken = node(1, "laptop", user=None, tags=("tag:a",))
        await home.apply(adding(taken))

        answers = await asyncio.gather(
            other.apply(adding(node(2, "phone", user=None, tags=("tag:a",)))),
            other.apply(adding(taken)),
            other.apply(adding(node(3, "tablet", user=None, tags=("tag:a",)))),
            return_exceptions=True,
        )

        assert [type(answer) for answer in answers] == [Node, StoreConflict, Node]
        assert sorted(other.snapshot.names) == ["phone", "tablet"]
        for engine in (home, other):
            engine.stop()
        await asyncio.gather(*running)


NET = ip_network("10.0.0.0/24")
HERE = ReplicaId("here")


def router(number: int) -> Node:
    """Return the number-th router of `NET`; the first is the oldest."""
    plain = node(number, f"r{number}", user=None, tags=("tag:r",))
    return replace(plain, advertised=(NET,), approved=frozenset({NET}))


def putting(*writes: Write) -> Decision[None]:
    def decide(snapshot: Snapshot, _: datetime) -> Outcome[None]:
        return outcome(snapshot, writes, None)

    return decide


@aio
async def test_who_carries_a_route_survives_restarts_and_other_replicas(database_url: str) -> None:
    """It went from the oldest router to the second; every engine that loads or follows knows that.

    Each start and each replica would choose the oldest one, if it had to choose.
    """
    async with opened(database_url) as store:
        one = await Engine.open(HOME, store.journal, MemoryFeed(), FakeClock())
        running = asyncio.create_task(one.run())
        await one.apply(putting(Put(router(1)), Put(Presence(NodeId(1), HERE, START))))
        two = await Engine.open(HOME, store.journal, MemoryFeed(), FakeClock())
        await one.apply(putting(Put(router(2)), Put(Presence(NodeId(2), HERE, START))))
        await one.apply(presence.disconnected(NodeId(1), HERE))
        await one.apply(presence.connected(NodeId(1), HERE))
        assert dict(one.snapshot.primaries) == {NET: 2}

        await two._catch_up()
        again = await Engine.open(HOME, store.journal, MemoryFeed(), FakeClock())
        assert dict(two.snapshot.primaries) == dict(again.snapshot.primaries) == {NET: 2}

        await one.apply(presence.disconnected(NodeId(2), HERE))
        await two._catch_up()
        again = await Engine.open(HOME, store.journal, MemoryFeed(), FakeClock())
        assert dict(two.snapshot.primaries) == dict(again.snapshot.primaries) == {NET: 1}
        one.stop()
        await running
