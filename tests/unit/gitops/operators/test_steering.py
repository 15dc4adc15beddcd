"""Operators hold still, go back and go on, with an in-memory branch and a real engine."""

from __future__ import annotations

import asyncio
from contextlib import AbstractAsyncContextManager
from dataclasses import replace

import pytest

from mergescale.domain.record import Put
from mergescale.gitops.errors import Transient
from mergescale.kernel.errors import Conflict, Invalid, NotFound
from mergescale.plan.model import Verdict
from mergescale.state.outcome import outcome
from support.aio import aio
from support.journal import MemoryJournal
from support.operated import Operated, operated
from support.repositories import MemoryFetches

CLOSED = '{"acls": []}'
OPEN = '{"acls": [{"action": "accept", "src": ["*"], "dst": ["*:*"]}]}'
ROLES = '{"acls": [], "groups": {"group:ops": ["ana@example.com"]}}'
FAILING = '{"acls": [], "tests": [{"src": "a@b.c", "accept": ["a@b.c:22"]}]}'
GONE = Transient("Unreachable", "the remote is gone")


class World(Operated):
    """A replica, and what is told of it."""

    def said(self) -> dict[str, tuple[bool | None, str]]:
        return {name: told[:2] for name, told in self.conditions().items()}

    def message(self, name: str) -> str:
        return self.conditions()[name][2]


def world(
    journal: MemoryJournal | None = None, branch: MemoryFetches | None = None
) -> AbstractAsyncContextManager[World]:
    return operated(World, journal=journal, branch=branch)


@aio
async def test_while_it_is_suspended_commits_are_judged_and_not_applied() -> None:
    """The status says so, with who and why; resuming applies the newest one without being asked."""
    async with world() as here:
        good = await here.commit(CLOSED)
        assert here.said()["Suspended"] == (False, "Following")
        assert here.said()["Drifted"] == (False, "InStep")
        await here.steering.suspend(reason="on call", by="ana")
        newer = await here.commit(OPEN)
        assert here.applied == good
        assert here.said() == {
            "Fetched": (True, "Fetched"),
            "Verified": (None, "Off"),
            "Valid": (True, "Valid"),
            "Tested": (True, "TestsPassed"),
            "Planned": (True, "Planned"),
            "Applied": (False, "Suspended"),
            "Stalled": (False, "Suspended"),
            "Suspended": (True, "Suspended"),
            "Drifted": (True, "Suspended"),
        }
        assert here.message("Suspended") == "by ana: on call"
        ahead = await here.steering.next_plan()
        assert ahead is not None
        assert (here.applied, ahead.version) == (good, 1)
        await here.steering.resume(by="ana")
        await here.reconciler.sync()
        assert here.applied == newer
        assert here.said()["Drifted"] == (False, "InStep")
        assert await here.steering.next_plan() is None
        with pytest.raises(Conflict, match="is not suspended"):
            await here.steering.resume(by="ana")


@aio
async def test_suspending_wins_over_a_commit_that_is_being_tried() -> None:
    """It is judged in the engine's turn, when the commit was prepared long before."""
    async with world() as here:
        good = await here.commit(CLOSED)
        here.branch.commit(OPEN)
        here.branch.gate.clear()
        looking = asyncio.create_task(here.reconciler.sync())
        await asyncio.sleep(0)
        await here.steering.suspend(reason="wait", by="ana")
        here.branch.gate.set()
        await looking
        assert here.applied == good


@aio
async def test_a_rollback_puts_back_what_was_in_force_without_the_remote() -> None:
    """Its texts are read again; following is suspended, the commit skipped, the revert named."""
    async with world() as here:
        good, bad = await here.commit(CLOSED), await here.commit(OPEN)
        here.branch.trouble = GONE
        done = await here.steering.rollback(good, reason="too open", by="ana")
        assert done.revert == f"git revert --no-edit -m 1 --first-parent {good[:12]}..{bad[:12]}"
        deployment, told = here.engine.snapshot.deployment, here.engine.snapshot.following
        assert deployment is not None
        assert (deployment.commit, deployment.files, deployment.by, deployment.reason) == (
            good,
            {"policy.hujson": CLOSED},
            "ana",
            "too open",
        )
        assert here.engine.snapshot.access.policy is deployment.declaration.policy
        assert told.skipped == (bad,)
        assert told.held is not None
        assert (told.held.by, told.held.reason) == ("ana", "too open")
        assert here.said()["Drifted"] == (True, "RolledBack")
        past = await here.steering.history(10)
        assert [(one["commit"], one["appliedBy"], one["inForce"]) for one in past] == [
            (good, "ana", True),
            (bad, None, False),
            (good, None, False),
        ]
        with pytest.raises(Conflict, match="is in force"):
            await here.steering.rollback(good, reason="again", by="ana")


