"""A commit is tried before it is judged; what harms the compiler is not tried again."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from functools import partial

import pytest

from mergescale.domain.record import Trial
from mergescale.gitops.direct import Direct
from mergescale.gitops.errors import Transient
from mergescale.gitops.git.source import Source
from mergescale.gitops.reconcile import Reconciler
from mergescale.gitops.status import ConditionName, Status
from mergescale.gitops.trying.containment import CRASHED, STARVING, TIMEOUT, Contained
from mergescale.gitops.trying.proving import Proving
from mergescale.kernel.ids import TailnetName
from mergescale.state import following
from mergescale.state.engine import Engine
from mergescale.state.ports import StoreUnavailable
from support.aio import aio, until
from support.clock import FakeClock
from support.journal import MemoryFeed, MemoryJournal
from support.repositories import MemoryFetches
from support.trials import MemoryTrials

GOOD = '{"acls": []}'
OPEN = '{"acls": [{"action": "accept", "src": ["*"], "dst": ["*:*"]}]}'
BAD = '{"acls": [],\n "groops": {}}'
SOURCE = Source.parse("/srv/policy.git")


class World:
    """A server's life: what follows a branch, and a compiler that may be harmed."""

    def __init__(self, engine: Engine, branch: MemoryFetches) -> None:
        self.engine = engine
        self.branch = branch
        self.trials = MemoryTrials()
        self.reconciler = Reconciler(engine, SOURCE, branch, FakeClock())
        self.reconciler.proving = Proving(engine, self.trials)

    @property
    def applied(self) -> str | None:
        deployment = self.engine.snapshot.deployment
        return None if deployment is None else deployment.commit

    def where(self) -> tuple[str | None, Trial | None]:
        """Return the commit in force and the trial that is remembered."""
        return self.applied, self.trial

    @property
    def trial(self) -> Trial | None:
        return self.engine.snapshot.following.trial


@contextlib.asynccontextmanager
async def life(journal: MemoryJournal, branch: MemoryFetches) -> AsyncIterator[World]:
    """Start a server on what the journal holds."""
    engine = await Engine.open(TailnetName("default"), journal, MemoryFeed(), FakeClock())
    running = asyncio.create_task(engine.run())
    try:
        yield World(engine, branch)
    finally:
        engine.stop()
        await running


def said(status: Status, name: ConditionName = ConditionName.VALID) -> tuple[bool | None, str]:
    one = status.conditions[name]
    return one.state, one.reason


@aio
async def test_a_trial_is_written_down_before_it_begins_and_ends_with_the_commit_in_force() -> None:
    """In one write each: the end is that of the commit itself."""
    async with life(MemoryJournal(), MemoryFetches()) as here:
        commit = here.branch.commit(GOOD)
        here.trials.gate.clear()
        looking = asyncio.create_task(here.reconciler.sync())
        await until(lambda: here.trials.runs)
        assert here.where() == (None, Trial(commit, 1))
        begun = here.engine.snapshot.revision
        here.trials.gate.set()
        await looking
        assert here.where() == (commit, None)
        assert here.engine.snapshot.revision == begun + 1


@pytest.mark.parametrize("reason", [CRASHED, TIMEOUT, STARVING])
@aio
async def test_what_the_compiler_does_not_survive_is_refused_and_not_tried_again(
    reason: str,
) -> None:
    """Not by a look, not by a sync, not after a restart; the last good one stays in force."""
    journal, branch = MemoryJournal(), MemoryFetches()
    async with life(journal, branch) as here:
        good = branch.commit(GOOD)
        await here.reconciler.sync()
        bad = branch.commit(OPEN)
        here.trials.harm = Contained(reason)
        status = await here.reconciler.sync()
        assert said(status) == (False, reason)
        assert said(status, ConditionName.TESTED) == (None, "NotReached")
        assert said(status, ConditionName.STALLED) == (True, reason)
        assert here.where() == (good, Trial(bad, 1, reason))
        await here.reconciler.sync()
        await here.reconciler.sync(retry=True)
        assert here.trials.runs == [good, bad]
    async with life(journal, branch) as later:
        assert said(await later.reconciler.sync()) == (False, reason)
        with pytest.raises(Contained):
            await later.reconciler.proposed()
        assert (later.trials.runs, later.applied) == ([], good)


@aio
async def test_a_newer_commit_or_forgiveness_ends_the_quarantine() -> None:
    """One operator's word is enough for one more trial."""
    async with life(MemoryJournal(), MemoryFetches()) as here:
        bad = here.branch.commit(OPEN)
        here.trials.harm = Contained(CRASHED)
        await here.reconciler.sync()
        await here.reconciler.proving.forgive()
        await here.reconciler.sync(retry=True)
        assert (here.trials.runs, here.trial) == ([bad, bad], Trial(bad, 1, CRASHED))
        here.trials.harm = None
        await here.reconciler.proving.forgive()
        await here.reconciler.sync(retry=True)
        assert here.where() == (bad, None)
        worse, better = here.branch.commit(GOOD), ""
        here.trials.harm = Contained(CRASHED)
        await here.reconciler.sync()
        assert here.trial == Trial(worse, 1, CRASHED)
        here.trials.harm, better = None, here.branch.commit(GOOD)
        await here.reconciler.sync()
        assert here.where() == (better, None)


