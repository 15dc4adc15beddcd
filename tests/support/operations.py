"""Registration, approval, deletion and apply: on a real database, the same values every time.

    make(url)                                     a tailnet in which each of them may happen
    async with at_work(url) as tailnet:
        await OPERATIONS["registration"](tailnet)

Clocks and chance are twins, so what an operation leaves behind is one known state.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

from mergescale.domain.declaration import Declaration
from mergescale.gitops.git.source import Source
from mergescale.gitops.reconcile import Reconciler
from mergescale.kernel.ids import AuthKeyId, LoginId
from mergescale.policy import repository
from mergescale.state import authkeys, logins, nodes, presence, users
from mergescale.state.engine import Engine
from mergescale.state.registration import Answer, LoginNeeded, Registered, register
from mergescale.store.database import Database
from mergescale.store.journal import SqlJournal
from support.clock import FakeClock
from support.journal import MemoryFeed
from support.machines import Machine, shown
from support.repositories import MemoryFetches
from support.stores import HOME
from support.worlds import REPLICA, named

ALICE: Final = "alice@example.com"
CLOSED: Final = '{"acls": []}'
OPENED: Final = '{"acls": [{"action": "accept", "src": ["*"], "dst": ["*:*"]}]}'


class NotApplied(Exception):
    """The newest commit is not in force; says why."""


@dataclass(slots=True)
class Tailnet:
    """An engine on a database, and the branch that its tailnet follows.

    Attributes:
        branch: its tip is a commit that is to be applied.
        first: the commit that `make` put in force.
    """

    database: Database
    journal: SqlJournal
    engine: Engine
    branch: MemoryFetches
    reconciler: Reconciler
    first: str

    async def synced(self) -> None:
        """Look at the branch; its tip must be in force then."""
        status = await self.reconciler.sync()
        if self.reconciler.trouble is not None:
            raise NotApplied(self.reconciler.trouble.reason)
        assert status.current is not None
        assert status.target is not None
        if status.current.commit != list(self.branch.commits)[-1]:
            raise NotApplied("another commit is in force")


@asynccontextmanager
async def at_work(url: str) -> AsyncIterator[Tailnet]:
    """Open a migrated database as the server does; its connections close when this ends."""
    clock, branch = FakeClock(), MemoryFetches()
    database = Database.open(url)
    journal = SqlJournal(database, _declare, clock, _unreadable)
    try:
        engine = await Engine.open(HOME, journal, MemoryFeed(), clock)
        source = Source.parse("/srv/policy.git")
        first = branch.commit(CLOSED)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(engine.run())
            try:
                reconciler = Reconciler(engine, source, branch, clock)
                yield Tailnet(database, journal, engine, branch, reconciler, first)
            finally:
                engine.stop()
    finally:
        await database.dispose()


def make(url: str) -> None:
    """Fill a migrated database: alice, a one-shot key, a login that waits, a device, a policy."""

    async def fill() -> None:
        async with at_work(url) as tailnet:
            engine = tailnet.engine
            await tailnet.synced()
            await engine.apply(users.create(ALICE))
            for key in ("spare", "first"):
                made = shown(key)
                wanted = authkeys.Wanted(user=ALICE)
                await engine.apply(authkeys.create(AuthKeyId(key), made.secret_hash, wanted))
            await engine.apply(register(Machine("old").asks(auth="first")))
            old = named(engine.snapshot, "old").id
            await engine.apply(presence.connected(old, REPLICA))
            waiting: Answer = await engine.apply(register(WAITING))
            assert isinstance(waiting, LoginNeeded)

    asyncio.run(fill())


async def _register(tailnet: Tailnet) -> None:
    """Let a new machine in by the one-shot key."""
    answer: Answer = await tailnet.engine.apply(register(Machine("new").asks(auth="spare")))
    assert isinstance(answer, Registered)


async def _approve(tailnet: Tailnet) -> None:
    """Let the machine in that waits."""
    decision = logins.approve(LOGIN, logins.Approval("nwaitingCNTRL", user=ALICE))
    await tailnet.engine.apply(decision)


async def _delete(tailnet: Tailnet) -> None:
    """Remove the device that is online."""
    await tailnet.engine.apply(nodes.delete(named(tailnet.engine.snapshot, "old").id))


async def _apply(tailnet: Tailnet) -> None:
    """Put a second commit in force."""
    if len(tailnet.branch.commits) == 1:
        tailnet.branch.commit(OPENED)
    await tailnet.synced()


WAITING: Final = Machine("waiting").asks()
LOGIN: Final[LoginId] = WAITING.fresh.login_id
OPERATIONS: Final[Mapping[str, Callable[[Tailnet], Awaitable[None]]]] = {
    "registration": _register,
    "approval": _approve,
    "deletion": _delete,
    "apply": _apply,
}


def _declare(files: Mapping[str, str]) -> Declaration:
    declaration, found = repository.declare(files)
    assert declaration is not None, found
    return declaration


def _unreadable(_: object, error: Exception) -> None:
    raise error
