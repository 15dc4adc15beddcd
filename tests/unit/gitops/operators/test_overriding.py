"""Operators' own policies in place of the branch's, pinned commits, and what ends by itself."""

from __future__ import annotations

import asyncio
from contextlib import AbstractAsyncContextManager
from datetime import timedelta

import pytest

from mergescale.domain.change import Change
from mergescale.domain.record import Override
from mergescale.gitops.errors import Transient
from mergescale.gitops.operators.overriding import LONGEST
from mergescale.gitops.trust.demands import Signatures, Verdict
from mergescale.gitops.watch import Watcher
from mergescale.kernel.errors import Conflict, Invalid
from mergescale.kernel.ids import TailnetName
from mergescale.state.engine import Engine
from mergescale.state.ports import Fence, LeaseLost
from support.aio import aio, until
from support.clock import FakeClock
from support.journal import MemoryJournal
from support.operated import SOURCE, Operated, operated
from support.repositories import MemoryFetches

HOME = TailnetName("default")
CLOSED = '{"acls": []}'
OPEN = '{"acls": [{"action": "accept", "src": ["*"], "dst": ["*:*"]}]}'
ROLES = '{"acls": [], "groups": {"group:ops": ["ana@example.com"]}}'
EMERGENCY = '{"acls": [{"action": "accept", "src": ["*"], "dst": ["*:22"]}]}'
FAILING = '{"acls": [], "tests": [{"src": "a@b.c", "accept": ["a@b.c:22"]}]}'
GONE = Transient("Unreachable", "the remote is gone")
DUTY = Fence("duties", 1)
HOUR = timedelta(hours=1)


class World(Operated):
    """A replica with the duties, and what operators do there."""

    def __init__(
        self, journal: MemoryJournal, branch: MemoryFetches, engine: Engine, clock: FakeClock
    ) -> None:
        super().__init__(journal, branch, engine, clock)
        journal.leases[DUTY.lease] = DUTY.number
        self.watcher = Watcher(self.reconciler, branch, SOURCE, clock)
        self.overrides = self.steering.overrides

    @property
    def policy(self) -> str:
        deployment = self.engine.snapshot.deployment
        return "" if deployment is None else deployment.files["policy.hujson"]

    async def override(self, policy: str = EMERGENCY, lasting: timedelta = 2 * HOUR) -> Override:
        return await self.overrides.put(policy, reason="on fire", by="ana", lasting=lasting)

    async def later(self, step: timedelta) -> None:
        """Let time pass, and what follows from it happen."""
        self.clock.advance(step)
        await self.overrides.turn(DUTY)

    def said(self, name: str) -> tuple[bool | None, str, str]:
        return self.conditions()[name]


def world(before: World | None = None) -> AbstractAsyncContextManager[World]:
    """Start a replica; on what another one left behind."""
    if before is None:
        return operated(World)
    return operated(World, journal=before.journal, branch=before.branch, clock=before.clock)


@aio
async def test_a_suspension_for_a_while_ends_by_itself() -> None:
    """The newest commit is applied then; not a second before."""
    async with world() as here:
        good = await here.commit(CLOSED)
        await here.steering.suspend(reason="on call", by="ana", lasting=2 * HOUR)
        newest = await here.commit(OPEN)
        assert here.said("Suspended") == (
            True,
            "Suspended",
            "by ana until 2026-01-01T02:00:00Z: on call",
        )
        assert here.shown()["suspended"]["until"] == "2026-01-01T02:00:00Z"
        await here.later(2 * HOUR - timedelta(seconds=1))
        await here.reconciler.sync()
        assert here.applied == good
        await here.later(timedelta(seconds=1))
        await here.reconciler.sync()
        assert here.applied == newest
        assert here.said("Suspended") == (False, "Following", "")
        assert here.shown()["suspended"] is None


@aio
async def test_an_override_is_in_force_and_nothing_of_the_branch() -> None:
    """It is shown as drift, with who, why and until when; nobody is alarmed by what is wanted."""
    async with world() as here:
        good = await here.commit(CLOSED)
        told = await here.override()
        assert (here.policy, told.by, told.reason) == (EMERGENCY, "ana", "on fire")
        assert here.engine.snapshot.deployment is not None
        assert (
            here.engine.snapshot.access.policy is here.engine.snapshot.deployment.declaration.policy
        )
        message = (
            "a policy of ana is in force in place of the repository's until 2026-01-01T02:00:00Z:"
            " on fire"
        )
        assert here.said("Drifted") == (True, "Overridden", message)
        assert here.shown()["override"] == {
            "reason": "on fire",
            "by": "ana",
            "since": "2026-01-01T00:00:00Z",
            "until": "2026-01-01T02:00:00Z",
        }
        for policy in (OPEN, ROLES):
            await here.commit(policy)
            assert here.policy == EMERGENCY
        assert here.said("Applied")[:2] == (False, "Overridden")
        assert here.said("Stalled")[:2] == (False, "Overridden")
        await here.reconciler.sync(retry=True)
        assert here.policy == EMERGENCY
        past = await here.steering.history(10)
        assert [(one["appliedBy"], one["reason"], one["until"]) for one in past] == [
            ("ana", "on fire", "2026-01-01T02:00:00Z"),
            (None, None, None),
        ]
        with pytest.raises(Conflict, match="was an override, and is no commit"):
            await here.steering.rollback(told.commit, reason="again", by="ana")
        assert past[1]["commit"] == good


