"""When the loop looks, and how long it pauses."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

from mergescale.gitops.errors import ReconcileError, Stalled, Transient, Waiting
from mergescale.gitops.git.source import Source
from mergescale.gitops.reconcile import Reconciler
from mergescale.gitops.watch import TRUST_S, Pace, Watcher
from mergescale.kernel.ids import TailnetName
from mergescale.state.engine import Engine
from support.aio import aio, until
from support.clock import FakeClock
from support.journal import MemoryFeed, MemoryJournal
from support.repositories import MemoryFetches, Repository

REMOTE = Source.parse("https://git.example.com/policy", poll_s=30)
UNREACHABLE = Transient("Unreachable", "the repository could not be reached")


class Loop:
    """A running watcher whose pauses end when the test says so."""

    def __init__(self, engine: Engine, source: Source, *, chance: float = 0.5) -> None:
        self.clock = FakeClock()
        self.branch = MemoryFetches()
        self.branch.commit('{"acls": []}')
        self.pauses: list[float] = []
        self._end = asyncio.Event()
        reconciler = Reconciler(engine, source, self.branch, self.clock)
        pace = Pace(self._sleep, lambda: chance)
        self.watcher = Watcher(reconciler, self.branch, source, self.clock, pace)

    async def _sleep(self, pause_s: float) -> None:
        self.pauses.append(pause_s)
        await self._end.wait()
        self._end.clear()
        self.clock.advance(timedelta(seconds=pause_s))

    async def paused(self, count: int) -> list[float]:
        """Wait until the loop has begun its `count`-th pause; return all pauses."""
        await until(lambda: len(self.pauses) >= count)
        return self.pauses

    async def pass_time(self) -> None:
        """End the pause and wait for the next one."""
        count = len(self.pauses)
        self._end.set()
        await self.paused(count + 1)


@contextlib.asynccontextmanager
async def looping(source: Source = REMOTE, *, chance: float = 0.5) -> AsyncIterator[Loop]:
    clock = FakeClock()
    engine = await Engine.open(TailnetName("default"), MemoryJournal(), MemoryFeed(), clock)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(engine.run())
        loop = Loop(engine, source, chance=chance)
        running = tasks.create_task(loop.watcher.run())
        await loop.paused(1)
        yield loop
        running.cancel()
        engine.stop()
    assert loop.branch.closed


@aio
async def test_a_remote_is_asked_once_in_each_interval() -> None:
    """One look, one pause; the next child is started ahead of time."""
    async with looping() as loop:
        await loop.pass_time()
        await loop.pass_time()
        assert loop.pauses == [30, 30, 30]
        assert len(loop.branch.looks) == 3
        assert loop.branch.warmed == 3


@aio
async def test_pauses_vary_by_a_tenth_either_way() -> None:
    """So that many servers do not ask a forge in step."""
    async with looping(chance=0.0) as low, looping(chance=1.0) as high:
        assert (low.pauses, high.pauses) == ([27], [33])


@aio
async def test_a_hint_ends_the_pause() -> None:
    """A webhook or an operator does not wait for the interval."""
    async with looping() as loop:
        loop.watcher.hint()
        await loop.paused(2)
        assert len(loop.branch.looks) == 2
        assert loop.watcher.status.attempts == 0


async def _pauses_of(trouble: ReconcileError, count: int) -> list[float]:
    async with looping() as loop:
        loop.branch.trouble = trouble
        for _ in range(count):
            await loop.pass_time()
        return loop.pauses[1:]


@aio
async def test_transient_trouble_doubles_the_pause_up_to_a_limit() -> None:
    """Quick at first, then ever slower, never more than five minutes."""
    assert await _pauses_of(UNREACHABLE, 11) == [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300]


@aio
async def test_who_says_how_long_to_wait_is_obeyed() -> None:
    """A rate limit names its own time."""
    waiting = Waiting("RateLimited", "too many requests", retry_after_s=77)
    assert await _pauses_of(waiting, 2) == [77, 77]


@aio
async def test_what_needs_a_person_is_looked_at_as_ever() -> None:
    """No quick retries, no slowing down: the next commit may be the cure."""
    assert await _pauses_of(Stalled("RefMissing", "the branch does not exist"), 2) == [30, 30]


@aio
async def test_a_local_repository_is_only_asked_when_its_ref_moved(tmp_path: Path) -> None:
    """Its files are looked at four times a second; git is not started for that."""
    repository = Repository(tmp_path / "repo")
    repository.commit({"policy.hujson": "{}"})
    async with looping(Source.parse(str(repository.path))) as loop:
        for _ in range(3):
            await loop.pass_time()
        assert loop.pauses == [0.25] * 4
        assert len(loop.branch.looks) == 1
        repository.commit({"policy.hujson": "{ }"})
        await loop.pass_time()
        assert len(loop.branch.looks) == 2


@aio
async def test_now_and_then_git_is_asked_all_the_same(tmp_path: Path) -> None:
    """Files of a kind of repository that we do not know may not tell."""
    repository = Repository(tmp_path / "repo")
    async with looping(Source.parse(str(repository.path))) as loop:
        looks_before = len(loop.branch.looks)
        loop.clock.advance(timedelta(seconds=TRUST_S))
        await loop.pass_time()
        assert len(loop.branch.looks) == looks_before + 1


@aio
async def test_a_local_repository_that_comes_back_is_seen_at_once(tmp_path: Path) -> None:
    """The growing pause is for asking git, not for looking at the files."""
    source = Source.parse(str(tmp_path / "repo"))
    async with looping(source) as loop:
        loop.branch.trouble = UNREACHABLE
        loop.watcher.hint()
        await loop.paused(2)
        for _ in range(100):
            await loop.pass_time()
        assert len(loop.branch.looks) < 10
        looks_before = len(loop.branch.looks)
        Repository(tmp_path / "repo")
        loop.branch.trouble = None
        await loop.pass_time()
        assert len(loop.branch.looks) == looks_before + 1
        assert loop.watcher.status.attempts == 0
