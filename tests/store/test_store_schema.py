"""Migrations: any start ends at the tables of this version, or says why not."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import URL, create_engine, inspect, text

from mergescale.domain.record import Drop, Put, Write
from mergescale.kernel.ids import Revision, UserId
from mergescale.state.ports import StoreUnavailable
from mergescale.store import schema
from mergescale.store.batch import Folded
from mergescale.store.database import POSTGRESQL, SQLITE, DatabaseUrlInvalid, parse_url
from mergescale.store.schema import SchemaTooNew, migrate, unmigrate
from mergescale.store.tables import METADATA
from support.aio import aio
from support.clock import START
from support.stores import HOME, loaded, opened
from support.worlds import world


def synchronous(url: str) -> str:
    """Return the URL for a blocking driver."""
    return url.replace("sqlite+aiosqlite:", "sqlite:")


def test_migrating_an_empty_database_makes_exactly_the_tables(database_url: str) -> None:
    """Nothing differs between what the migrations make and what the code expects."""
    engine = create_engine(synchronous(database_url))
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, METADATA) == []
        assert {
            (key["name"], key["options"].get("deferrable"))
            for table in ("nodes", "presence")
            for key in inspect(connection).get_foreign_keys(table)
        } == {
            ("fk_nodes_tailnets", None),
            ("fk_nodes_users", True),
            ("fk_presence_tailnets", None),
            ("fk_presence_nodes", True),
        }
    engine.dispose()


@aio
async def test_migrating_again_keeps_everything(database_url: str) -> None:
    """A second start finds what the first one wrote."""
    snapshot = world("ana@example.com: laptop")
    users = [Put(user) for user in snapshot.users.values()]
    async with opened(database_url) as store:
        await loaded(store.journal)
        await store.journal.commit(HOME, Revision(0), users, START)
    migrate(database_url)
    async with opened(database_url) as store:
        assert (await loaded(store.journal)).users == snapshot.users


def test_the_way_back_to_nothing_and_up_again_works(database_url: str) -> None:
    """Downgrading removes every table of ours; upgrading makes them again."""
    unmigrate(database_url)
    engine = create_engine(synchronous(database_url))
    with engine.connect() as connection:
        assert inspect(connection).get_table_names() == ["alembic_version"]
    migrate(database_url)
    with engine.connect() as connection:
        assert set(inspect(connection).get_table_names()) >= set(METADATA.tables)
    engine.dispose()


def test_a_newer_schema_is_refused_and_left_alone(database_url: str) -> None:
    """An old server does not touch what a new one migrated."""
    engine = create_engine(synchronous(database_url))
    with engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    for change in (migrate, unmigrate):
        with pytest.raises(SchemaTooNew) as refused:
            change(database_url)
        assert refused.value.help != ""
    with engine.connect() as connection:
        assert connection.scalar(text("SELECT version_num FROM alembic_version")) == "9999"
    engine.dispose()


def test_replicas_that_start_together_migrate_once(database_url: str) -> None:
    """Several servers on one empty database all end with its schema."""
    unmigrate(database_url)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(migrate, [database_url] * 4))
    test_migrating_an_empty_database_makes_exactly_the_tables(database_url)


def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    """A wrong file is named a failure of the database and stays as it was."""
    path = tmp_path / "notes.txt"
    path.write_text("not a database, but long enough to be taken for one" * 20)
    before = path.read_bytes()
    with pytest.raises(StoreUnavailable) as refused:
        migrate(f"sqlite+aiosqlite:///{path}")
    assert str(refused.value) == "the database could not be migrated (SQLITE_NOTADB)"
    assert path.read_bytes() == before


def test_migrating_checks_the_url() -> None:
    """A URL of another kind of database is refused before anything is opened."""
    with pytest.raises(DatabaseUrlInvalid):
        migrate("mysql://localhost/x")


def test_the_template_makes_a_revision_that_imports(sqlite_url: str, tmp_path: Path) -> None:
    """A revision drafted from the template is Python with both directions."""
    engine = create_engine(str(parse_url(sqlite_url)).replace("+aiosqlite", ""))
    with engine.connect() as connection:
        config = schema._config(connection)
        config.set_main_option("version_locations", f"{schema._MIGRATIONS}/versions {tmp_path}")
        config.set_main_option("path_separator", "space")
        script = command.revision(config, "probe", version_path=str(tmp_path))
    engine.dispose()
    assert script is not None
    assert not isinstance(script, list)
    assert (script.doc, script.down_revision) == ("probe.", schema.newest())
    drafted = vars(script.module)
    directions: list[Callable[[], None]] = [drafted["upgrade"], drafted["downgrade"]]
    for direct in directions:
        direct()
    assert [direct.__doc__ for direct in directions] == [
        "Go from the revision before to this one.",
        "Go back to the revision before.",
    ]


@pytest.mark.parametrize("driver", [SQLITE, POSTGRESQL])
def test_every_statement_of_a_batch_compiles_for_every_database(driver: str) -> None:
    """The statements use nothing that one of the databases lacks."""
    dialect = URL.create(driver).get_dialect()()
    snapshot = world("ana@example.com: laptop; tag:web: web1")
    writes: list[Write] = [
        *(Put(user) for user in snapshot.users.values()),
        *(Put(node) for node in snapshot.nodes.values()),
        Drop(snapshot.users[UserId(1)]),
        Drop(next(iter(snapshot.nodes.values()))),
    ]
    compiled = [
        str(statement.compile(dialect=dialect)).split(" WHERE ")[0].split(" (")[0].split("\n")[0]
        for statement, _ in Folded.of(writes).statements(HOME)
    ]
    assert compiled == [
        "DELETE FROM presence",
        "DELETE FROM users",
        "DELETE FROM nodes",
        "INSERT INTO nodes",
    ]
