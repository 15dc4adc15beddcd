"""A whole database into an archive, and an archive into a database, whatever kind either is.

Reading is one transaction that sees one moment and stops nobody (SQLite's WAL, PostgreSQL's
REPEATABLE READ), so a server goes on meanwhile. Restoring is one transaction too: what was there
before, or all of the backup.

A backup is always older than the loss that makes somebody restore it. Nodes and users that came
in between are gone, but their addresses are remembered elsewhere, and their ids by clients.
INVARIANT(never twice): restoring moves every counter far ahead, so that neither ids nor addresses
(which follow from ids) nor revisions are given out a second time.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, BinaryIO, Final

from alembic.runtime.migration import MigrationContext
from sqlalchemy import (
    Connection,
    DateTime,
    LargeBinary,
    MetaData,
    NullPool,
    create_engine,
    func,
    inspect,
    select,
    text,
    update,
)
from sqlalchemy import Table as SqlTable

from mergescale.kernel.errors import Conflict, MergescaleError
from mergescale.kernel.ids import TailnetName
from mergescale.store.archive import Archive, BackupUnusable, Form, Header, Table, Writer
from mergescale.store.database import (
    ANSWER_S,
    DRIVER_ERRORS,
    SQLITE,
    parse_url,
    prepare_sqlite,
    unavailable,
)
from mergescale.store.postgresql import reaching
from mergescale.store.schema import knows, replacing, upgrade_to
from mergescale.store.tables import FAILURES, LEASES, NODES, SERVER_SECRETS, TAILNETS, Utc

#: Leases are of living processes, failed attempts of a passing moment at one place; the schema's own
#: row is written by the migrations.
_LEFT_OUT: Final = frozenset({LEASES.name, FAILURES.name, "alembic_version"})
#: LIMIT: more nodes than come and go between two backups; 64 restores use up the addresses once.
_IDS_AHEAD: Final = 1 << 16
#: Far from any revision that a lost database may have had, and below 2^53 for good.
_REVISIONS_AHEAD: Final = 1 << 32
_ROWS_AT_ONCE: Final = 500


class NothingToBackUp(MergescaleError):
    """Raised when the database holds no server's data."""

    code = "store.empty"


class InUse(Conflict):
    """Raised when a database that should be replaced is in use, or holds something."""

    code = "conflict.database"


@dataclass(frozen=True, slots=True)
class Holding:
    """How far a tailnet is, in a database or in a backup."""

    tailnet: TailnetName
    revision: int
    nodes: int

    def __str__(self) -> str:
        nodes = "1 node" if self.nodes == 1 else f"{self.nodes} nodes"
        return f'tailnet "{self.tailnet}" at revision {self.revision} with {nodes}'


@contextmanager
def one_moment(url: str) -> Iterator[Connection]:
    """Open a transaction that reads the database as it is now, and stops nobody.

    Raises:
        DatabaseUrlInvalid: not a URL of a supported database.
        NothingToBackUp: there is no database, or none of ours.
        StoreUnavailable: it could not be read.
    """
    target = parse_url(url)
    if target.drivername == SQLITE:
        if not Path(target.database or "").exists():
            raise NothingToBackUp(f'there is no database "{target.database}"')
        target = target.set(drivername="sqlite+pysqlite")
        engine = create_engine(target, poolclass=NullPool, hide_parameters=True)
        prepare_sqlite(engine, writes=False)
    else:
        engine = create_engine(
            target,
            poolclass=NullPool,
            hide_parameters=True,
            isolation_level="REPEATABLE READ",
            connect_args=reaching(ANSWER_S),
        )
    try:
        with engine.begin() as connection:
            yield connection
    except DRIVER_ERRORS as error:
        raise unavailable(error, "could not be read") from None
    finally:
        engine.dispose()


def schema_of(connection: Connection) -> str:
    """Return the revision of the database's schema, empty without one."""
    return MigrationContext.configure(connection).get_current_revision() or ""


def holdings(connection: Connection) -> Sequence[Holding]:
    """Return how far each tailnet is."""
    if not inspect(connection).has_table(TAILNETS.name):
        return ()
    nodes = (
        select(func.count()).select_from(NODES).where(NODES.c.tailnet == TAILNETS.c.name)
    ).scalar_subquery()
    query = select(TAILNETS.c.name, TAILNETS.c.revision, nodes).order_by(TAILNETS.c.name)
    return [Holding(TailnetName(n), r, count) for n, r, count in connection.execute(query)]


def export(
    url: str, file: BinaryIO, *, made: datetime, server: str, master_key: str = ""
) -> tuple[Sequence[Holding], int]:
    """Write the whole database to a file; return what it holds and the number of rows.

    Raises:
        NothingToBackUp: there is no database, or none of ours.
        StoreUnavailable: it could not be read.
        OSError: the file could not be written.
    """
    with one_moment(url) as connection:
        schema = schema_of(connection)
        if not schema:
            raise NothingToBackUp("the database holds no server's data")
        found = MetaData()
        found.reflect(connection)
        header = Header(
            schema=schema,
            made=made,
            server=server,
            sealed_by=_sealed_by(connection, found),
            master_key=master_key,
        )
        writer = Writer(file, header)
        for table in found.sorted_tables:
            if table.name not in _LEFT_OUT:
                _export_table(connection, table, writer)
        return holdings(connection), writer.close()


