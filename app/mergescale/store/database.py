"""Opening a database, and what its failures are called.

SQLite has one writer at a time whatever the client does, so there is one writing connection that
takes the lock at once (``BEGIN IMMEDIATE``) and a few reading ones that see a stable snapshot and
never wait for it (WAL). PostgreSQL gets one pool each for the same two purposes, and a deadline for everything.

A database error becomes `StoreUnavailable` with the driver's code for it and nothing else: the
statement, its parameters and the server's detail line may hold keys and names.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import URL, Connection, Engine, event, make_url, text
from sqlalchemy.exc import ArgumentError, DBAPIError, IntegrityError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from mergescale.kernel.errors import MergescaleError
from mergescale.state.ports import StoreConflict, StoreUnavailable
from mergescale.store.postgresql import CONNECTIONS, Patience, engine_of

SQLITE: Final = "sqlite+aiosqlite"
POSTGRESQL: Final = "postgresql+psycopg"

#: LIMIT: how long a write waits for another process that holds SQLite's write lock. A batch
#: takes milliseconds; only a backup or a migration holds the lock for seconds.
_BUSY_MS = 10_000
#: LIMIT: a transaction of ours reads at most one tailnet or writes one batch.
ANSWER_S: Final = 10.0

#: What a driver raises. Values that it cannot encode fail before its own errors can.
DRIVER_ERRORS: Final = (SQLAlchemyError, OSError, OverflowError, UnicodeError)


class DatabaseUrlInvalid(MergescaleError):
    """Raised when the configured URL names no database that this server can use."""

    code = "store.url"


@dataclass(frozen=True, slots=True)
class Database:
    """Connections to one database; make it with `open`, close it with `dispose`.

    Attributes:
        answer_s: how long PostgreSQL may be silent before it is given up.
        patience: what of it is left for the next transaction.
    """

    writer: AsyncEngine
    reader: AsyncEngine
    answer_s: float
    patience: Patience

    @classmethod
    def open(cls, url: str, answer_s: float = ANSWER_S) -> Database:
        """Prepare connections; none is made yet.

        A SQLite file that does not exist is created, readable by its owner only: it holds the
        server's keys. SQLite gives its ``-wal`` and ``-shm`` files the same mode.

        Raises:
            DatabaseUrlInvalid: neither ``sqlite+aiosqlite:///file`` nor ``postgresql+psycopg://``.
            StoreUnavailable: the file cannot be created or made private.
        """
        target = parse_url(url)
        if target.drivername == SQLITE:
            make_private_file(target)
            writer, reader = _sqlite(target, writes=True), _sqlite(target, writes=False)
            # It waits for a lock at most (_BUSY_MS), and a disk that hangs stops the thread.
            return cls(writer, reader, answer_s, Patience(None))
        writer, reader = (engine_of(target, answer_s, writes=writes) for writes in (True, False))
        return cls(writer, reader, answer_s, Patience(answer_s))

    @asynccontextmanager
    async def writing(self) -> AsyncIterator[AsyncConnection]:
        """Open a transaction that commits at the end of the block, or rolls back if it raises.

        Raises:
            StoreConflict: a constraint refused the write.
            StoreUnavailable: the database did not take it.
        """
        async with self._begun(self.writer, "did not take the write") as connection:
            yield connection

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[AsyncConnection]:
        """Open a transaction whose statements all see the same moment.

        Raises:
            StoreUnavailable: the database could not be read.
        """
        async with self._begun(self.reader, "could not be read") as connection:
            yield connection

    @property
    def shared(self) -> bool:
        """Say whether several processes may use it: PostgreSQL, not SQLite."""
        return self.writer.dialect.name == "postgresql"

    async def ping(self) -> None:
        """Check that the database answers, and of PostgreSQL that it takes writes.

        Raises:
            StoreUnavailable: it does not.
        """
        if not self.shared:
            async with self.reading() as connection:
                await connection.execute(text("SELECT 1"))
            return
        async with self.writing() as connection:
            if await connection.scalar(text("SHOW transaction_read_only")) == "on":
                # A standby, or made one: the next connection may find the server that is none.
                await connection.invalidate()
                raise StoreUnavailable("the database takes no writes, it is read-only")

    async def dispose(self) -> None:
        """Close all connections; transactions under way must be over."""
        await self.reader.dispose()
        await self.writer.dispose()

    @asynccontextmanager
    async def _begun(self, engine: AsyncEngine, failing: str) -> AsyncIterator[AsyncConnection]:
        """Open a transaction that is over in time; say what its failure means."""
        try:
            async with asyncio.timeout(self.patience.lasts_s), engine.begin() as connection:
                yield connection
        except TimeoutError:
            self.patience.silent = True
            raise StoreUnavailable(f"the database {failing} in time") from None
        except DRIVER_ERRORS as error:
            raise unavailable(error, failing) from None
        self.patience.silent = False


def parse_url(url: str) -> URL:
    """Read a database URL; the error repeats nothing of it, since it may hold a password.

    Raises:
        DatabaseUrlInvalid: not a URL of a supported database.
    """
    try:
        target = make_url(url)
    except (ArgumentError, ValueError):
        target = None
    if target is None or target.drivername not in {SQLITE, POSTGRESQL}:
        raise DatabaseUrlInvalid(
            "the database URL is not one this server can use",
            help=f"use `{SQLITE}:///path/to/file` or `{POSTGRESQL}://user@host/name`",
        )
    if target.drivername == SQLITE and target.database in {None, "", ":memory:"}:
        raise DatabaseUrlInvalid(
            "the database URL names no file",
            help=f"a database in memory loses everything; use `{SQLITE}:///path/to/file`",
        )
    return target


def make_private_file(target: URL) -> None:
    """Create the SQLite file if there is none, and let nobody but its owner read it.

    Raises:
        StoreUnavailable: the system refuses; the message has its reason.
    """
    path = target.database or ""
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        os.chmod(path, 0o600)  # noqa: PTH101 - beside os.open
    except OSError as error:
        raise StoreUnavailable(
            f"the database file '{path}' cannot be opened: {error.strerror}",
            help="the directory must exist and the file must belong to the server's user",
        ) from None


def unavailable(error: BaseException, what: str) -> StoreUnavailable:
    """Return our error for a driver's: its code, or its class where it has none."""
    original = error.orig if isinstance(error, DBAPIError) and error.orig else error
    cause = (
        getattr(original, "sqlite_errorname", None)
        or getattr(original, "sqlstate", None)
        or type(original).__name__
    )
    if isinstance(error, IntegrityError):
        return StoreConflict(f"the database found the write inconsistent ({cause})")
    return StoreUnavailable(f"the database {what} ({cause})")