@aio
async def test_when_it_is_over_the_branch_is_back_with_the_remote_dead() -> None:
    """At that second, also after a restart in between; the next look brings what is newer."""
    async with world() as before:
        good = await before.commit(CLOSED)
        await before.override()
        before.branch.trouble = GONE
    async with world(before) as here:
        await here.reconciler.sync()
        await here.later(2 * HOUR - timedelta(seconds=1))
        assert here.policy == EMERGENCY
        await here.later(timedelta(seconds=1))
        assert (here.applied, here.policy) == (good, CLOSED)
        assert here.engine.snapshot.following.override is None
        assert here.said("Drifted")[1] != "Overridden"
        revision = here.engine.snapshot.revision
        await here.later(HOUR)
        assert here.engine.snapshot.revision == revision
        here.branch.trouble = None
        newest = await here.commit(OPEN)
        assert here.applied == newest


@aio
async def test_the_newest_good_commit_comes_into_force_after_it() -> None:
    """What was pushed meanwhile is applied by the look that the end of it asks for."""
    async with world() as here:
        await here.commit(CLOSED)
        await here.override()
        newest = await here.commit(OPEN)
        before = here.engine.snapshot
        await here.overrides.end(by="ana")
        here.watcher.publish(before, here.engine.snapshot, Change(following=True))
        assert here.watcher._hinted.is_set()
        await here.reconciler.sync()
        assert here.applied == newest
        assert here.said("Drifted")[:2] == (False, "InStep")
        with pytest.raises(Conflict, match="nothing is in force in place of"):
            await here.overrides.end(by="ana")


@aio
async def test_a_history_rewritten_meanwhile_is_refused_all_the_same() -> None:
    """What follows an override is what follows the commit that it stands in for."""
    async with world() as here:
        good = await here.commit(CLOSED)
        await here.override()
        here.branch.commits = {"b" * 40: {"policy.hujson": OPEN}}
        here.branch.gate.clear()
        looking = asyncio.create_task(here.reconciler.sync())
        await until(lambda: here.branch.looks[-1][1] == good)
        # It ends while the look is under way.
        await here.overrides.end(by="ana")
        here.branch.gate.set()
        await looking
        assert here.applied == good
        assert here.said("Stalled")[:2] == (True, "HistoryRewritten")


@aio
async def test_an_override_of_an_override_gives_back_the_repositorys() -> None:
    """Not the first override; each has its own time."""
    async with world() as here:
        good = await here.commit(CLOSED)
        await here.override()
        here.clock.advance(HOUR)
        second = await here.override(OPEN, lasting=3 * HOUR)
        await here.later(HOUR)
        assert here.engine.snapshot.following.override == second
        await here.later(2 * HOUR)
        assert here.applied == good


@aio
async def test_a_suspension_outlives_an_override() -> None:
    """What comes back is what was in force, and it stays suspended."""
    async with world() as here:
        good = await here.commit(CLOSED)
        await here.steering.suspend(reason="on call", by="ben")
        await here.override()
        await here.commit(OPEN)
        await here.later(2 * HOUR)
        await here.reconciler.sync()
        assert here.applied == good
        assert here.said("Suspended")[:2] == (True, "Suspended")


@aio
async def test_an_override_before_the_first_commit_leaves_nothing_behind() -> None:
    """Nobody reaches anybody again."""
    async with world() as here:
        await here.override()
        assert here.policy == EMERGENCY
        await here.later(2 * HOUR)
        assert here.engine.snapshot.deployment is None
        assert here.engine.snapshot.following.override is None
        assert here.engine.snapshot.access.policy is None


@aio
async def test_what_comes_back_is_not_tested_again() -> None:
    """Its tests passed when it came into force; that they fail today keeps no emergency alive."""
    async with world() as here:
        good = await here.commit(CLOSED)
        await here.override()
        held = here.journal.batches[HOME]
        for batch in held:
            for write in batch:
                record = write.record
                if getattr(record, "commit", "") == good:
                    object.__setattr__(record, "files", {"policy.hujson": FAILING})
        await here.later(2 * HOUR)
        assert here.applied == good


@aio
async def test_texts_that_mean_nothing_today_let_the_branch_go_on() -> None:
    """The override is over and its policy stays until the next look finds something better."""
    async with world() as here:
        good = await here.commit(CLOSED)
        await here.override()
        for batch in here.journal.batches[HOME]:
            for write in batch:
                if getattr(write.record, "commit", "") == good:
                    object.__setattr__(write.record, "files", {"policy.hujson": '{"groops": 1}'})
        await here.later(2 * HOUR)
        assert (here.policy, here.engine.snapshot.following.override) == (EMERGENCY, None)
        newest = await here.commit(OPEN)
        assert here.applied == newest


