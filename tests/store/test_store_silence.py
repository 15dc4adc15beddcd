"""PostgreSQL that is silent, cut off, full, read-only or replaced: memory equals it afterwards."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager

import psycopg
import pytest
from sqlalchemy import text, update

from mergescale.kernel.ids import ReplicaId
from mergescale.state import users
from mergescale.state.ports import StoreUnavailable
from mergescale.state.replica import DUTIES
from mergescale.store import wakeups as wakeups_module
from mergescale.store.leases import SqlLeases
from mergescale.store.postgresql import Patience
from mergescale.store.tables import TAILNETS
from support.aio import aio
from support.clock import FakeClock
from support.following import SOON_S, Following, following
from support.link import COMMIT, Fate, Link, link_to
from support.postgres import PostgresServer
from support.stores import OpenStore, content, loaded, opened

pytestmark = pytest.mark.enable_socket

#: Long enough for a busy machine, short enough for a test that waits for its end.
ANSWER_S = 1.0
ADA, BO, CY = "ada@example.com", "bo@example.com", "cy@example.com"


@pytest.fixture
def link(postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[Link]:
    """A link to the tests' PostgreSQL."""
    monkeypatch.setattr(wakeups_module, "_RETRY_S", SOON_S)
    with link_to(postgres) as link:
        yield link


@asynccontextmanager
async def replica(link: Link, url: str, *, listens: bool = True) -> AsyncIterator[Following]:
    """Run a replica on the far side of the link, which has committed once."""
    through = link.url(url)
    async with following(through, poll_s=SOON_S, listens=listens, answer_s=ANSWER_S) as replica:
        await replica.engine.apply(users.create(ADA))
        yield replica


async def settled(replica: Following, url: str) -> frozenset[str]:
    """Wait until the replica's memory is what the database holds; return who is in both."""
    async with opened(url) as direct:
        while True:
            stored = await loaded(direct.journal)
            if content(stored) == content(replica.engine.snapshot):
                return frozenset(user.login for user in stored.users.values())
            await asyncio.sleep(SOON_S)


async def goes_on(replica: Following, login: str) -> None:
    """Write, as soon as the database takes it."""
    while True:
        try:
            await replica.engine.apply(users.create(login))
        except StoreUnavailable:
            await asyncio.sleep(SOON_S)
        else:
            return


@asynccontextmanager
async def alone(replica: Following) -> AsyncIterator[None]:
    """Let nothing else use the link: looking is a transaction with a COMMIT too."""
    async with replica.follower._one_at_a_time:
        yield


async def ill(store: OpenStore) -> None:
    """Ask until it is ill: PostgreSQL's processes learn of a setting by a signal."""
    while True:
        await store.database.ping()


async def well(store: OpenStore) -> None:
    """Ask until it is well: a try that began before may still be in vain, and cost patience."""
    while True:
        try:
            await store.database.ping()
        except StoreUnavailable:
            await asyncio.sleep(SOON_S)
        else:
            return


async def reach(store: OpenStore) -> None:
    """Begin to read."""
    async with store.database.reading():
        pass


@aio
async def test_a_silent_database_is_given_up(link: Link, postgresql_url: str) -> None:
    """Writing, reading, leases and looking all end by our own clock; afterwards all go on."""
    async with replica(link, postgresql_url) as one:
        leases = SqlLeases(one.store.database, FakeClock())
        link.freeze()
        late = "the database did not take the write in time"
        for attempt in (
            one.engine.apply(users.create(BO)),
            one.store.database.ping(),
            leases.acquire(DUTIES, ReplicaId("one"), 1),
        ):
            with pytest.raises(StoreUnavailable, match=late):
                await attempt
        with pytest.raises(StoreUnavailable, match="the database could not be read in time"):
            await one.follower.look()
        link.thaw()
        await goes_on(one, CY)
        await well(one.store)
        assert await settled(one, postgresql_url) == {ADA, CY}


@aio
async def test_whoever_does_not_wait_any_more_is_free_at_once(
    link: Link, postgresql_url: str
) -> None:
    """A cancelled read of a silent database does not wait for the database."""
    async with replica(link, postgresql_url) as one:
        link.freeze()
        looking = asyncio.create_task(reach(one.store))
        await asyncio.sleep(SOON_S)
        looking.cancel()
        # Far from every deadline; psycopg itself would ask the server, and wait for that.
        async with asyncio.timeout(ANSWER_S / 2):
            await asyncio.gather(looking, return_exceptions=True)
        assert looking.cancelled()
        link.thaw()


