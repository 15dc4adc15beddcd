"""From looks to what a channel gets: one notification for each change of state."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from mergescale.gitops.errors import Stalled, Transient
from mergescale.gitops.git.source import Source
from mergescale.gitops.notices.events import Event
from mergescale.gitops.notices.teller import Teller
from mergescale.gitops.notices.topics import LOST_AFTER, Seen
from mergescale.gitops.operators.overriding import Overrides
from mergescale.gitops.operators.steering import Steering
from mergescale.gitops.outbox import Outbox
from mergescale.gitops.reconcile import Reconciler
from mergescale.kernel.ids import TailnetName
from mergescale.state import following
from mergescale.state.engine import Engine
from mergescale.state.ports import Fence
from support.aio import aio, turns
from support.clock import FakeClock
from support.journal import MemoryFeed, MemoryJournal
from support.letters import MemoryLetters, Pauses, dispatching
from support.repositories import MemoryFetches

GOOD = '{"acls": []}'
BAD = '{"acls": [],\n "groops": {}}'
FAILING = '{"acls": [], "tests": [{"src": "a@b.c", "accept": ["a@b.c:22"]}]}'
SOURCE = Source.parse("https://git.example.com/policy")
AWAY = Transient("Unreachable", "the repository could not be reached")


class World:
    """A branch, a database, and whatever replica follows the one with the other."""

    def __init__(self) -> None:
        self.journal, self.clock, self.letters = MemoryJournal(), FakeClock(), MemoryLetters()
        self.branch = MemoryFetches()
        self.got: list[tuple[str, str]] = []
        self.bodies: list[Mapping[str, Any]] = []
        self._number = 0

    async def _deliver(self, key: str, body: Mapping[str, Any]) -> None:
        self.got.append((key, body["type"]))
        self.bodies.append(body)

    def taken(self) -> list[str]:
        """Return the types that came since the last time."""
        got, self.got = self.got, []
        return [event for _, event in got]

    @contextlib.asynccontextmanager
    async def replica(self) -> AsyncIterator[Replica]:
        """Run a process with the duties."""
        self._number += 1
        fence = Fence("duties", self._number)
        self.journal.leases[fence.lease] = fence.number
        engine = await Engine.open(TailnetName("default"), self.journal, MemoryFeed(), self.clock)
        reconciler = Reconciler(engine, SOURCE, self.branch, self.clock, lambda: fence)
        outbox = Outbox(
            TailnetName("default"), self.letters, self.clock, lambda: fence, Pauses(self.clock).pace
        )
        outbox.register("notify/ops", self._deliver)

        def look(was: str) -> Seen:
            said = reconciler.sharing.shown(reconciler.status, here=True)
            return Seen(said, engine.snapshot.deployment, was, self.clock.now())

        reconciler.listeners.append(Teller(outbox, ["ops"], look, lambda: fence).heard)
        tasks = [asyncio.create_task(one) for one in (engine.run(), outbox.run())]
        try:
            async with dispatching(outbox):
                yield Replica(self, engine, reconciler)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


class Replica:
    """One process."""

    def __init__(self, world: World, engine: Engine, reconciler: Reconciler) -> None:
        self._world = world
        self.engine = engine
        self.reconciler = reconciler

    async def look(self, times: int = 1) -> list[str]:
        """Look, and return the types of what was told since."""
        for _ in range(times):
            await self.reconciler.sync()
            await turns(40)
        return self._world.taken()


@aio
async def test_each_change_is_told_once_and_no_look_is() -> None:
    """Good, bad, still bad, another bad, good again: what changed, however often it is looked at."""
    world = World()
    async with world.replica() as here:
        world.branch.commit(GOOD)
        assert await here.look(5) == ["policyUpdate"]
        world.branch.commit(BAD)
        assert await here.look(5) == ["gitopsCommitRefused"]
        failing = world.branch.commit(FAILING)
        assert await here.look(5) == ["gitopsTestsFailed"]
        assert world.bodies[-1]["data"]["commit"] == failing
        assert world.bodies[-1]["data"]["reason"] == "TestsFailed"
        assert failing[:12] in world.bodies[-1]["message"]
        world.branch.commit(GOOD)
        assert sorted(await here.look(5)) == ["gitopsRecovered", "policyUpdate"]
        assert await here.look(5) == []


@aio
async def test_a_restart_tells_nothing_again() -> None:
    """Nor does another replica that takes over; what changes in between is told by it."""
    world = World()
    async with world.replica() as here:
        world.branch.commit(GOOD)
        await here.look()
        world.branch.commit(BAD)
        assert await here.look() == ["gitopsCommitRefused"]
    async with world.replica() as here:
        assert await here.look(3) == []
    world.branch.commit(GOOD)
    async with world.replica() as here:
        assert sorted(await here.look(3)) == ["gitopsRecovered", "policyUpdate"]


@aio
async def test_what_was_good_when_telling_began_is_no_news() -> None:
    """Channels added to a server that runs well are silent until something happens."""
    world = World()
    async with world.replica() as here:
        world.branch.commit(GOOD)
        here.reconciler.listeners.clear()
        await here.look()
    async with world.replica() as here:
        assert await here.look(3) == []
        world.branch.commit(BAD)
        assert await here.look(3) == ["gitopsCommitRefused"]


@aio
async def test_a_flapping_remote_is_not_told() -> None:
    """Away for less than ten minutes at a time, for hours; once for longer, once."""
    world = World()
    async with world.replica() as here:
        world.branch.commit(GOOD)
        await here.look()
        for _ in range(50):
            world.branch.trouble = AWAY
            await here.look()
            world.clock.advance(LOST_AFTER - timedelta(minutes=1))
            await here.look()
            world.branch.trouble = None
            await here.look()
        assert world.taken() == []
        world.branch.trouble = AWAY
        told = []
        for minute in range(60):
            told += [(minute, event) for event in await here.look()]
            world.clock.advance(timedelta(minutes=1))
            # How it fails differs each time.
            world.branch.trouble = Transient("Unreachable", f"no route ({minute})")
        assert told == [(10, "gitopsRemoteLost")]
        world.branch.trouble = None
        assert await here.look(3) == ["gitopsRemoteBack"]


@aio
async def test_a_remote_that_refuses_is_told_at_once() -> None:
    """Only a person can help there; once, also when it has lasted."""
    world = World()
    async with world.replica() as here:
        world.branch.commit(GOOD)
        await here.look()
        world.branch.trouble = Stalled("AuthenticationFailed", "the token is refused")
        assert await here.look(2) == ["gitopsStalled"]
        world.clock.advance(LOST_AFTER * 2)
        assert await here.look(2) == []
        world.branch.trouble = None
        assert await here.look(2) == ["gitopsRecovered"]


@aio
async def test_a_verdict_is_not_told_again_after_an_outage() -> None:
    """The remote went away while a bad commit was on the branch, and came back with it."""
    world = World()
    async with world.replica() as here:
        world.branch.commit(GOOD)
        await here.look()
        world.branch.commit(BAD)
        assert await here.look() == ["gitopsCommitRefused"]
        world.branch.trouble = AWAY
        assert await here.look(3) == []
        world.branch.trouble = None
        assert await here.look(3) == []


@aio
async def test_what_operators_do_is_told() -> None:
    """Suspended, with what the branch says meanwhile, and resumed."""
    world = World()
    async with world.replica() as here:
        world.branch.commit(GOOD)
        await here.look()
        await here.engine.apply(following.suspend("it broke ssh", "ana"))
        assert await here.look(2) == ["gitopsSuspended"]
        assert "it broke ssh" in world.bodies[-1]["message"]
        world.branch.commit(GOOD + "\n")
        assert await here.look(2) == ["gitopsDriftBegan"]
        world.branch.commit(GOOD + "\n\n")
        assert await here.look(2) == []
        await here.engine.apply(following.resume())
        assert sorted(await here.look(2)) == ["gitopsDriftEnded", "gitopsResumed", "policyUpdate"]
        world.clock.advance(timedelta(hours=1))
        await here.engine.apply(following.suspend("it broke ssh", "ana"))
        assert await here.look(2) == ["gitopsSuspended"]


@aio
async def test_a_rewritten_history_is_told() -> None:
    """As what it is; it waits for somebody."""
    world = World()
    async with world.replica() as here:
        first = world.branch.commit(GOOD)
        await here.look()
        world.branch.commits[f"{9:040x}"] = {"policy.hujson": GOOD}
        del world.branch.commits[first]
        assert await here.look(3) == ["gitopsHistoryRewritten"]


@aio
async def test_a_rollback_is_told_as_one() -> None:
    """By whom and why; going back to what was told before is news all the same."""
    world = World()
    async with world.replica() as here:
        first = world.branch.commit(GOOD)
        await here.look()
        world.branch.commit(GOOD + "\n")
        await here.look()
        steering = Steering(here.engine, world.journal, here.reconciler, world.clock)
        await steering.rollback(first, reason="it broke ssh", by="ana")
        assert sorted(await here.look(3)) == ["gitopsRolledBack", "gitopsSuspended"]
        assert {body["type"]: body["message"] for body in world.bodies[-2:]}[
            "gitopsRolledBack"
        ] == (f'ana rolled back to {first[:12]} "change the policy": it broke ssh')


@aio
async def test_a_pinned_commit_is_told_as_one() -> None:
    """And nothing more is told of it once the branch is followed again, and says the same."""
    world = World()
    async with world.replica() as here:
        first = world.branch.commit(GOOD)
        await here.look()
        second = world.branch.commit(GOOD + "\n")
        await here.look()
        steering = Steering(here.engine, world.journal, here.reconciler, world.clock)
        await steering.pin(first, reason="a demo", by="ana")
        assert sorted(await here.look(3)) == ["gitopsSuspended", "policyUpdate"]
        said = {body["type"]: body["message"] for body in world.bodies}
        assert said["policyUpdate"] == f'ana pinned {first[:12]} "change the policy": a demo'
        world.branch.commits[f"{9:040x}"] = {"policy.hujson": "{"}
        del world.branch.commits[second]
        await steering.resume(by="ana")
        assert "gitopsRolledBack" not in await here.look(3)


@aio
async def test_an_override_is_told_when_it_begins_and_when_it_ends() -> None:
    """What comes back into force by that was told when it first did."""
    world = World()
    async with world.replica() as here:
        world.branch.commit(GOOD)
        await here.look()
        overrides = Overrides(here.engine, world.journal, world.clock)
        hour = timedelta(hours=1)
        await overrides.put('{"acls":[]}', reason="the site is down", by="ana", lasting=hour)
        assert await here.look(3) == ["gitopsOverrideBegan"]
        assert "the site is down" in world.bodies[-1]["message"]
        await overrides.end(by="ana")
        assert await here.look(3) == ["gitopsOverrideEnded"]


def test_every_type_is_camel_case_and_told_in_the_docs() -> None:
    """They are matched by programs; `test` is what a test sends."""
    readme = (Path(__file__).parents[4] / "README.md").read_text("utf-8")
    for event in set(Event) - {Event.TEST}:
        assert f"`{event}`" in readme
        assert event.isalnum()
        assert event[0].islower()


pytestmark = pytest.mark.timeout(60)
