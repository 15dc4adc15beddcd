"""Gates, freeze windows and approvals between a good commit and the tailnet."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from datetime import UTC, time, timedelta
from typing import Any

import pytest

from mergescale.domain.record import Drop, Presence, Put
from mergescale.gitops import gates
from mergescale.gitops.freeze import Window
from mergescale.gitops.gates import Safeguards
from mergescale.kernel.errors import Conflict, Invalid, NotFound
from mergescale.kernel.ids import TailnetName
from mergescale.plan.gates import Demand, Limits
from mergescale.state.outcome import outcome
from support.aio import aio
from support.journal import MemoryJournal
from support.operated import Operated, operated
from support.worlds import world

OPEN = '{"acls": [{"action": "accept", "src": ["*"], "dst": ["*:*"]}]}'
NONE = '{"acls": []}'
PORTS = '{"acls": [{"action": "accept", "src": ["*"], "dst": ["*:443"]}]}'
NODES = "ana@example.com: laptop; ben@example.com: desk, phone"
UNCHANGED = "no pair of devices gets its first or loses its last connection"


class World(Operated):
    """A tailnet with three devices, and what operators do."""

    async def approve(self, commit: str, **more: str) -> str:
        words = {"reason": "moving out", "by": "ana", "newest": "", **more}
        return await self.steering.approving.approve(commit, **words)

    def said(self, *names: str) -> dict[str, tuple[bool | None, str, str]]:
        told = self.conditions()
        return {one: told[one] for one in names}

    def approvals(self) -> Any:
        return self.shown()["approvals"]

    async def plan_hash(self) -> str:
        found = await self.steering.next_plan()
        assert found is not None
        return found.hash


def tailnet() -> AbstractAsyncContextManager[World]:
    journal = MemoryJournal()
    journal.batches[TailnetName("default")] = [tuple(Put(one) for one in world(NODES).records())]
    return operated(World, journal=journal)


@aio
async def test_a_commit_that_a_gate_refuses_changes_nothing_and_is_not_tried_again() -> None:
    """The status names gate and figures; the next good commit comes into force as ever."""
    async with tailnet() as here:
        good, bad = await here.commit(OPEN), await here.commit(NONE)
        message = "empty: nobody may send anything to anybody any more (6 pairs could)"

        assert here.applied == good
        assert here.said("Valid", "Tested", "Planned", "Applied", "Stalled", "Drifted") == {
            "Valid": (True, "Valid", ""),
            "Tested": (True, "TestsPassed", ""),
            "Planned": (False, "GateRefused", message),
            "Applied": (False, "GateRefused", message),
            "Stalled": (True, "GateRefused", message),
            "Drifted": (True, "NotApplied", f"{good[:12]} is in force, the branch says {bad[:12]}"),
        }
        since = here.reconciler.status.conditions
        here.clock.advance(timedelta(minutes=1))
        await here.reconciler.sync()
        assert here.branch.looks[-1] == (bad, good)
        assert here.reconciler.status.conditions == since
        better = await here.commit(PORTS)
        assert here.applied == better
        assert here.said("Planned", "Applied") == {
            "Planned": (True, "Planned", f"{UNCHANGED}; the policy has no tests"),
            "Applied": (True, "Applied", ""),
        }


@aio
async def test_an_approval_lets_one_commit_pass_without_being_asked_for_a_look() -> None:
    """Who and why stay with the deployment; the same policy in another commit is refused again."""
    async with tailnet() as here:
        await here.commit(OPEN)
        bad = await here.commit(NONE)
        assert await here.approve(bad[:12], newest=bad) == bad
        assert here.approvals() == [
            {
                "commit": bad,
                "by": "ana",
                "reason": "moving out",
                "at": "2026-01-01T00:00:00Z",
                "bound": False,
            }
        ]
        await here.reconciler.sync()
        assert here.applied == bad
        assert here.approvals() == []
        past = await here.steering.history(10)
        assert [(one["approvedBy"], one["approvedBecause"]) for one in past] == [
            ("ana", "moving out"),
            (None, None),
        ]
        assert here.said("Applied")["Applied"] == (True, "Applied", "")
        again = await here.commit(OPEN)
        assert here.applied == again
        await here.commit(NONE)
        assert here.applied == again


@aio
async def test_an_approval_is_for_its_commit_alone() -> None:
    """And for commits that are not in force; a short id names the newest one or nothing."""
    async with tailnet() as here:
        good = await here.commit(OPEN)
        with pytest.raises(Conflict, match="is in force"):
            await here.approve(good)
        with pytest.raises(NotFound, match="waits for nobody"):
            await here.approve("abcdef0")
        with pytest.raises(Invalid, match="is no commit"):
            await here.approve("HEAD^{tree}")
        await here.approve("ab" * 20)
        bad = await here.commit(NONE)
        assert here.applied == good
        assert [one["commit"] for one in here.approvals()] == ["ab" * 20]
        assert bad != good


@aio
async def test_an_approval_bound_to_a_plan_holds_while_the_effect_is_the_same() -> None:
    """A device that came meanwhile changes what the commit does: it waits, and says so."""
    async with tailnet() as here:
        await here.commit(OPEN)
        bad = await here.commit(NONE)
        planned = await here.plan_hash()
        with pytest.raises(Conflict, match="not the plan of"):
            await here.approve(bad, plan="0" * 64)
        with pytest.raises(Invalid, match="no hash"):
            await here.approve(bad, plan=planned[:11])
        await here.approve(bad, plan=planned[:12])
        assert here.approvals()[0]["bound"]
        one = next(iter(here.engine.snapshot.nodes.values()))
        gone = replace(one, authorized=False)
        await here.engine.apply(lambda snapshot, _: outcome(snapshot, [Put(gone)], None))
        await here.reconciler.sync()
        message = "it does something else than what was approved"
        assert here.said("Planned")["Planned"] == (False, "GateRefused", message)
        await here.approve(bad, plan=await here.plan_hash())
        await here.reconciler.sync()
        assert here.applied == bad


@aio
async def test_presence_does_not_end_a_bound_approval() -> None:
    """Who is online is no part of a plan's hash, nor of its effect."""
    async with tailnet() as here:
        await here.commit(OPEN)
        bad = await here.commit(NONE)
        planned = await here.plan_hash()
        left = [Drop(one) for one in here.engine.snapshot.records() if isinstance(one, Presence)]
        assert len(left) == 3
        await here.engine.apply(lambda snapshot, _: outcome(snapshot, left, None))
        assert await here.plan_hash() == planned
        await here.approve(bad, plan=planned)
        await here.reconciler.sync()
        assert here.applied == bad