@aio
async def test_a_commit_that_we_gave_up_and_that_happened_is_taken_in(
    link: Link, postgresql_url: str
) -> None:
    """The caller is told that it failed, as far as can be known; then memory follows by itself."""
    async with replica(link, postgresql_url, listens=False) as one:
        async with alone(one):
            link.at(COMMIT, Fate.SILENT)
            with pytest.raises(StoreUnavailable, match="in time"):
                await one.engine.apply(users.create(BO))
        assert one.engine.snapshot.user_by_login(BO) is None
        link.thaw()
        await one.knows(BO)
        assert await settled(one, postgresql_url) == {ADA, BO}


@aio
async def test_what_is_decided_after_a_commit_of_unknown_outcome_rests_on_it(
    link: Link, postgresql_url: str
) -> None:
    """The next batch begins where the lost one did, is refused by its number and decided again."""
    async with replica(link, postgresql_url, listens=False) as one:
        async with alone(one):
            link.at(COMMIT, Fate.SILENT)
            with pytest.raises(StoreUnavailable, match="in time"):
                await one.engine.apply(users.create(BO))
            link.thaw()
            await one.engine.apply(users.create(CY))
        assert await settled(one, postgresql_url) == {ADA, BO, CY}
        revisions = [after.revision for _, after, _ in one.feed.published]
        assert revisions == sorted(set(revisions))


@aio
async def test_a_commit_stuck_on_its_way_does_not_arrive_after_its_time(
    link: Link, postgresql_url: str
) -> None:
    """PostgreSQL ends a transaction that says nothing before we give it up."""
    async with replica(link, postgresql_url) as one:
        async with alone(one):
            link.at(COMMIT, Fate.FROZEN)
            with pytest.raises(StoreUnavailable, match="in time"):
                await one.engine.apply(users.create(BO))
        link.thaw()
        await goes_on(one, CY)
        assert await settled(one, postgresql_url) == {ADA, CY}


@aio
async def test_a_commit_whose_answer_is_lost_counts(link: Link, postgresql_url: str) -> None:
    """It is looked up under its own mark, so the caller is told the truth."""
    async with replica(link, postgresql_url) as one:
        async with alone(one):
            link.at(COMMIT, Fate.UNANSWERED)
            await one.engine.apply(users.create(BO))
            assert link.met
        assert one.engine.snapshot.user_by_login(BO) is not None
        assert await settled(one, postgresql_url) == {ADA, BO}


@aio
async def test_a_commit_that_never_arrives_did_not_happen(link: Link, postgresql_url: str) -> None:
    """The caller is told, and what follows is built on what there is."""
    async with replica(link, postgresql_url) as one:
        async with alone(one):
            link.at(COMMIT, Fate.LOST)
            with pytest.raises(StoreUnavailable):
                await one.engine.apply(users.create(BO))
        assert await settled(one, postgresql_url) == {ADA}
        await one.engine.apply(users.create(BO))
        assert await settled(one, postgresql_url) == {ADA, BO}


@aio
async def test_a_commit_cut_at_any_message_is_whole_or_not_there(
    link: Link, postgresql_url: str
) -> None:
    """Each message of a transaction in turn never arrives; what the caller is told is true."""
    async with replica(link, postgresql_url) as one:
        known, cuts = {ADA}, 0
        for nth in range(1, 30):
            login = f"user{nth}@example.com"
            async with alone(one):
                link.at(b"", Fate.LOST, nth=nth)
                try:
                    await one.engine.apply(users.create(login))
                    known.add(login)
                except StoreUnavailable:
                    cuts += 1
                missed = not link.met
                link.at(b"nothing has this", Fate.LOST)
            assert await settled(one, postgresql_url) == known
            if missed:
                break
        assert missed
        assert cuts >= 5


