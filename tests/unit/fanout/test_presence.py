"""Streams that open and close become presence decisions."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from mergescale.fanout.presence import GRACE_S, RETRY_S, Presence
from mergescale.kernel.errors import MergescaleError, NotFound
from mergescale.kernel.ids import NodeId
from mergescale.state.engine import EngineStopped
from mergescale.state.ports import StoreUnavailable
from support.aio import aio
from support.timers import FakeTimers

NODE, OTHER = NodeId(1), NodeId(2)


class Office:
    """Takes decisions; `refuse` makes the next ones fail, `hold` keeps them under way."""

    def __init__(self) -> None:
        self.taken: list[tuple[NodeId, bool]] = []
        self.refuse: list[MergescaleError] = []
        self.hold: asyncio.Event | None = None

    async def submit(self, node: NodeId, connected: bool) -> None:
        if self.refuse:
            raise self.refuse.pop()
        self.taken.append((node, connected))
        if self.hold is not None:
            await self.hold.wait()


@asynccontextmanager
async def working(office: Office, timers: FakeTimers) -> AsyncIterator[Presence]:
    presence = Presence(office.submit, timers)
    async with asyncio.TaskGroup() as group:
        group.create_task(presence.run())
        yield presence
        presence.stop()


@aio
async def test_a_node_is_online_at_once_and_offline_after_the_grace_period() -> None:
    """Not a moment before it."""
    office, timers = Office(), FakeTimers()
    async with working(office, timers) as presence:
        presence.opened(NODE)
        await timers.settle()
        assert office.taken == [(NODE, True)]
        presence.closed(NODE)
        timers.advance(GRACE_S - 0.1)
        await timers.settle()
        assert office.taken == [(NODE, True)]
        timers.advance(0.1)
        await timers.settle()
        assert office.taken == [(NODE, True), (NODE, False)]


@aio
async def test_a_quick_return_goes_unnoticed() -> None:
    """Neither offline nor online again is said, and the old alarm is gone."""
    office, timers = Office(), FakeTimers()
    async with working(office, timers) as presence:
        presence.opened(NODE)
        await timers.settle()
        presence.closed(NODE)
        timers.advance(GRACE_S / 2)
        presence.opened(NODE)
        timers.advance(GRACE_S)
        await timers.settle()
        assert office.taken == [(NODE, True)]
        assert timers.pending == []


@aio
async def test_the_last_wish_wins_while_a_decision_is_under_way() -> None:
    """A node that comes back while it is being taken offline ends online."""
    office, timers = Office(), FakeTimers()
    async with working(office, timers) as presence:
        presence.opened(NODE)
        await timers.settle()
        presence.closed(NODE)
        office.hold = asyncio.Event()
        timers.advance(GRACE_S)
        await timers.settle()
        presence.opened(NODE)
        await timers.settle()
        assert office.taken == [(NODE, True), (NODE, False)]
        office.hold.set()
        await timers.settle()
        assert office.taken[-1] == (NODE, True)


@aio
async def test_decisions_of_several_nodes_go_together() -> None:
    """The engine can commit them in one transaction."""
    office, timers = Office(), FakeTimers()
    office.hold = asyncio.Event()
    async with working(office, timers) as presence:
        presence.opened(NODE)
        presence.opened(OTHER)
        await timers.settle()
        assert sorted(office.taken) == [(NODE, True), (OTHER, True)]
        office.hold.set()


@aio
async def test_what_the_database_did_not_take_is_tried_again() -> None:
    """With what is wanted by then, not with what was wanted first."""
    office, timers = Office(), FakeTimers()
    async with working(office, timers) as presence:
        office.refuse = [StoreUnavailable("the database is away")]
        presence.opened(NODE)
        await timers.settle()
        assert office.taken == []
        timers.advance(RETRY_S)
        await timers.settle()
        assert office.taken == [(NODE, True)]
        office.refuse = [StoreUnavailable("the database is away")]
        presence.closed(NODE)
        timers.advance(GRACE_S)
        await timers.settle()
        presence.opened(NODE)
        await timers.settle()
        timers.advance(RETRY_S)
        await timers.settle()
        assert set(office.taken) == {(NODE, True)}


@aio
async def test_what_was_taken_back_is_said_again() -> None:
    """Every node that is connected, or still within its grace period; nobody else."""
    office, timers = Office(), FakeTimers()
    async with working(office, timers) as presence:
        for node in (NODE, OTHER, NodeId(3)):
            presence.opened(node)
        presence.closed(OTHER)
        timers.advance(GRACE_S)
        await timers.settle()
        presence.closed(NODE)
        office.taken.clear()
        presence.repeat()
        await timers.settle()
        assert sorted(office.taken) == [(NODE, True), (NodeId(3), True)]


@aio
async def test_a_deleted_node_is_forgotten() -> None:
    """It is neither online nor offline, and nothing is tried again."""
    office, timers = Office(), FakeTimers()
    async with working(office, timers) as presence:
        office.refuse = [NotFound("no such node")]
        presence.opened(NODE)
        await timers.settle()
        assert (office.taken, office.refuse, timers.pending) == ([], [], [])


@aio
async def test_it_stops_with_the_engine() -> None:
    """Decisions that come too late are not an error; `run` returns."""
    office, timers = Office(), FakeTimers()
    presence = Presence(office.submit, timers)
    office.refuse = [EngineStopped("the server is stopping")]
    presence.opened(NODE)
    await presence.run()
    assert office.taken == []


@aio
async def test_stopping_leaves_nobody_offline() -> None:
    """Those within their grace period stay as they are."""
    office, timers = Office(), FakeTimers()
    async with working(office, timers) as presence:
        presence.opened(NODE)
        await timers.settle()
        presence.closed(NODE)
    timers.advance(GRACE_S)
    assert office.taken == [(NODE, True)]