def prepare_sqlite(engine: Engine, *, writes: bool, references: bool = True) -> None:
    """Set each new connection's pragmas, and begin transactions explicitly.

    `references` says whether foreign keys are checked; a migration that copies a table does so
    without.

    The driver would begin them by itself, but only before the first change: a transaction that
    read first could then find at its first write that it is too late (SQLITE_BUSY_SNAPSHOT).
    """

    @event.listens_for(engine, "connect")
    def _connected(connection: Any, _: object) -> None:
        connection.isolation_level = None
        cursor = connection.cursor()
        cursor.execute(f"PRAGMA busy_timeout = {_BUSY_MS}")
        cursor.execute("PRAGMA journal_mode = WAL")
        # FULL syncs the log at every commit. NORMAL would survive kill -9 just as well, but a
        # loss of power could take back an address, a spent key or a revocation that somebody was
        # already told of. Group commit pays for the sync.
        cursor.execute("PRAGMA synchronous = FULL")
        cursor.execute(f"PRAGMA foreign_keys = {'ON' if references else 'OFF'}")
        if not writes:
            cursor.execute("PRAGMA query_only = ON")
        cursor.close()

    @event.listens_for(engine, "begin")
    def _begun(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _sqlite(target: URL, *, writes: bool) -> AsyncEngine:
    engine = create_async_engine(
        target,
        pool_size=1 if writes else CONNECTIONS,
        max_overflow=0,
        pool_timeout=_BUSY_MS / 1000,
        hide_parameters=True,
    )
    prepare_sqlite(engine.sync_engine, writes=writes)
    return engine