@aio
async def test_what_is_wrong_with_an_override_changes_nothing() -> None:
    """Neither a policy that is none, nor one that fails its tests, nor a time too long."""
    async with world() as here:
        await here.commit(CLOSED)
        held = here.engine.snapshot
        for policy, lasting, message in (
            ('{"groops": 1}', HOUR, "policy.hujson:1:"),
            (FAILING, HOUR, "policy.hujson:1:"),
            (EMERGENCY, LONGEST + timedelta(seconds=1), "7 days at most"),
            (EMERGENCY, timedelta(0), "7 days at most"),
        ):
            with pytest.raises(Invalid, match=message):
                await here.override(policy, lasting)
        assert here.engine.snapshot is held


@aio
async def test_who_lost_the_duties_ends_nothing() -> None:
    """The one that has them does."""
    async with world() as here:
        await here.commit(CLOSED)
        await here.override()
        await here.steering.suspend(reason="x", by="ana", lasting=HOUR)
        here.journal.leases[DUTY.lease] = 2
        held = here.engine.snapshot
        with pytest.raises(LeaseLost):
            await here.later(2 * HOUR)
        assert here.engine.snapshot is held


@aio
async def test_a_rollback_ends_an_override() -> None:
    """An operator chose a commit; the override is not skipped, it is none."""
    async with world() as here:
        first, _ = await here.commit(CLOSED), await here.commit(OPEN)
        await here.override()
        done = await here.steering.rollback(first, reason="enough", by="ben")
        told = here.engine.snapshot.following
        assert (here.applied, told.override, told.skipped) == (first, None, ())
        assert (done.before, done.revert) == (None, "")
        await here.later(2 * HOUR)
        assert here.applied == first


@aio
async def test_a_pinned_commit_stays_until_somebody_resumes() -> None:
    """Put in force when it is not, kept when it is; newer ones are held back, no case for an alert."""
    async with world() as here:
        first, _ = await here.commit(CLOSED), await here.commit(OPEN)
        assert await here.steering.pin(first[-40:], reason="audit", by="ana") == first
        assert here.applied == first
        newest = await here.commit(ROLES)
        assert here.applied == first
        assert here.said("Applied")[:2] == (False, "Pinned")
        assert here.said("Stalled")[:2] == (False, "Pinned")
        assert here.said("Suspended") == (
            True,
            "Pinned",
            f"{first[:12]} is pinned by ana: audit",
        )
        assert here.said("Drifted")[:2] == (True, "Pinned")
        assert here.shown()["suspended"]["pinned"] == first
        assert here.engine.snapshot.following.skipped == ()
        before = here.engine.snapshot.deployment
        await here.steering.pin(first, reason="still", by="ben")
        assert here.engine.snapshot.deployment is before
        await here.steering.resume(by="ana")
        await here.reconciler.sync()
        assert here.applied == newest


@aio
async def test_any_commit_of_the_branch_can_be_pinned() -> None:
    """Also one that never was in force, while suspended, and instead of an override; no other can."""
    async with world() as here:
        await here.commit(CLOSED)
        await here.steering.suspend(reason="on call", by="ana")
        await here.override()
        between, _ = await here.commit(OPEN), await here.commit(ROLES)
        assert await here.steering.pin(between, reason="this one", by="ana") == between
        assert (here.applied, here.policy) == (between, OPEN)
        assert here.engine.snapshot.following.override is None
        with pytest.raises(Conflict, match="is not in the history"):
            await here.steering.pin("f" * 40, reason="x", by="ana")
        untrusted = here.branch.commit(OPEN)
        here.branch.verdict = Verdict(
            signatures=Signatures.HEAD, reason="Unsigned", message="nobody signed it"
        )
        with pytest.raises(Conflict, match="nobody signed it"):
            await here.steering.pin(untrusted, reason="x", by="ana")
        assert here.applied == between
        with pytest.raises(Invalid, match="is no commit"):
            await here.steering.pin("main", reason="x", by="ana")


@aio
async def test_it_is_one_transaction() -> None:
    """A database that does not take it leaves everything as it was."""
    async with world() as here:
        good = await here.commit(CLOSED)
        held = here.engine.snapshot
        here.journal.fail_next = LeaseLost("away")
        with pytest.raises(LeaseLost):
            await here.override()
        assert here.engine.snapshot is held
        await here.override()
        [written] = here.journal.batches[HOME][-1:]
        assert [type(write.record).__name__ for write in written] == ["Deployment", "Following"]
        await here.later(2 * HOUR)
        [written] = here.journal.batches[HOME][-1:]
        assert [type(write.record).__name__ for write in written] == ["Deployment", "Following"]
        assert here.applied == good
