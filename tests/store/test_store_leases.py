"""Leases: one holder at a time, and no write of a former one."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest

import mergescale
from mergescale.domain.record import Put
from mergescale.kernel.ids import ReplicaId
from mergescale.server.system import SystemClock
from mergescale.state import users
from mergescale.state.engine import Engine
from mergescale.state.ports import Fence, LeaseLost, StoreUnavailable, presence_lease
from mergescale.state.replica import DUTIES
from mergescale.store.leases import SqlLeases
from support.aio import aio
from support.clock import START, FakeClock
from support.journal import MemoryFeed
from support.real_clients import eventually
from support.stores import HOME, OpenStore, at, loaded, opened
from support.worlds import world

ONE, TWO = ReplicaId("one"), ReplicaId("two")
[ANA] = world("ana@example.com: ").users.values()
CHILD = Path(__file__).with_name("stopping.py")
#: Longer than any test.
LONG_S, LAPSED_S = 600.0, 0.0


def leases_of(store: OpenStore) -> SqlLeases:
    """Return the leases as a replica with its own clock has them."""
    return SqlLeases(store.database, FakeClock())


@aio
async def test_a_lease_has_one_holder(database_url: str) -> None:
    """While it stands others get nothing; lapsed or released it goes on under a higher number."""
    async with opened(database_url) as store:
        leases = leases_of(store)
        first = await leases.acquire(DUTIES, ONE, LONG_S)
        assert first == Fence(DUTIES, 1)
        assert await leases.acquire(DUTIES, TWO, LONG_S) is None
        assert await leases.acquire("other", TWO, LONG_S) == Fence("other", 1)
        assert await leases.renew(first, LAPSED_S)
        second = await leases.acquire(DUTIES, TWO, LONG_S)
        assert second == Fence(DUTIES, 2)
        assert not await leases.renew(first, LONG_S)
        await leases.release(first)
        assert await leases.acquire(DUTIES, ONE, LONG_S) is None
        await leases.release(second)
        assert await leases.acquire(DUTIES, ONE, LONG_S) == Fence(DUTIES, 3)


@aio
async def test_a_lapsed_lease_that_nobody_took_can_be_renewed(database_url: str) -> None:
    """A slow holder goes on under the same number if there was no other."""
    async with opened(database_url) as store:
        leases = leases_of(store)
        fence = await leases.acquire(DUTIES, ONE, LAPSED_S)
        assert fence is not None
        assert await leases.renew(fence, LONG_S)
        assert await leases.acquire(DUTIES, TWO, LONG_S) is None


@aio
async def test_of_many_who_ask_at_once_one_gets_it(database_url: str) -> None:
    """Whether the lease was never there before or has lapsed."""
    async with opened(database_url) as one, opened(database_url) as two:
        for lasts_s in (LAPSED_S, LONG_S):
            got = await asyncio.gather(
                *(
                    leases_of(store).acquire(DUTIES, ReplicaId(f"{lasts_s} {n}"), LONG_S)
                    for n, store in enumerate((one, two) * 4)
                )
            )
            [fence] = [fence for fence in got if fence is not None]
            await leases_of(one).renew(fence, LAPSED_S)


@aio
async def test_replicas_are_judged_by_the_clock_of_the_database(postgresql_url: str) -> None:
    """A replica whose clock is a year ahead neither takes nor ends a lease that stands."""
    async with opened(postgresql_url) as store:
        ahead = SqlLeases(store.database, FakeClock(START + timedelta(days=365)))
        assert await leases_of(store).acquire(presence_lease(ONE), ONE, LONG_S) is not None
        assert await leases_of(store).acquire(DUTIES, ONE, LONG_S) is not None
        assert await ahead.acquire(DUTIES, TWO, LONG_S) is None
        assert await ahead.living() == {ONE}


@aio
async def test_the_living_are_those_whose_lease_stands(database_url: str) -> None:
    """Looking ends the others' leases for good: no renewal, and no write under them."""
    async with opened(database_url) as store:
        await loaded(store.journal)
        leases = leases_of(store)
        standing = await leases.acquire(presence_lease(ONE), ONE, LONG_S)
        lapsed = await leases.acquire(presence_lease(TWO), TWO, LAPSED_S)
        duties = await leases.acquire(DUTIES, TWO, LAPSED_S)
        assert standing is not None
        assert lapsed is not None
        assert duties is not None
        assert await leases.living() == {ONE}
        assert not await leases.renew(lapsed, LONG_S)
        with pytest.raises(LeaseLost):
            await store.journal.commit(HOME, at(0), [Put(ANA)], START, [lapsed])
        assert await store.journal.commit(HOME, at(0), [Put(ANA)], START, [standing, duties]) == 1


