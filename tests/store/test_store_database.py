"""Opening a database: what is private, what is durable, what an error may say."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
from sqlalchemy import insert, text, update

from mergescale.state.ports import StoreUnavailable
from mergescale.store.database import Database, DatabaseUrlInvalid
from mergescale.store.tables import SERVER_SECRETS, TAILNETS
from support.aio import aio
from support.clock import START
from support.stores import loaded, opened

SECRET_ROW = {"name": "n", "value": b"v", "digest": b"d", "created": START}


def file_modes(folder: Path) -> dict[str, int]:
    """Return name -> permission bits."""
    return {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()}


@aio
async def test_only_the_owner_can_read_the_file(sqlite_url: str, tmp_path: Path) -> None:
    """The database and the files SQLite puts beside it are private, also when they were not."""
    (tmp_path / "mergescale.db").chmod(0o644)
    async with opened(sqlite_url) as store:
        await loaded(store.journal)
        modes = file_modes(tmp_path)
    assert modes == {"mergescale.db": 0o600, "mergescale.db-shm": 0o600, "mergescale.db-wal": 0o600}


@aio
async def test_sqlite_is_set_up_to_lose_nothing(sqlite_url: str) -> None:
    """Each connection syncs at every commit, checks references and waits for other writers."""
    names = ("journal_mode", "synchronous", "foreign_keys", "busy_timeout", "query_only")
    async with opened(sqlite_url) as store:
        settings = []
        for engine in (store.database.writer, store.database.reader):
            async with engine.begin() as connection:
                settings.append([await connection.scalar(text(f"PRAGMA {name}")) for name in names])
    assert settings == [["wal", 2, 1, 10_000, 0], ["wal", 2, 1, 10_000, 1]]


@aio
async def test_what_reads_cannot_write(sqlite_url: str) -> None:
    """A read that turns out to write is refused by the connection itself."""
    async with opened(sqlite_url) as store:
        with pytest.raises(StoreUnavailable):
            async with store.database.reading() as connection:
                await connection.execute(insert(SERVER_SECRETS), SECRET_ROW)


@aio
async def test_a_read_sees_one_moment(database_url: str) -> None:
    """What is written during a read does not show in it."""
    count = text("SELECT count(*) FROM server_secrets")
    async with opened(database_url) as store:
        async with store.database.reading() as reading:
            counts = [await reading.scalar(count)]
            async with store.database.writing() as writing:
                await writing.execute(insert(SERVER_SECRETS), SECRET_ROW)
            counts.append(await reading.scalar(count))
        async with store.database.reading() as reading:
            counts.append(await reading.scalar(count))
    assert counts == [0, 0, 1]


@aio
async def test_a_process_stopped_in_a_transaction_does_not_stop_the_others(
    postgresql_url: str,
) -> None:
    """PostgreSQL ends what does nothing, so that its locks are free again."""
    change = update(TAILNETS).values(next_user=9)
    async with opened(postgresql_url, 0.5) as stopped, opened(postgresql_url) as other:
        await loaded(other.journal)

        async def write_while_the_other_holds_the_row() -> None:
            async with stopped.database.writing() as idle:
                await idle.execute(change)
                async with other.database.writing() as connection:
                    await connection.execute(change)

        with pytest.raises(StoreUnavailable):
            await write_while_the_other_holds_the_row()
        assert (await loaded(other.journal)).counters.next_user == 9


@aio
async def test_errors_hold_neither_statement_nor_values(database_url: str) -> None:
    """The message is the driver's code; the cause, which has more, is not shown."""
    async with opened(database_url) as store:
        with pytest.raises(StoreUnavailable) as failed:
            async with store.database.reading() as connection:
                await connection.execute(text("SELECT :word FROM nowhere"), {"word": "s3cret"})
    assert str(failed.value).startswith("the database could not be read (")
    assert "nowhere" not in str(failed.value)
    assert failed.value.__suppress_context__


@aio
async def test_ping_tells_a_database_that_answers_from_one_that_does_not(
    database_url: str, tmp_path: Path
) -> None:
    """A healthy database passes, a file that is none fails."""
    async with opened(database_url) as store:
        await store.database.ping()
    (tmp_path / "garbage.db").write_bytes(b"garbage " * 200)
    database = Database.open(f"sqlite+aiosqlite:///{tmp_path / 'garbage.db'}")
    try:
        with pytest.raises(StoreUnavailable):
            await database.ping()
    finally:
        await database.dispose()


@pytest.mark.parametrize(
    "url",
    [
        "mysql://root:s3cret@localhost/x",
        "sqlite:///s3cret.db",
        "s3cret",
        "postgresql+psycopg://u:s3cret@host:port/x",
        "sqlite+aiosqlite://",
        "sqlite+aiosqlite:///:memory:",
    ],
)
def test_a_url_of_no_use_is_refused_without_repeating_it(url: str) -> None:
    """The error says what is expected and nothing of what was given."""
    with pytest.raises(DatabaseUrlInvalid) as refused:
        Database.open(url)
    assert "s3cret" not in refused.value.message + refused.value.help
    assert refused.value.help != ""


def test_a_file_in_a_missing_directory_is_refused_with_its_name(tmp_path: Path) -> None:
    """The operator learns which file and why."""
    path = tmp_path / "missing" / "mergescale.db"
    with pytest.raises(StoreUnavailable) as refused:
        Database.open(f"sqlite+aiosqlite:///{path}")
    expected = f"the database file '{path}' cannot be opened: No such file or directory"
    assert str(refused.value) == expected