@aio
async def test_a_skipped_commit_waits_for_a_newer_one_or_to_be_accepted() -> None:
    """After resuming it is not applied, not even when asked for; its successor is."""
    async with world() as here:
        good, bad = await here.commit(CLOSED), await here.commit(OPEN)
        await here.steering.rollback(good, reason="too open", by="ana")
        await here.reconciler.sync()
        assert here.said()["Applied"] == (False, "Suspended")
        with pytest.raises(Conflict, match="was rolled back and is skipped"):
            await here.steering.next_plan()
        await here.steering.resume(by="ana")
        await here.reconciler.sync(retry=True)
        assert here.applied == good
        assert here.said()["Stalled"] == (True, "Skipped")
        await here.steering.accept(bad[-40:], by="ana", newest=bad)
        await here.reconciler.sync()
        assert here.applied == bad
        await here.steering.rollback(good, reason="still", by="ana")
        await here.steering.resume(by="ana")
        newest = await here.commit(ROLES)
        assert here.applied == newest


@aio
async def test_a_restart_stays_suspended_and_drifted() -> None:
    """Also before anything could be fetched."""
    async with world() as before:
        good, _ = await before.commit(CLOSED), await before.commit(OPEN)
        await before.steering.rollback(good, reason="too open", by="ana")
    before.branch.trouble = GONE
    async with world(before.journal, before.branch) as here:
        assert here.said()["Suspended"] == (True, "Suspended")
        await here.reconciler.sync()
        assert here.said()["Drifted"] == (True, "RolledBack")
        here.branch.trouble = None
        await here.reconciler.sync()
        assert here.applied == good
        assert here.said()["Applied"] == (False, "Suspended")


@aio
async def test_texts_that_mean_nothing_today_change_nothing() -> None:
    """What an earlier version took is not put in force unread."""
    async with world() as here:
        await here.commit(CLOSED)
        deployment = here.engine.snapshot.deployment
        assert deployment is not None
        old = replace(deployment, commit="e" * 40, files={"policy.hujson": '{"groops": 1}'})
        for one in (old, deployment):
            put = Put(one)
            await here.engine.apply(lambda snapshot, _, put=put: outcome(snapshot, [put], None))  # type: ignore[misc]
        await here.commit(OPEN)
        held = here.engine.snapshot
        with pytest.raises(Invalid, match="eeeeeeeeeeee cannot be put in force again"):
            await here.steering.rollback("eeeeeee", reason="back", by="ana")
        assert here.engine.snapshot is held
        for commit, error in (("f" * 40, NotFound), ("--all", Invalid), ("0000000", Conflict)):
            with pytest.raises(error):
                await here.steering.rollback(commit, reason="back", by="ana")


@aio
async def test_what_fails_its_own_tests_today_is_not_put_back() -> None:
    """Going back goes through all the stages too; the operator is told the place."""
    async with world() as here:
        good = await here.commit(CLOSED)
        held = here.engine.snapshot.deployment
        assert held is not None
        # As if somebody that its tests name had left since.
        object.__setattr__(held, "files", {"policy.hujson": FAILING})
        await here.commit(OPEN)
        before = here.engine.snapshot
        with pytest.raises(
            Invalid, match=f"{good[:12]} cannot be put in force again: policy.hujson:1:"
        ):
            await here.steering.rollback(good, reason="back", by="ana")
        assert here.engine.snapshot is before


@aio
async def test_a_rewritten_history_is_followed_once_it_is_accepted() -> None:
    """One commit only: the next rewriting is refused again."""
    async with world() as here:
        await here.commit(CLOSED)
        here.branch.commits = {}
        here.branch.commits["a" * 40] = {"policy.hujson": OPEN}
        await here.reconciler.sync()
        assert here.said()["Stalled"] == (True, "HistoryRewritten")
        assert await here.steering.accept("aaaaaaa", by="ana", newest="a" * 40) == "a" * 40
        await here.reconciler.sync()
        assert here.applied == "a" * 40
        assert here.engine.snapshot.following.accepted == ""
        here.branch.commits = {"b" * 40: {"policy.hujson": CLOSED}}
        await here.reconciler.sync()
        assert here.applied == "a" * 40
        with pytest.raises(NotFound):
            await here.steering.accept("ccccccc", by="ana", newest="b" * 40)


@aio
async def test_two_that_were_in_force_are_compared() -> None:
    """Over the tailnet as it is now, without putting either in force."""
    async with world() as here:
        base, head = await here.commit(CLOSED), await here.commit(ROLES)
        found = await here.steering.diff(base, head)
        assert found.verdict is Verdict.NO_EFFECT
        assert found.identity.groups == ("group:ops: none -> ana@example.com",)
        back = await here.steering.diff(head, base)
        assert back.identity.groups == ("group:ops: ana@example.com -> none",)
        assert here.applied == head
