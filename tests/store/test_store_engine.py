"""The engine on a real database."""

from __future__ import annotations

import asyncio
from datetime import datetime

from mergescale.domain.node import Node
from mergescale.domain.record import Put
from mergescale.domain.snapshot import Snapshot
from mergescale.kernel.ids import TailnetName
from mergescale.state.engine import Engine
from mergescale.state.outcome import Decision, Outcome, outcome
from mergescale.state.ports import StoreConflict
from support.aio import aio
from support.clock import FakeClock
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
