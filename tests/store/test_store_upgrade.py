"""Upgrading: there is a backup before anything changes, and a crash leaves before or after."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text

import mergescale
from mergescale.domain.record import Presence, Primary, Put
from mergescale.domain.snapshot import Snapshot
from mergescale.kernel.ids import Revision
from mergescale.server.backups import KEPT, BackupFailed, migrate_with_backup
from mergescale.server.settings import Settings
from mergescale.store import backup
from mergescale.store.archive import Archive
from mergescale.store.schema import migrate, newest, unmigrate
from support.aio import run
from support.clock import START, FakeClock
from support.command_line import CommandLine
from support.stores import HOME, content, loaded, opened
from support.worlds import REPLICA, named, routed, world

CHILD = Path(__file__).with_name("migrating.py")
WORLD = world("ana@example.com: laptop, phone")


def filled(url: str) -> None:
    """Commit people and nodes."""

    async def fill() -> None:
        async with opened(url) as store:
            await loaded(store.journal)
            users, nodes = WORLD.users.values(), WORLD.nodes.values()
            writes = [*map(Put, users), *map(Put, nodes)]
            await store.journal.commit(HOME, Revision(0), writes, START)

    run(fill())


def held(url: str) -> Snapshot:
    """Load what the database holds."""
    found: list[Snapshot] = []

    async def load() -> None:
        async with opened(url) as store:
            found.append(await loaded(store.journal))

    run(load())
    return found[0]


def schema(url: str) -> str:
    """Return the revision of the schema."""
    with backup.one_moment(url) as connection:
        return backup.schema_of(connection)


def test_kill_9_while_migrating_leaves_before_or_after(database_url: str) -> None:
    """Killed before each statement in turn it is the old schema, and then it is the new one."""
    filled(database_url)
    before = content(held(database_url))
    unmigrate(database_url, "0001")
    package = Path(mergescale.__file__).parents[1]
    done = subprocess.run(
        [sys.executable, str(CHILD), database_url],
        env={**os.environ, "PYTHONPATH": str(package)},
        stdout=subprocess.PIPE,
        check=True,
        timeout=100,
        text=True,
    )
    *died, last = done.stdout.split()
    assert (set(died), last) == ({"died"}, "done")
    assert len(died) >= 5
    assert schema(database_url) == newest()
    assert content(held(database_url)) == before


def test_an_upgrade_stores_who_carries_which_route(database_url: str) -> None:
    """As the version before would have chosen at its start: the oldest online router that may."""
    built = world("ana@example.com: r1, r2; tag:r: r3, r4", online=False)
    for name in ("r4", "r3", "r2", "r1"):
        built = routed(built, name, "10.0.0.0/24", "10.3.0.0/24", "0.0.0.0/0")
    built = routed(built, "r1", "10.1.0.0/24")
    built = routed(built, "r2", "10.2.0.0/24", approved=False)
    present = Presence(named(built, "r4").id, REPLICA, START)
    gone = replace(named(built, "r3"), authorized=False)

    async def fill() -> None:
        async with opened(database_url) as store:
            await loaded(store.journal)
            kept = [r for r in built.records() if not isinstance(r, Primary)]
            writes = [*map(Put, kept), Put(gone), Put(present)]
            await store.journal.commit(HOME, Revision(0), writes, START)

    run(fill())
    unmigrate(database_url, "0004")
    migrate(database_url)
    engine = create_engine(database_url.replace("sqlite+aiosqlite:", "sqlite:"))
    with engine.connect() as connection:
        rows = connection.execute(text("SELECT prefix, node_id FROM primaries ORDER BY prefix"))
        assert [tuple(row) for row in rows] == [
            ("10.0.0.0/24", 4),
            ("10.1.0.0/24", 1),
            ("10.3.0.0/24", 4),
        ]
    engine.dispose()
    assert {str(p): int(n) for p, n in held(database_url).primaries.items()} == {
        "10.0.0.0/24": 4,
        "10.1.0.0/24": 1,
        "10.3.0.0/24": 4,
    }


def test_an_upgrade_is_backed_up_first(database_url: str, tmp_path: Path) -> None:
    """The backup is of the old schema and brings it all back; a start with nothing to do has none."""
    settings = Settings(state_dir=tmp_path / "state", database_url=database_url)
    filled(database_url)
    migrate_with_backup(settings, FakeClock())
    assert not (tmp_path / "state").exists()

    before = content(held(database_url))
    unmigrate(database_url, "0001")
    migrate_with_backup(settings, FakeClock())
    [kept] = (tmp_path / "state" / "backups").iterdir()
    assert kept.stat().st_mode & 0o777 == 0o600
    archive = Archive.open(kept)
    assert archive.header.schema == "0001"
    assert content(held(database_url)) == before

    other = f"sqlite+aiosqlite:///{tmp_path / 'other.db'}"
    backup.restore(other, archive, force=False)
    assert content(held(other))["nodes"] == before["nodes"]


def test_the_first_start_has_nothing_to_back_up(tmp_path: Path) -> None:
    """An empty database is migrated, and no backup of nothing is made."""
    settings = Settings(state_dir=tmp_path)
    migrate_with_backup(settings, FakeClock())
    assert schema(settings.database) == newest()
    assert not (tmp_path / "backups").exists()


def test_without_a_backup_nothing_is_migrated(database_url: str, tmp_path: Path) -> None:
    """Where no backup can be written the schema stays the old one, and the error says so."""
    unmigrate(database_url, "0001")
    (tmp_path / "state").write_text("no folder", "utf-8")
    settings = Settings(state_dir=tmp_path / "state", database_url=database_url)
    with pytest.raises(BackupFailed, match="could not be written: Not a directory"):
        migrate_with_backup(settings, FakeClock())
    assert schema(database_url) == "0001"


def test_only_the_newest_automatic_backups_are_kept(sqlite_url: str, tmp_path: Path) -> None:
    """Others in the folder are left alone."""
    settings = Settings(state_dir=tmp_path / "state", database_url=sqlite_url)
    clock = FakeClock()
    folder = tmp_path / "state" / "backups"
    folder.mkdir(parents=True)
    (folder / "mine.backup").write_text("mine", "utf-8")
    for _ in range(KEPT + 2):
        clock.advance(timedelta(days=1))
        unmigrate(sqlite_url, "0001")
        migrate_with_backup(settings, clock)
    names = sorted(path.name[:8] for path in folder.iterdir())
    assert names == [f"202601{day:02}" for day in range(4, 4 + KEPT)] + ["mine.bac"]


def test_serve_refuses_a_newer_schema(tmp_path: Path) -> None:
    """Two lines and exit code 1; the database stays as it was."""
    settings = Settings(state_dir=tmp_path)
    migrate(settings.database)
    engine = create_engine(settings.database.replace("+aiosqlite", ""))
    with engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    engine.dispose()
    ended = CommandLine(("--state-dir", str(tmp_path)))("serve", "--listen", "127.0.0.1:1")
    assert (ended.code, ended.err.splitlines()) == (
        1,
        [
            "error: the database was migrated by a newer version of the server",
            "help: run that version, or restore a backup from before its first start",
        ],
    )
    assert schema(settings.database) == "9999"
