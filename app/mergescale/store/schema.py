"""Bringing a database to the schema of this version, with Alembic.

Runs at the start of each server process and is safe to run by several at once: the whole upgrade
is one transaction under a lock, and does nothing where nothing is to do.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, NullPool, create_engine, text

from mergescale.kernel.errors import MergescaleError
from mergescale.store.database import (
    ANSWER_S,
    DRIVER_ERRORS,
    SQLITE,
    make_private_file,
    parse_url,
    prepare_sqlite,
    unavailable,
)
from mergescale.store.postgresql import reaching

_MIGRATIONS: Final = Path(__file__).parent / "migrations"
#: Any number will do, as long as it is always the same: PostgreSQL's locks have numbers for names.
_LOCK: Final = 0x6D657267


class SchemaTooNew(MergescaleError):
    """Raised when a newer version of the server has migrated the database."""

    code = "store.schema"


def migrate(url: str, before: Callable[[str], None] | None = None) -> None:
    """Create the schema or bring it up to date; blocks, so call it before or beside the loop.

    Args:
        url: of the database.
        before: called with the old revision when there is data to migrate, before anything is
            changed; if it raises, nothing is.

    Raises:
        DatabaseUrlInvalid: not a URL of a supported database.
        SchemaTooNew: the database is of a newer version; nothing was changed.
        StoreUnavailable: the database failed; nothing was changed.
    """
    with _locked(url) as connection:
        stored = MigrationContext.configure(connection).get_current_revision()
        if stored == newest():
            return
        if stored is not None and before is not None:
            before(stored)
        command.upgrade(_config(connection), "head")


@contextmanager
def replacing(url: str) -> Iterator[Connection]:
    """Open a transaction that may replace everything, while nobody migrates.

    Raises:
        DatabaseUrlInvalid: not a URL of a supported database.
        SchemaTooNew: the database is of a newer version; nothing was changed.
        StoreUnavailable: the database failed; nothing was changed.
    """
    with _locked(url) as connection:
        yield connection


def upgrade_to(connection: Connection, revision: str | None) -> None:
    """Bring the schema up to a revision, or for None remove all of it with its data."""
    if revision is None:
        command.downgrade(_config(connection), "base")
    else:
        command.upgrade(_config(connection), revision)


def knows(revision: str) -> bool:
    """Say whether this version can bring a database of that revision up to date."""
    scripts = ScriptDirectory(str(_MIGRATIONS))
    return revision in {script.revision for script in scripts.walk_revisions()}


def newest() -> str:
    """Return the revision of this version's schema."""
    return ScriptDirectory(str(_MIGRATIONS)).get_current_head() or ""


def unmigrate(url: str, revision: str = "base") -> None:
    """Take the schema back to an older revision, with the data that the newer one added.

    Raises:
        DatabaseUrlInvalid: not a URL of a supported database.
        SchemaTooNew: the database is of a newer version; nothing was changed.
        StoreUnavailable: the database failed; nothing was changed.
    """
    with _locked(url) as connection:
        command.downgrade(_config(connection), revision)


@contextmanager
def _locked(url: str) -> Iterator[Connection]:
    """Open a transaction in which nobody else migrates, on a schema that we know."""
    engine = _engine(url)
    try:
        with engine.begin() as connection:
            if connection.dialect.name == "postgresql":
                connection.execute(text("SELECT pg_advisory_xact_lock(:number)"), {"number": _LOCK})
            _refuse_newer(connection)
            yield connection
    except DRIVER_ERRORS as error:
        raise unavailable(error, "could not be migrated") from None
    finally:
        engine.dispose()


def _engine(url: str) -> Engine:
    target = parse_url(url)
    if target.drivername != SQLITE:
        return create_engine(
            target, poolclass=NullPool, hide_parameters=True, connect_args=reaching(ANSWER_S)
        )
    make_private_file(target)
    engine = create_engine(
        target.set(drivername="sqlite+pysqlite"), poolclass=NullPool, hide_parameters=True
    )
    prepare_sqlite(engine, writes=True, references=False)
    return engine


def _config(connection: Connection) -> Config:
    config = Config(attributes={"connection": connection})
    # The parser of the configuration takes a single % for an interpolation.
    config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
    return config


def _refuse_newer(connection: Connection) -> None:
    stored = MigrationContext.configure(connection).get_current_heads()
    if not all(knows(revision) for revision in stored):
        raise SchemaTooNew(
            "the database was migrated by a newer version of the server",
            help="run that version, or restore a backup from before its first start",
        )