def restore(url: str, archive: Archive, *, force: bool) -> Sequence[Holding]:
    """Make the database what the archive holds, in one transaction; return that.

    Args:
        url: an empty database, or with `force` any that no server uses.
        archive: of this version's schema or an older one.
        force: replace what is there.

    Raises:
        InUse: a server uses the database, or it holds something and `force` is off.
        BackupUnusable: the archive is of a newer version or does not fit its own schema.
        SchemaTooNew: the database is of a newer version.
        StoreUnavailable: the database did not take it.
    """
    if not knows(archive.header.schema):
        raise BackupUnusable(
            f'the backup "{archive.path}" is of a newer version of the server'
            f" ({archive.header.server})",
            help="restore it with that version",
        )
    with replacing(url) as connection:
        before, counters = holdings(connection), _counters(connection)
        _check_unused(connection)
        if before and not force:
            raise InUse(
                f"the database holds a server's data: {'; '.join(map(str, before))}",
                help="restore into an empty database, or say --force to replace it",
            )
        upgrade_to(connection, None)
        upgrade_to(connection, archive.header.schema)
        _import_rows(connection, archive)
        _check_references(connection)
        upgrade_to(connection, "head")
        restored = holdings(connection)
        _move_ahead(connection, counters)
        return restored


def _export_table(connection: Connection, table: SqlTable, writer: Writer) -> None:
    writer.table(Table(table.name, {column.name: _form(column.type) for column in table.columns}))
    query = select(table).order_by(*table.primary_key.columns)
    for row in connection.execution_options(yield_per=_ROWS_AT_ONCE).execute(query):
        writer.row(row)


def _form(type_: object) -> Form:
    match type_:
        case LargeBinary():
            return Form.BYTES
        case DateTime():
            return Form.TIME
        case _:
            return Form.PLAIN


def _sealed_by(connection: Connection, found: MetaData) -> str:
    table = found.tables.get(SERVER_SECRETS.name)
    if table is None or "sealed_by" not in table.c:
        return ""
    query = select(table.c.sealed_by).where(table.c.sealed_by.is_not(None)).limit(1)
    return connection.scalar(query) or ""


def _import_rows(connection: Connection, archive: Archive) -> None:
    found = MetaData()
    found.reflect(connection)
    table: SqlTable | None = None
    names: Sequence[str] = ()
    rows: list[dict[str, Any]] = []

    def flush() -> None:
        if table is not None and rows:
            connection.execute(table.insert(), rows)
            rows.clear()

    sqlite = connection.dialect.name == "sqlite"
    for item in archive.contents():
        if isinstance(item, Table):
            flush()
            table, names = found.tables.get(item.name), tuple(item.columns)
            if table is None or set(names) != set(table.c.keys()):
                raise BackupUnusable(f'the backup\'s table "{item.name}" is not of its schema')
        else:
            values = [_stored(value) if sqlite else value for value in item]
            rows.append(dict(zip(names, values, strict=True)))
            if len(rows) >= _ROWS_AT_ONCE:
                flush()
    flush()


def _stored(value: Any) -> Any:
    """Return what SQLite stores, as `tables.Utc` has it."""
    return value.replace(tzinfo=None) if isinstance(value, datetime) else value


def _counters(connection: Connection) -> dict[str, tuple[int, int, int]]:
    """Return each tailnet's revision, next node and next user."""
    if not inspect(connection).has_table(TAILNETS.name):
        return {}
    counters = TAILNETS.c.revision, TAILNETS.c.next_node, TAILNETS.c.next_user
    return {
        row[0]: tuple(row[1:]) for row in connection.execute(select(TAILNETS.c.name, *counters))
    }


def _move_ahead(connection: Connection, replaced: dict[str, tuple[int, int, int]]) -> None:
    """Keep what was given out after the backup from being given out again."""
    for name, restored in _counters(connection).items():
        revision, node, user = map(max, restored, replaced.get(name, restored))
        ahead = {
            "revision": revision + _REVISIONS_AHEAD,
            "next_node": node + _IDS_AHEAD,
            "next_user": user + _IDS_AHEAD,
        }
        connection.execute(update(TAILNETS).where(TAILNETS.c.name == name).values(ahead))


def _check_references(connection: Connection) -> None:
    """Check at once what PostgreSQL checks at the end, and this connection to SQLite does not.

    PostgreSQL alters no table that has checks to come.
    """
    if connection.dialect.name == "postgresql":
        connection.execute(text("SET CONSTRAINTS ALL IMMEDIATE"))
        connection.execute(text("SET CONSTRAINTS ALL DEFERRED"))
        return
    if connection.exec_driver_sql("PRAGMA foreign_key_check").first() is not None:
        raise BackupUnusable("the backup's rows refer to rows that it does not hold")


def _check_unused(connection: Connection) -> None:
    """Check by the leases that no server process is alive; SQLite's server is seen elsewhere."""
    if connection.dialect.name != "postgresql" or not inspect(connection).has_table(LEASES.name):
        return
    now = connection.scalar(select(func.clock_timestamp(type_=Utc)))
    living = select(func.count()).where(
        LEASES.c.name.startswith("replica/"), LEASES.c.expires > now
    )
    if count := connection.scalar(living):
        users = "a server process uses" if count == 1 else f"{count} server processes use"
        raise InUse(
            f"{users} the database",
            help="stop them, and wait for MERGESCALE_LEASE_S seconds",
        )