@aio
async def test_a_slow_database_is_waited_for(link: Link, postgresql_url: str) -> None:
    """The deadline is for what does not come, not for what takes its time."""
    async with replica(link, postgresql_url) as one:
        link.delay_s = ANSWER_S / 100
        await one.engine.apply(users.create(BO))
        assert await settled(one, postgresql_url) == {ADA, BO}


@aio
async def test_a_lock_that_does_not_come_free_is_given_up(postgresql_url: str) -> None:
    """PostgreSQL itself says so before we give up the connection."""
    change = update(TAILNETS).values(next_user=9)
    async with opened(postgresql_url) as holder, opened(postgresql_url, ANSWER_S) as waiting:
        await loaded(holder.journal)
        async with holder.database.writing() as connection:
            await connection.execute(change)
            with pytest.raises(StoreUnavailable, match="55P03"):
                async with waiting.database.writing() as late:
                    await late.execute(change)
        async with waiting.database.writing() as connection:
            await connection.execute(change)


@aio
async def test_a_statement_that_does_not_end_is_given_up(postgresql_url: str) -> None:
    """PostgreSQL cancels it, so that it holds nothing any more."""
    async with opened(postgresql_url, ANSWER_S) as store:
        with pytest.raises(StoreUnavailable, match="57014"):
            async with store.database.reading() as connection:
                await connection.execute(text("SELECT pg_sleep(60)"))
        await store.database.ping()


@aio
async def test_more_transactions_than_connections_wait_and_are_told(postgresql_url: str) -> None:
    """All connections of the pool are in use: an error in time, and all goes on once one is free."""
    async with opened(postgresql_url, ANSWER_S) as store:
        async with AsyncExitStack() as busy:
            for _ in range(4):
                await busy.enter_async_context(store.database.reading())
            with pytest.raises(StoreUnavailable, match="could not be read"):
                await reach(store)
        await reach(store)


@aio
async def test_a_server_with_no_connection_left_is_waited_for(
    link: Link, postgres: PostgresServer, postgresql_url: str
) -> None:
    """Writes are refused, what was read stays, and all goes on once others leave."""
    url = link.url(postgres.limited(postgresql_url, connections=8))
    async with following(url, poll_s=SOON_S, listens=True, answer_s=ANSWER_S) as one:
        await one.engine.apply(users.create(ADA))
        # Ours break, and others are faster.
        link.cut()
        greedy = []
        try:
            direct = postgres.limited(postgresql_url, connections=8)
            for _ in range(8):
                greedy.append(await _connection(direct))  # noqa: PERF401 - closed below
            link.mend()
            with pytest.raises(StoreUnavailable):
                await one.engine.apply(users.create(BO))
            assert one.engine.snapshot.user_by_login(ADA) is not None
        finally:
            for connection in greedy:
                await connection.close()
        await goes_on(one, CY)
        assert await settled(one, postgresql_url) == {ADA, CY}


@aio
async def test_a_server_that_turns_read_only_is_ill_until_it_takes_writes(
    postgres: PostgresServer, postgresql_url: str
) -> None:
    """The connections that there are find out, new ones are refused, and then all goes on."""
    async with following(postgresql_url, poll_s=SOON_S, listens=True, answer_s=ANSWER_S) as one:
        await one.engine.apply(users.create(ADA))
        await one.store.database.ping()
        try:
            postgres.set(default_transaction_read_only="on")
            with pytest.raises(StoreUnavailable, match="takes no writes, it is read-only"):
                await ill(one.store)
            with pytest.raises(StoreUnavailable, match="did not take the write"):
                await one.engine.apply(users.create(BO))
        finally:
            postgres.set(default_transaction_read_only="off")
        await goes_on(one, CY)
        await well(one.store)
        assert await settled(one, postgresql_url) == {ADA, CY}


def test_patience_is_short_with_who_was_silent() -> None:
    """A fifth of the deadline, until the database answers; SQLite has none."""
    patience = Patience(10.0)
    assert patience.lasts_s == 10.0
    patience.silent = True
    assert patience.lasts_s == 2.0
    patience.silent = False
    assert patience.lasts_s == 10.0
    assert Patience(None).lasts_s is None


async def _connection(url: str) -> psycopg.AsyncConnection[object]:
    """Open a connection of somebody else's."""
    return await psycopg.AsyncConnection.connect(url.replace("+psycopg", ""))
