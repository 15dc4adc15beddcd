"""Pushes, hints and looks that come at the wrong moment: what is in force in the end is the tip."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

from mergescale.gitops.git.messages import Found, Unchanged
from mergescale.gitops.git.source import Source
from mergescale.gitops.reconcile import Reconciler
from mergescale.gitops.watch import Watcher
from mergescale.kernel.ids import TailnetName
from mergescale.state.engine import Engine
from support.aio import aio, turns, until
from support.clock import FakeClock
from support.journal import MemoryFeed, MemoryJournal
from support.repositories import MemoryFetches

HOME = TailnetName("default")
POLICIES = ['{"acls": []}', '{ "acls": []}', '{"acls": [] }', '{"acls": [ ]}']
#: Looked at so seldom that only what is hinted at explains a look.
SOURCE = Source.parse("https://git.example.com/policy", poll_s=86_400)


class SlowFetches(MemoryFetches):
    """A remote that tells the ref first, and takes its time to send what it names."""

    async def look(
        self, *, known: str, applied: str, accepted: str = "", past: str = ""
    ) -> Unchanged | Found:
        tip = list(self.commits)[-1]
        return await super().look(known=known, applied=applied, accepted=accepted, past=past or tip)


class World:
    """A replica whose loop runs."""

    def __init__(self, journal: MemoryJournal, branch: SlowFetches, engine: Engine) -> None:
        self.journal, self.branch, self.engine = journal, branch, engine
        clock = FakeClock()
        self.reconciler = Reconciler(engine, SOURCE, branch, clock)
        self.watcher = Watcher(self.reconciler, branch, SOURCE, clock)

    @property
    def applied(self) -> str:
        deployment = self.engine.snapshot.deployment
        return "" if deployment is None else deployment.commit

    def push(self, number: int) -> str:
        """Commit, and have the forge say so, twice as forges do."""
        commit = self.branch.commit(POLICIES[number])
        self.watcher.hint()
        self.watcher.hint()
        return commit

    async def past(self) -> list[str]:
        return [one.commit for one in reversed(await self.journal.history(HOME))]


@contextlib.asynccontextmanager
async def running() -> AsyncIterator[World]:
    journal, branch = MemoryJournal(), SlowFetches()
    first = branch.commit(POLICIES[0])
    engine = await Engine.open(HOME, journal, MemoryFeed(), FakeClock())
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(engine.run())
        here = World(journal, branch, engine)
        loop = tasks.create_task(here.watcher.run())
        await until(lambda: here.applied == first)
        yield here
        loop.cancel()
        engine.stop()


@aio
async def test_pushes_during_a_look_are_one_look_more() -> None:
    """However many; the look under way ends with what it began with, the next one with the tip."""
    async with running() as here:
        first, looks = here.applied, len(here.branch.looks)
        here.branch.gate.clear()
        second = here.push(1)
        await until(lambda: len(here.branch.looks) == looks + 1)
        here.push(2)
        await turns()
        fourth = here.push(3)
        here.branch.gate.set()
        await until(lambda: here.applied == fourth)
        await turns(20)
        assert len(here.branch.looks) == looks + 2
        assert await here.past() == [first, second, fourth]
        status = here.watcher.status
        assert status.target is not None
        assert (status.target.commit, here.reconciler.trouble) == (fourth, None)


@aio
async def test_a_hint_during_a_look_is_not_lost() -> None:
    """Though nothing moved: the look may have begun before the push that it tells of."""
    async with running() as here:
        looks = len(here.branch.looks)
        here.branch.gate.clear()
        here.watcher.hint()
        await until(lambda: len(here.branch.looks) == looks + 1)
        here.watcher.hint()
        here.branch.gate.set()
        await until(lambda: len(here.branch.looks) == looks + 2)
        await turns(20)
        assert len(here.branch.looks) == looks + 2


@aio
async def test_a_push_while_a_commit_is_being_written_comes_after_it() -> None:
    """The one under way is in force first, whole; then the tip."""
    async with running() as here:
        first = here.applied
        here.journal.gate.clear()
        second = here.push(1)
        await until(lambda: here.journal.waiting)
        third = here.push(2)
        await turns()
        assert here.applied == first
        here.journal.gate.set()
        await until(lambda: here.applied == third)
        assert await here.past() == [first, second, third]


@aio
async def test_syncs_asked_for_during_a_look_all_see_the_tip() -> None:
    """Whoever asks after a push has it in force, whatever was under way."""
    async with running() as here:
        here.branch.gate.clear()
        looks = len(here.branch.looks)
        here.watcher.hint()
        await until(lambda: len(here.branch.looks) == looks + 1)
        tip = here.branch.commit(POLICIES[1])
        asked = [asyncio.create_task(here.watcher.sync()) for _ in range(20)]
        await turns()
        here.branch.gate.set()
        await asyncio.gather(*asked)
        assert here.applied == tip
        assert len(here.branch.looks) == looks + 2