@aio
async def test_whoever_is_alone_ends_all_leases(database_url: str) -> None:
    """A restart on SQLite: the predecessor is gone, however long its leases would have lasted."""
    async with opened(database_url) as store:
        leases = leases_of(store)
        seat = await leases.acquire(presence_lease(ONE), ONE, LONG_S)
        duties = await leases.acquire(DUTIES, ONE, LONG_S)
        assert seat is not None
        assert duties is not None
        await leases.end_all()
        assert await leases.living() == frozenset()
        assert [await leases.renew(fence, LONG_S) for fence in (seat, duties)] == [False, False]
        assert await leases.acquire(DUTIES, TWO, LONG_S) == Fence(DUTIES, 3)


@aio
async def test_a_write_of_a_former_holder_is_refused(database_url: str) -> None:
    """It fails inside its transaction and leaves nothing; what shares its batch goes through."""
    async with opened(database_url) as store:
        engine = await Engine.open(HOME, store.journal, MemoryFeed(), FakeClock())
        running = asyncio.create_task(engine.run())
        former = await leases_of(store).acquire(DUTIES, ONE, LAPSED_S)
        holder = await leases_of(store).acquire(DUTIES, TWO, LONG_S)
        told = await asyncio.gather(
            engine.apply(users.create("late@example.com"), former),
            engine.apply(users.create("anybody@example.com")),
            engine.apply(users.create("holder@example.com"), holder),
            return_exceptions=True,
        )
        assert [type(answer).__name__ for answer in told] == ["LeaseLost", "User", "User"]
        assert (await loaded(store.journal)).by_login.keys() == {
            "anybody@example.com",
            "holder@example.com",
        }
        engine.stop()
        await running


@aio
async def test_a_database_that_is_away_is_said_to_be(tmp_path: Path) -> None:
    """No driver's error leaves the store."""
    async with opened(f"postgresql+psycopg://nobody@/x?host={tmp_path}") as store:
        leases = leases_of(store)
        fence = Fence(DUTIES, 1)
        for call in (
            leases.acquire(DUTIES, ONE, LONG_S),
            leases.renew(fence, LONG_S),
            leases.release(fence),
            leases.living(),
            leases.end_all(),
        ):
            with pytest.raises(StoreUnavailable):
                await call


@pytest.mark.parametrize("successor_writes", [False, True])
def test_a_holder_stopped_past_its_lease_cannot_write(
    database_url: str, successor_writes: bool
) -> None:
    """SIGSTOP, the duties change hands, SIGCONT: the number refuses the write.

    Also when the successor wrote nothing yet, so that no revision is in the way.
    """
    package = Path(mergescale.__file__).parents[1]
    path = os.pathsep.join([str(package), str(CHILD.parents[1])])
    child = subprocess.Popen(
        [sys.executable, str(CHILD), database_url],
        env={**os.environ, "PYTHONPATH": path},
        stdout=subprocess.PIPE,
    )
    try:
        _, status = os.waitpid(child.pid, os.WUNTRACED)
        assert os.WIFSTOPPED(status)
        eventually("the duties lapse", lambda: asyncio.run(take_over(database_url)))
        if successor_writes:
            asyncio.run(write(database_url))
        child.send_signal(signal.SIGCONT)
        said, _ = child.communicate(timeout=30)
    finally:
        child.kill()
        child.wait()
    assert said == b"lease.lost"
    logins = asyncio.run(logins_in(database_url))
    assert logins == ({"successor@example.com"} if successor_writes else set())


async def take_over(url: str) -> bool:
    """Try to take the duties as another replica."""
    async with opened(url) as store:
        leases = SqlLeases(store.database, SystemClock())
        return await leases.acquire(DUTIES, TWO, LONG_S) is not None


async def write(url: str) -> None:
    """Commit something as another replica."""
    async with opened(url) as store:
        engine = await Engine.open(HOME, store.journal, MemoryFeed(), FakeClock())
        running = asyncio.create_task(engine.run())
        await engine.apply(users.create("successor@example.com"))
        engine.stop()
        await running


async def logins_in(url: str) -> set[str]:
    """Return who is in the database."""
    async with opened(url) as store:
        return set((await loaded(store.journal)).by_login)
