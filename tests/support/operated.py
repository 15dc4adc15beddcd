"""A replica that follows an in-memory branch with a real engine, and what operators do there."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any, TypeVar

from mergescale.gitops.git.source import Source
from mergescale.gitops.operators.steering import Steering
from mergescale.gitops.reconcile import Reconciler
from mergescale.kernel.ids import TailnetName
from mergescale.state.engine import Engine
from support.clock import FakeClock
from support.journal import MemoryFeed, MemoryJournal
from support.repositories import MemoryFetches

SOURCE = Source.parse("/srv/policy.git")


class Operated:
    """The replica.

    Attributes:
        journal: what it leaves behind.
        branch: what it follows.
    """

    def __init__(
        self, journal: MemoryJournal, branch: MemoryFetches, engine: Engine, clock: FakeClock
    ) -> None:
        self.journal, self.branch, self.engine, self.clock = journal, branch, engine, clock
        self.reconciler = Reconciler(engine, SOURCE, branch, clock)
        self.steering = Steering(engine, journal, self.reconciler, clock)

    @property
    def applied(self) -> str:
        """The commit in force, empty for none."""
        deployment = self.engine.snapshot.deployment
        return "" if deployment is None else deployment.commit

    async def commit(self, policy: str) -> str:
        """Put a policy on the branch and look."""
        commit = self.branch.commit(policy)
        await self.reconciler.sync()
        return commit

    def shown(self) -> dict[str, Any]:
        """Return the status as anybody sees it."""
        return dict(self.reconciler.sharing.shown(self.reconciler.status, here=True))

    def conditions(self) -> dict[str, tuple[bool | None, str, str]]:
        """Return state, reason and message of each condition."""
        told = self.shown()["conditions"]
        return {one["name"]: (one["state"], one["reason"], one["message"]) for one in told}


T = TypeVar("T", bound=Operated)


@contextlib.asynccontextmanager
async def operated(
    kind: type[T],
    *,
    journal: MemoryJournal | None = None,
    branch: MemoryFetches | None = None,
    clock: FakeClock | None = None,
) -> AsyncIterator[T]:
    """Start a replica; on what another one left behind, if that is given."""
    journal, branch = journal or MemoryJournal(), branch or MemoryFetches()
    clock = clock or FakeClock()
    engine = await Engine.open(TailnetName("default"), journal, MemoryFeed(), clock)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(engine.run())
        yield kind(journal, branch, engine, clock)
        engine.stop()