@aio
async def test_the_first_commit_has_nothing_to_break() -> None:
    """It passes gates and freeze windows; only tests may be required of it."""
    frozen = Window(frozenset(range(7)), time(0), time(0), UTC)
    async with tailnet() as here:
        here.reconciler.safeguards = Safeguards(Limits(tests=Demand.REQUIRE), (frozen,))
        await here.commit(OPEN)
        assert here.said("Planned")["Planned"] == (
            False,
            "GateRefused",
            "tests: the policy has no tests",
        )
        here.reconciler.safeguards = Safeguards(windows=(frozen,))
        first = await here.commit(PORTS)
        assert here.applied == first


@aio
async def test_in_a_freeze_window_nothing_new_comes_into_force_until_it_ends() -> None:
    """By itself then, with no new commit; meanwhile nobody is alarmed, and the end is told."""
    night = Window(frozenset(range(7)), time(0), time(6), UTC, "end of the quarter")
    async with tailnet() as here:
        here.reconciler.safeguards = Safeguards(windows=(night,))
        await here.commit(OPEN)
        good = here.applied
        newer = await here.commit(PORTS)
        message = "nothing new comes into force until 2026-01-01T06:00:00Z: end of the quarter"
        assert here.applied == good
        assert here.said("Applied", "Stalled", "Planned") == {
            "Applied": (False, "Frozen", message),
            "Stalled": (False, "Frozen", message),
            "Planned": (
                True,
                "Planned",
                f"{UNCHANGED}; the policy has no tests",
            ),
        }
        assert here.reconciler.thaws_s == 6 * 3600
        here.clock.advance(timedelta(hours=5, minutes=59))
        await here.reconciler.sync()
        assert here.applied == good
        here.clock.advance(timedelta(minutes=1))
        assert here.reconciler.thaws_s == 0
        await here.reconciler.sync()
        assert here.applied == newer
        assert here.reconciler.thaws_s is None


@aio
async def test_an_approval_breaks_the_glass_of_a_freeze() -> None:
    """And a gate's at the same time: one approval is for all that holds its commit back."""
    always = Window(frozenset(range(7)), time(0), time(0), UTC)
    async with tailnet() as here:
        here.reconciler.safeguards = Safeguards(windows=(always,))
        await here.commit(OPEN)
        bad = await here.commit(NONE)
        await here.approve(bad)
        await here.reconciler.sync()
        assert here.applied == bad


@aio
async def test_rolling_back_is_deliberate() -> None:
    """Neither gates nor windows are asked: it is how one gets out of trouble."""
    always = Window(frozenset(range(7)), time(0), time(0), UTC)
    async with tailnet() as here:
        here.reconciler.safeguards = Safeguards(Limits(empty=False))
        closed = await here.commit(NONE)
        await here.commit(OPEN)
        here.reconciler.safeguards = Safeguards(windows=(always,))
        await here.steering.rollback(closed, reason="too open", by="ana")
        assert here.applied == closed


@aio
async def test_the_plan_of_the_branch_tells_what_the_gates_say() -> None:
    """Also while nobody approved it."""
    async with tailnet() as here:
        await here.commit(OPEN)
        await here.commit(NONE)
        found = await here.steering.next_plan()
        assert found is not None
        assert [(one.gate, one.refuses) for one in found.gates] == [
            ("empty", True),
            ("tests", False),
        ]
        assert (found.refused, found.blast.connected, found.blast.disconnected) == (True, 0, 6)


@aio
async def test_a_suspended_commit_that_gates_refuse_says_both() -> None:
    """The status of following tells that it is suspended; the commit's, what the gate says."""
    async with tailnet() as here:
        await here.commit(OPEN)
        await here.steering.suspend(reason="on call", by="ana")
        await here.commit(NONE)
        assert here.said("Suspended", "Planned")["Suspended"][0] is True
        assert here.said("Planned")["Planned"][1] == "GateRefused"


@aio
async def test_a_commit_on_which_the_gates_break_is_not_tried_for_ever(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It is refused as any that a stage breaks on, and what is in force stays."""

    def breaking(*_: object) -> None:
        raise RuntimeError("a bug")

    async with tailnet() as here:
        good = await here.commit(OPEN)
        with monkeypatch.context() as patched:
            patched.setattr(gates, "judge", breaking)
            bad = await here.commit(PORTS)
        await here.reconciler.sync()
        assert here.applied == good
        assert here.branch.looks[-1][:2] == (bad, good)
        assert here.said("Applied")["Applied"] == (
            False,
            "InternalError",
            "the server failed to plan this commit",
        )
