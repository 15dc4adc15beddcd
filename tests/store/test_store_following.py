"""Following the journal: what another replica commits is heard of, and never missed for long."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import psycopg
import pytest
from sqlalchemy import delete, text, update

from mergescale.domain.record import Put
from mergescale.kernel.ids import Revision
from mergescale.state import users
from mergescale.state.engine import Engine
from mergescale.store import journal as journal_module
from mergescale.store import wakeups as wakeups_module
from mergescale.store.postgresql import connect
from mergescale.store.tables import JOURNAL, TAILNETS, USERS
from support.aio import aio
from support.clock import START, FakeClock
from support.following import NEVER_S, SOON_S, following
from support.journal import MemoryFeed
from support.postgres import PostgresServer
from support.stores import HOME, OpenStore, at, content, deployment, loaded, opened
from support.worlds import node


@asynccontextmanager
async def writing(url: str) -> AsyncIterator[Engine]:
    """Run another replica that writes."""
    async with opened(url) as store:
        engine = await Engine.open(HOME, store.journal, MemoryFeed(), FakeClock())
        running = asyncio.create_task(engine.run())
        try:
            yield engine
        finally:
            engine.stop()
            await running


@aio
async def test_what_another_replica_commits_is_heard_of(postgresql_url: str) -> None:
    """Without a look at the journal, and published with what changed."""
    async with (
        following(postgresql_url, poll_s=NEVER_S, listens=True) as replica,
        writing(postgresql_url) as other,
    ):
        await other.apply(users.create("ana@example.com"))
        await replica.knows("ana@example.com")
        await other.apply(users.create("bo@example.com"))
        await replica.knows("bo@example.com")
        assert [change.users for _, _, change in replica.feed.published] == [{1}, {2}]
        assert content(replica.engine.snapshot) == content(other.snapshot)


@aio
async def test_looking_is_enough(database_url: str) -> None:
    """Who hears nothing finds it at the next look."""
    async with (
        following(database_url, poll_s=SOON_S, listens=False) as replica,
        writing(database_url) as other,
    ):
        await other.apply(users.create("ana@example.com"))
        await replica.knows("ana@example.com")
        assert content(replica.engine.snapshot) == content(other.snapshot)


@aio
async def test_what_was_missed_is_caught_up_when_listening_again(
    postgresql_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A cut connection is made again, and the journal looked at for what went by meanwhile."""
    monkeypatch.setattr(wakeups_module, "_RETRY_S", SOON_S)
    async with (
        following(postgresql_url, poll_s=NEVER_S, listens=True) as replica,
        writing(postgresql_url) as other,
    ):
        async with other_connection(replica.store) as connection:
            # In one transaction: whatever listens has gone when the commit is told.
            cut = await connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE query LIKE 'LISTEN %' AND datname = current_database()"
            )
            assert cut.rowcount == 1
        await other.apply(users.create("missed@example.com"))
        await replica.knows("missed@example.com")
        await other.apply(users.create("heard@example.com"))
        await replica.knows("heard@example.com")


@aio
async def test_a_restart_of_the_database_costs_nothing(
    postgres: PostgresServer, postgresql_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Immediate restart: both replicas go on with the connections they have, and hear again."""
    monkeypatch.setattr(wakeups_module, "_RETRY_S", SOON_S)
    async with (
        following(postgresql_url, poll_s=NEVER_S, listens=True) as replica,
        writing(postgresql_url) as other,
    ):
        await other.apply(users.create("before@example.com"))
        await replica.knows("before@example.com")
        await asyncio.to_thread(postgres.restart)
        await other.apply(users.create("after@example.com"))
        await replica.knows("after@example.com")
        await replica.engine.apply(users.create("mine@example.com"))
        assert content(replica.engine.snapshot) == content(await loaded(replica.store.journal))


@aio
async def test_who_is_too_far_behind_loads_anew(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The journal was trimmed meanwhile: everything is published, what is gone and what came."""
    monkeypatch.setattr(journal_module, "JOURNAL_LIMIT", 2)
    monkeypatch.setattr(journal_module, "_TRIM_EVERY", 1)
    old, new = (node(n, f"n{n}", user=None, tags=("tag:x",)) for n in (1, 2))
    async with opened(database_url) as store:
        await loaded(store.journal)
        await store.journal.commit(HOME, at(0), [Put(old), Put(deployment("a"))], START)
        async with following(database_url, poll_s=None, listens=False) as replica:
            slot = replica.engine.snapshot.slot(old.id)
            for base in range(1, 6):
                await store.journal.commit(HOME, at(base), [Put(deployment("b")), Put(new)], START)
            async with store.database.writing() as connection:
                await connection.execute(delete(JOURNAL).where(JOURNAL.c.revision < 5))
                await connection.execute(text("DELETE FROM nodes WHERE id = 1"))
            await replica.follower.look()
            while not replica.feed.published:  # noqa: ASYNC110 - see aio.until
                await asyncio.sleep(0.001)
            [(before, after, change)] = replica.feed.published
            assert content(after) == content(await loaded(store.journal))
            assert (before.revision, after.revision) == (1, 6)
            assert (set(change.nodes), change.access) == ({old.id, new.id}, True)
            assert after.slot(new.id) != slot


@aio
async def test_an_older_database_in_its_place_is_loaded_anew(database_url: str) -> None:
    """A backup that was put back is the truth, although its numbers are lower."""
    async with (
        following(database_url, poll_s=None, listens=False) as replica,
        writing(database_url) as other,
    ):
        for login in ("kept@example.com", "lost@example.com"):
            await other.apply(users.create(login))
        replica.engine.saw(Revision(2))
        await replica.knows("lost@example.com")
        async with replica.store.database.writing() as connection:
            await connection.execute(delete(USERS).where(USERS.c.id == 2))
            await connection.execute(delete(JOURNAL).where(JOURNAL.c.revision == 2))
            await connection.execute(update(TAILNETS).values(revision=1, next_user=2))
        await replica.follower.look()
        while replica.engine.snapshot.revision != 1:  # noqa: ASYNC110 - see aio.until
            await asyncio.sleep(0.001)
        assert content(replica.engine.snapshot) == content(await loaded(replica.store.journal))


@aio
async def test_nonsense_on_the_channel_is_ignored(postgresql_url: str) -> None:
    """Whoever can connect to the database can send on it; nothing rests on what is heard."""
    async with following(postgresql_url, poll_s=NEVER_S, listens=True) as replica:
        async with other_connection(replica.store) as connection:
            for payload in (
                "",
                "x",
                "1 elsewhere",
                "-1 default",
                "9" * 99 + " default",
                "7 default",
            ):
                await connection.execute("SELECT pg_notify('mergescale_journal', %s)", [payload])
        async with writing(postgresql_url) as other:
            await other.apply(users.create("ana@example.com"))
            await replica.knows("ana@example.com")
        assert replica.engine.snapshot.revision == 1


@asynccontextmanager
async def other_connection(
    store: OpenStore,
) -> AsyncIterator[psycopg.AsyncConnection[tuple[object, ...]]]:
    """Open a connection beside the replica's."""
    database = store.database
    async with await connect(database.reader, database.answer_s) as connection:
        yield connection