@aio
async def test_a_server_that_is_killed_by_a_commit_tries_it_twice_and_no_more() -> None:
    """Though nobody was left to write down how the trial ended."""
    journal, branch = MemoryJournal(), MemoryFetches()
    commit = branch.commit(OPEN)
    for begun in (1, 2):
        async with life(journal, branch) as here:
            here.trials.gate.clear()
            looking = asyncio.create_task(here.reconciler.sync())
            await until(partial(bool, here.trials.runs))
            assert here.trial == Trial(commit, begun)
            looking.cancel()
            await asyncio.gather(looking, return_exceptions=True)
            assert here.trial == Trial(commit, begun)
    async with life(journal, branch) as here:
        assert said(await here.reconciler.sync()) == (False, CRASHED)
        assert (here.trials.runs, here.trial) == ([], Trial(commit, 2, CRASHED))
        assert said(await here.reconciler.sync(retry=True)) == (False, CRASHED)
        assert here.trials.runs == []


@aio
async def test_a_verdict_is_an_end() -> None:
    """A bad commit, or one that is held back, is judged at every start and never in quarantine."""
    journal, branch = MemoryJournal(), MemoryFetches()
    bad = branch.commit(BAD)
    for _ in range(4):
        async with life(journal, branch) as here:
            assert said(await here.reconciler.sync()) == (False, "Invalid")
            assert (here.trials.runs, here.trial) == ([bad], None)
    branch.commit(GOOD)
    for number in range(4):
        async with life(journal, branch) as here:
            if not number:
                await here.engine.apply(following.suspend("on call", "ana"))
            status = await here.reconciler.sync()
            assert said(status, ConditionName.APPLIED) == (False, "Suspended")
            assert here.trial is None


@aio
async def test_a_database_that_does_not_take_the_commit_is_no_crash_of_the_compiler() -> None:
    """However often it is tried again."""
    async with life(MemoryJournal(), MemoryFetches()) as here:
        commit = here.branch.commit(GOOD)
        real = here.engine.apply
        for _ in range(5):
            here.trials.gate.clear()
            looking = asyncio.create_task(here.reconciler.sync())
            await until(partial(_more, here.trials.runs, len(here.trials.runs)))
            here.engine.apply = _away  # type: ignore[method-assign, assignment]
            here.trials.gate.set()
            status = await looking
            here.engine.apply = real  # type: ignore[method-assign]
            assert said(status, ConditionName.APPLIED) == (False, "StoreUnavailable")
        await here.reconciler.sync()
        assert here.where() == (commit, None)


def _more(runs: list[str], than: int) -> bool:
    return len(runs) > than


async def _away(*_: object) -> None:
    raise StoreUnavailable("disk full")


@aio
async def test_what_cannot_be_written_down_is_not_tried() -> None:
    """It is tried later, once it can."""
    journal = MemoryJournal()
    async with life(journal, MemoryFetches()) as here:
        commit = here.branch.commit(GOOD)
        journal.fail_next = StoreUnavailable("disk full")
        await here.reconciler.sync()
        assert isinstance(here.reconciler.trouble, Transient)
        assert (here.trials.runs, here.applied) == ([], None)
        await here.reconciler.sync()
        assert here.applied == commit


@aio
async def test_a_trial_that_did_not_take_place_says_nothing_of_the_commit() -> None:
    """A machine without room for a process is no reason for a quarantine."""
    async with life(MemoryJournal(), MemoryFetches()) as here:
        commit = here.branch.commit(GOOD)
        here.trials.harm = Transient("CompilerUnavailable", "no room")
        for _ in range(4):
            await here.reconciler.sync()
        assert here.where() == (None, None)
        here.trials.harm = None
        await here.reconciler.sync()
        assert here.applied == commit


@aio
async def test_a_policy_that_comes_over_the_api_is_tried_too() -> None:
    """It is refused, and may be sent again: nothing sends it by itself."""
    async with life(MemoryJournal(), MemoryFetches()) as here:
        direct = Direct(here.engine, FakeClock(), here.reconciler.proving)
        here.trials.harm = Contained(STARVING)
        with pytest.raises(Contained):
            await direct.put(GOOD, author="ana", over=None)
        assert (len(here.trials.runs), here.applied, here.trial) == (1, None, None)
        here.trials.harm = Transient("CompilerUnavailable", "no room")
        with pytest.raises(StoreUnavailable, match="no room"):
            await direct.put(GOOD, author="ana", over=None)
        here.trials.harm = None
        await direct.put(GOOD, author="ana", over=None)
        assert (len(here.trials.runs), here.trial) == (3, None)
        assert here.applied is not None
