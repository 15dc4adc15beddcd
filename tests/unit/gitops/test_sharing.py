"""Two replicas, one of which follows the repository: what the other says and asks."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest

from mergescale.domain.change import Change
from mergescale.domain.snapshot import Snapshot
from mergescale.gitops.git.source import Source
from mergescale.gitops.reconcile import Reconciler
from mergescale.gitops.sharing import NobodyLooked, Sharing
from mergescale.gitops.watch import Watcher
from mergescale.kernel.ids import Revision, TailnetName
from mergescale.state import following
from mergescale.state.engine import Engine
from mergescale.state.ports import Fence
from support.aio import aio, until
from support.clock import FakeClock
from support.journal import MemoryJournal
from support.repositories import MemoryFetches

GOOD = '{"acls": []}'
OPEN = '{"acls": [{"action": "accept", "src": ["*"], "dst": ["*:*"]}]}'
BAD = '{"acls": [],\n "groops": {}}'
#: Looked at so seldom that whoever waits for the loop waits for ever.
SOURCE = Source.parse("https://git.example.com/policy", poll_s=86_400)


class Replica:
    """An engine, and what follows the branch while it holds the lease; its own `Feed`."""

    def __init__(self, journal: MemoryJournal, branch: MemoryFetches, clock: FakeClock) -> None:
        self.journal, self.branch, self.clock = journal, branch, clock
        self.fence: Fence | None = None
        self.others: list[Engine] = []

    async def open(self) -> None:
        self.engine = await Engine.open(TailnetName("default"), self.journal, self, self.clock)
        self.reconciler = Reconciler(
            self.engine, SOURCE, self.branch, self.clock, lambda: self.fence
        )
        self.watcher = Watcher(self.reconciler, self.branch, SOURCE, self.clock)

    def publish(self, before: Snapshot, after: Snapshot, change: Change) -> None:
        self.watcher.publish(before, after, change)
        for other in self.others:
            other.saw(after.revision)


class Pair:
    """`one` holds the lease."""

    def __init__(self, one: Replica, two: Replica) -> None:
        self.one, self.two = one, two
        self.branch, self.journal, self.clock = one.branch, one.journal, one.clock

    @property
    def revision(self) -> Revision:
        return self.one.engine.snapshot.revision

    async def level(self) -> None:
        await until(lambda: self.two.engine.snapshot.revision == self.revision)

    def take_over(self) -> None:
        """Let the lease go to the second replica."""
        self.journal.leases["duties"] = 2
        self.two.fence = Fence("duties", 2)


@contextlib.asynccontextmanager
async def pair() -> AsyncIterator[Pair]:
    journal, branch, clock = MemoryJournal(), MemoryFetches(), FakeClock()
    journal.leases["duties"] = 1
    one, two = (Replica(journal, branch, clock) for _ in range(2))
    one.fence = Fence("duties", 1)
    async with asyncio.TaskGroup() as tasks:
        for replica in (one, two):
            await replica.open()
            tasks.create_task(replica.engine.run())
        one.others, two.others = [two.engine], [one.engine]
        two.watcher.stand_by()
        try:
            yield Pair(one, two)
        finally:
            one.engine.stop()
            two.engine.stop()


@aio
async def test_both_replicas_show_the_same() -> None:
    """What is wrong with a bad commit, and that all is well after a good one."""
    async with pair() as here:
        for policy in (GOOD, BAD, OPEN, GOOD):
            here.branch.commit(policy)
            await here.one.watcher.sync()
            await here.level()
            one, two = (
                dict(replica.watcher.shown) | {"lastAttempt": None, "lastSuccess": None}
                for replica in (here.one, here.two)
            )
            assert (one.pop("followedHere"), two.pop("followedHere")) == (True, False)
            assert two == one
            assert bool(two["problems"]) is (policy == BAD)


@aio
async def test_times_alone_are_not_written() -> None:
    """Looking again and again, and a good commit after a good one, cost no batch of their own."""
    async with pair() as here:
        here.branch.commit(GOOD)
        await here.one.watcher.sync()
        before = here.revision
        for _ in range(3):
            here.clock.advance(timedelta(seconds=30))
            await here.one.watcher.sync()
        assert here.revision == before
        here.branch.commit(OPEN)
        await here.one.watcher.sync()
        assert here.revision == before + 1
        here.branch.commit(BAD)
        for _ in range(3):
            here.clock.advance(timedelta(seconds=30))
            await here.one.watcher.sync()
        assert here.revision == before + 2


@aio
async def test_asked_at_one_replica_the_other_one_looks() -> None:
    """At once, judging the newest commit again; whoever asked has the status after that."""
    async with pair() as here:
        bad = here.branch.commit(BAD)
        loop = asyncio.create_task(here.one.watcher.run())
        await until(lambda: here.one.engine.snapshot.following.status)
        await here.level()
        # Whoever only heard that something may have moved has nothing judged that has not.
        await here.two.watcher.hinted()
        assert [one[0] for one in here.branch.looks] == ["", bad]
        for _ in range(2):
            looks = len(here.branch.looks)
            await here.two.watcher.sync(retry=True)
            assert len(here.branch.looks) == looks + 1
            assert here.branch.looks[-1][0] == ""
            assert here.two.watcher.shown["problems"]
        fixed = here.branch.commit(OPEN)
        await here.two.watcher.sync(retry=True)
        assert here.two.watcher.shown["current"]["commit"] == fixed
        assert here.two.watcher.shown["problems"] == []
        loop.cancel()
        await asyncio.gather(loop, return_exceptions=True)


@aio
async def test_who_takes_over_answers_what_was_asked_before() -> None:
    """A request outlives the replica that should have looked."""
    async with pair() as here:
        commit = here.branch.commit(OPEN)
        asking = asyncio.create_task(here.two.watcher.sync(retry=True))
        await until(lambda: here.two.engine.snapshot.following.asked == 1)
        here.take_over()
        loop = asyncio.create_task(here.two.watcher.run())
        await asking
        assert here.two.watcher.shown["current"]["commit"] == commit
        loop.cancel()
        await asyncio.gather(loop, return_exceptions=True)


@aio
async def test_who_lost_the_lease_tells_nothing() -> None:
    """Its number is refused: the word of whoever follows now stands."""
    async with pair() as here:
        here.branch.commit(GOOD)
        await here.one.watcher.sync()
        here.take_over()
        here.branch.commit(BAD)
        told = here.one.engine.snapshot.following
        await here.one.watcher.sync()
        assert here.one.engine.snapshot.following == told


@aio
async def test_nobody_waits_for_ever() -> None:
    """Where no replica follows, whoever asks is told so."""
    async with pair() as here:
        here.one.fence = None
        with pytest.raises(NobodyLooked):
            await Sharing(here.two.engine, answer_s=0.01).ask()


@aio
async def test_a_stored_status_that_means_nothing_is_left_out() -> None:
    """A replica then shows what it knows by itself."""
    async with pair() as here:
        here.branch.commit(GOOD)
        await here.one.watcher.sync()
        await here.level()
        good = here.two.watcher.shown
        for text in ("{", "[]", "{}"):
            await here.one.engine.apply(following.tell(text, 0))
            await here.level()
            shown = here.two.watcher.shown
            assert shown["current"] == good["current"]
            assert {one["reason"] for one in shown["conditions"]} == {
                "FollowedElsewhere",
                "Following",
                "NotYet",
            }
