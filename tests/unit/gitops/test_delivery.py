"""The condition `Delivered` of two replicas with streams of their own, on one journal."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterable
from datetime import timedelta

import pytest
from structlog.testing import capture_logs

from mergescale.domain.record import Put
from mergescale.gitops.delivery import TURN_S, Delivery
from mergescale.gitops.status import time_json
from mergescale.kernel.ids import NodeId, ReplicaId, TailnetName
from mergescale.state import policies, presence
from mergescale.state.engine import Engine
from mergescale.state.ports import Fence, LeaseLost, StoreUnavailable, presence_lease
from mergescale.state.replica import Seat
from support.aio import aio
from support.clock import FakeClock
from support.journal import MemoryFeed, MemoryJournal
from support.reach import declare
from support.worlds import deployment, world

HOME = TailnetName("default")


class Streams:
    """The in-memory twin of ``fanout.hub.Hub``, as far as it is counted."""

    def __init__(self) -> None:
        self.open: set[int] = set()
        self.written: set[int] = set()

    def nodes(self) -> frozenset[NodeId]:
        return frozenset(map(NodeId, self.open))

    def holders(self) -> frozenset[NodeId]:
        return frozenset(map(NodeId, self.written & self.open))


class Replica:
    """One of those that share a journal."""

    def __init__(self, name: str, journal: MemoryJournal, clock: FakeClock, *, told: bool) -> None:
        self.id = ReplicaId(name)
        self.journal, self.clock, self.told = journal, clock, told
        self.streams = Streams()
        journal.leases[presence_lease(self.id)] = 1

    async def open(self) -> None:
        self.engine = await Engine.open(HOME, self.journal, MemoryFeed(), self.clock)
        seat = Seat(self.id, Fence(presence_lease(self.id), 1))
        self.delivery = Delivery(
            self.engine, self.streams, lambda: seat, self.clock, told=self.told
        )

    async def connect(self, *nodes: int) -> None:
        for node in nodes:
            self.streams.open.add(node)
            await self.engine.apply(presence.connected(NodeId(node), self.id))

    def write(self, nodes: Iterable[int]) -> None:
        self.streams.written.update(nodes)

    async def put(self, commit: str) -> None:
        """Bring a commit into force; no stream holds it yet."""
        self.streams.written.clear()
        declared, snapshot = declare(), self.engine.snapshot
        held = deployment(declared, commit=commit, at=self.clock.now())
        resolved = declared.policy.resolve(snapshot)
        await self.engine.apply(policies.replace(held, resolved, snapshot))

    @property
    def said(self) -> tuple[bool | None, str, str]:
        told = self.delivery.condition()
        return told["state"], told["reason"], told["message"]


@contextlib.asynccontextmanager
async def replicas(*names: str) -> AsyncIterator[list[Replica]]:
    """Run replicas of a tailnet with four nodes, none of them connected."""
    journal, clock = MemoryJournal(), FakeClock()
    people = world("alice@example.com: a, b, c, d", online=False)
    journal.batches[HOME] = [tuple(Put(record) for record in people.records())]
    found = [Replica(name, journal, clock, told=len(names) > 1) for name in names]
    async with asyncio.TaskGroup() as tasks:
        for one in found:
            await one.open()
            tasks.create_task(one.engine.run())
        try:
            yield found
        finally:
            for one in found:
                one.engine.stop()


@aio
async def test_it_is_counted_from_nothing_to_all() -> None:
    """Unknown without a policy; false until every stream was written; the time is that of the turn."""
    async with replicas("one") as [one]:
        assert one.delivery.condition() == {
            "name": "Delivered",
            "state": None,
            "reason": "NotYet",
            "message": "",
            "since": None,
        }
        await one.connect(1, 2)
        await one.put("a" * 40)
        one.clock.advance(timedelta(seconds=5))
        assert one.said == (False, "Delivering", "0/2 nodes, 2 offline")
        assert one.delivery.condition()["since"] == "2026-01-01T00:00:00Z"
        one.write([1])
        assert one.said == (False, "Delivering", "1/2 nodes, 2 offline")
        assert one.delivery.undelivered == 1
        with capture_logs() as logs:
            one.write([2])
            assert one.said == (True, "Delivered", "2/2 nodes, 2 offline")
            one.clock.advance(timedelta(seconds=5))
            assert one.delivery.condition()["since"] == "2026-01-01T00:00:05Z"
        assert [(log["event"], log["commit"], log["nodes"]) for log in logs] == [
            ("policy.delivered", "a" * 40, 2)
        ]
        assert one.delivery.tally().as_json() == {"n": 2, "m": 2, "offline": 2}


@aio
async def test_the_next_commit_begins_anew() -> None:
    """Also the same commit when it comes back: nobody holds it before it was written again."""
    async with replicas("one") as [one]:
        await one.connect(1)
        for commit in ("a" * 40, "b" * 40, "a" * 40):
            one.clock.advance(timedelta(seconds=9))
            await one.put(commit)
            began = one.clock.now()
            one.clock.advance(timedelta(seconds=1))
            assert one.said == (False, "Delivering", "0/1 nodes, 3 offline")
            assert one.delivery.condition()["since"] == time_json(began)
            one.write([1])
            assert one.said == (True, "Delivered", "1/1 nodes, 3 offline")


@aio
async def test_with_nobody_connected_there_is_nothing_to_deliver() -> None:
    """True, and it says why."""
    async with replicas("one") as [one]:
        await one.put("a" * 40)
        assert one.said == (True, "NobodyConnected", "0/0 nodes, 4 offline")


@aio
async def test_a_process_alone_writes_nothing_of_it() -> None:
    """With SQLite there is nobody to be told."""
    async with replicas("one") as [one]:
        await one.connect(1)
        await one.put("a" * 40)
        one.write([1])
        before = one.engine.snapshot.revision
        await one.delivery.turn()
        assert one.engine.snapshot.revision == before


@aio
async def test_replicas_count_each_others_streams() -> None:
    """Only what was said; said once, not once for each node; a commit later nothing counts."""
    async with replicas("one", "two") as [one, two]:
        await one.connect(1, 2)
        await two.engine.reach(one.engine.snapshot.revision)
        await two.connect(3)
        await two.put("a" * 40)
        await one.engine.reach(two.engine.snapshot.revision)
        one.write([1, 2])
        assert (one.said[2], two.said[2]) == ("2/3 nodes, 1 offline", "0/3 nodes, 1 offline")
        before = one.engine.snapshot.revision
        for _ in range(3):
            await one.delivery.turn()
        assert one.engine.snapshot.revision == before + 1
        await two.engine.reach(one.engine.snapshot.revision)
        assert two.said == (False, "Delivering", "2/3 nodes, 1 offline")
        two.write([3])
        await two.delivery.turn()
        await one.engine.reach(two.engine.snapshot.revision)
        assert one.said == two.said == (True, "Delivered", "3/3 nodes, 1 offline")
        two.clock.advance(timedelta(seconds=1))
        one.streams.written.clear()
        await two.put("b" * 40)
        await one.engine.reach(two.engine.snapshot.revision)
        assert one.said == two.said == (False, "Delivering", "0/3 nodes, 1 offline")


@aio
async def test_what_cannot_be_said_is_said_the_next_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither a database that is away nor a lost name ends the counting."""
    monkeypatch.setattr("mergescale.gitops.delivery.TURN_S", TURN_S / 1000)
    async with replicas("one", "two") as [one, _]:
        await one.connect(1)
        await one.put("a" * 40)
        one.write([1])
        for trouble in (StoreUnavailable("away"), LeaseLost("another name by now")):
            one.journal.fail_next = trouble
            with pytest.raises(type(trouble)):
                await one.delivery.turn()
        one.journal.fail_next = StoreUnavailable("away")
        running = asyncio.create_task(one.delivery.run())
        while not one.engine.snapshot.following.delivered:  # noqa: ASYNC110 - see aio.until
            await asyncio.sleep(0)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        assert [told.nodes for told in one.engine.snapshot.following.delivered] == ["1"]
