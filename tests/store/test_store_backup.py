"""An archive is the whole database or nothing, and fits either kind of database."""

from __future__ import annotations

import io
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import zstandard
from sqlalchemy import create_engine, text

from mergescale.domain.record import Counters, Presence, Put
from mergescale.domain.snapshot import Snapshot
from mergescale.kernel.ids import NodeId, ReplicaId, Revision, UserId
from mergescale.state.ports import StoreUnavailable, presence_lease
from mergescale.store import backup
from mergescale.store.archive import Archive, BackupUnusable, Table
from mergescale.store.backup import Holding, InUse, NothingToBackUp
from mergescale.store.failures import SqlFailures
from mergescale.store.leases import SqlLeases
from mergescale.store.schema import unmigrate
from mergescale.store.tables import METADATA
from support.aio import aio, run
from support.clock import START, FakeClock
from support.stores import HOME, content, deployment, loaded, opened
from support.worlds import REPLICA, world

WORLD = world("ana@example.com: laptop, phone; tag:web: web1")


async def fill(url: str, *, batches: int = 1) -> None:
    """Commit a tailnet with people, nodes, presence and a policy."""
    async with opened(url) as store:
        revision = (await loaded(store.journal)).revision
        writes = [
            *(Put(user) for user in WORLD.users.values()),
            *(Put(node) for node in WORLD.nodes.values()),
            Put(Presence(NodeId(1), REPLICA, START)),
            Put(Counters(NodeId(4), UserId(2))),
            Put(deployment("a")),
        ]
        for _ in range(batches):
            revision = await store.journal.commit(HOME, Revision(revision), writes, START)


def held(url: str) -> Snapshot:
    """Load what a database holds."""
    found: list[Snapshot] = []

    async def load() -> None:
        async with opened(url) as store:
            found.append(await loaded(store.journal))

    run(load())
    return found[0]


def lasting(snapshot: Snapshot) -> dict[str, Any]:
    """Return everything but the counters, which restoring moves."""
    return {k: v for k, v in content(snapshot).items() if k not in {"revision", "counters"}}


def archived(url: str, path: Path) -> Archive:
    """Back a database up."""
    with path.open("wb") as file:
        backup.export(url, file, made=START, server="test")
    return Archive.open(path)


@pytest.fixture
def other_url(tmp_path: Path, request: pytest.FixtureRequest, database_url: str) -> str:
    """A database of the other kind, without anything in it."""
    if database_url.startswith("sqlite"):
        url: str = request.getfixturevalue("postgresql_url")
        unmigrate(url)
        return url
    return f"sqlite+aiosqlite:///{tmp_path / 'other.db'}"


def test_a_backup_moves_everything_to_the_other_kind_of_database(
    database_url: str, other_url: str, tmp_path: Path
) -> None:
    """What is loaded there is what was here, ids, keys, addresses, policy and presence included."""
    run(fill(database_url))
    archive = archived(database_url, tmp_path / "one")
    assert backup.restore(other_url, archive, force=False) == [Holding(HOME, 1, 3)]
    before, after = held(database_url), held(other_url)
    assert lasting(after) == lasting(before)
    assert after.revision == 1 + (1 << 32)
    assert after.counters == Counters(NodeId(4 + 65_536), UserId(2 + 65_536))


def test_failed_attempts_are_not_backed_up(database_url: str, tmp_path: Path) -> None:
    """Who has to wait here and now need not wait at another place, or a month later."""
    run(fill(database_url))

    async def fail() -> None:
        async with opened(database_url) as store:
            await SqlFailures(store.database).add("198.51.100.7", 1e12, 0.0)

    run(fail())
    archive = archived(database_url, tmp_path / "one")
    tables = {item.name for item in archive.contents() if isinstance(item, Table)}
    assert tables == set(METADATA.tables) - {"failures", "leases"}
    backup.restore(database_url, archive, force=True)
    engine = create_engine(database_url.replace("sqlite+aiosqlite:", "sqlite:"))
    with engine.connect() as connection:
        assert connection.scalar(text("SELECT count(*) FROM failures")) == 0
    engine.dispose()


def test_it_comes_back_to_where_it_was(database_url: str, tmp_path: Path) -> None:
    """Replacing what was written since needs force, and never counts back."""
    run(fill(database_url))
    archive = archived(database_url, tmp_path / "one")
    run(fill(database_url, batches=7))
    with pytest.raises(InUse) as refused:
        backup.restore(database_url, archive, force=False)
    assert refused.value.message == (
        'the database holds a server\'s data: tailnet "default" at revision 8 with 3 nodes'
    )
    assert held(database_url).revision == 8
    for time in (1, 2):
        backup.restore(database_url, archive, force=True)
        after = held(database_url)
        assert (after.revision, after.counters.next_node) == (
            8 + time * (1 << 32),
            4 + time * 65_536,
        )
    run(fill(database_url))
    assert held(database_url).revision == 9 + 2 * (1 << 32)


def test_writes_go_on_while_a_backup_reads(database_url: str, tmp_path: Path) -> None:
    """The backup has the moment it began at."""
    run(fill(database_url))
    with backup.one_moment(database_url) as connection:
        assert backup.holdings(connection) == [Holding(HOME, 1, 3)]
        run(fill(database_url, batches=3))
        assert backup.holdings(connection) == [Holding(HOME, 1, 3)]
    assert held(database_url).revision == 4


def damaged(name: str) -> Callable[[bytes], bytes]:
    def changed(whole: bytes) -> bytes:
        lines = zstandard.ZstdDecompressor().stream_reader(io.BytesIO(whole)).read().split(b"\n")
        match name:
            case "a row less":
                del lines[3]
            case "a row changed":
                lines[3] = lines[3].replace(b"a", b"b", 1)
            case "no last line":
                del lines[-2]
            case "another format":
                lines[0] = lines[0].replace(b"mergescale-backup", b"somebody-elses")
            case "a newer format":
                lines[0] = lines[0].replace(b'"version":1', b'"version":2')
        return zstandard.ZstdCompressor().compress(b"\n".join(lines))

    return changed


DAMAGES: list[tuple[Callable[[bytes], bytes], str]] = [
    (lambda whole: whole[:-8], "no whole backup"),
    (lambda whole: whole[: len(whole) // 2], "no whole backup"),
    (lambda _: b"", "no whole backup"),
    (lambda _: b"SQLite format 3\x00", "no whole backup"),
    (lambda whole: whole[:99] + bytes([whole[99] ^ 1]) + whole[100:], "no whole backup"),
    (damaged("a row less"), "no whole backup"),
    (damaged("a row changed"), "no whole backup"),
    (damaged("no last line"), "no whole backup"),
    (damaged("another format"), "no whole backup"),
    (damaged("a newer format"), "of a newer version"),
]


@pytest.mark.parametrize(("damage", "words"), DAMAGES)
def test_a_file_that_is_no_whole_backup_is_refused(
    sqlite_url: str, tmp_path: Path, damage: Callable[[bytes], bytes], words: str
) -> None:
    """Cut, changed, empty or something else: it is told before anything is restored."""
    run(fill(sqlite_url))
    path = archived(sqlite_url, tmp_path / "one").path
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(BackupUnusable, match=words):
        Archive.open(path)


def test_a_restore_that_fails_leaves_what_was_there(database_url: str, tmp_path: Path) -> None:
    """The last table does not fit, and everything is as before."""
    run(fill(database_url))
    path = archived(database_url, tmp_path / "one").path
    run(fill(database_url))
    before = content(held(database_url))
    plain = zstandard.ZstdDecompressor().stream_reader(io.BytesIO(path.read_bytes())).read()
    changed = plain.replace(b'{"table":"presence"', b'{"table":"absence"')
    path.write_bytes(zstandard.ZstdCompressor().compress(changed))
    archive = Archive(path, Archive.open(archived(database_url, tmp_path / "two").path).header)
    with pytest.raises(BackupUnusable, match='"absence" is not of its schema'):
        backup.restore(database_url, archive, force=True)
    assert content(held(database_url)) == before


def test_a_backup_of_an_older_schema_is_upgraded(database_url: str, tmp_path: Path) -> None:
    """It is restored as it was and migrated, in one go."""
    run(fill(database_url))
    before = lasting(held(database_url))
    unmigrate(database_url, "0001")
    archive = archived(database_url, tmp_path / "old")
    assert archive.header.schema == "0001"
    backup.restore(database_url, archive, force=True)
    assert lasting(held(database_url)) == before


def test_a_backup_of_a_newer_schema_is_refused(database_url: str, tmp_path: Path) -> None:
    """It is told by the version that wrote it."""
    run(fill(database_url))
    engine = create_engine(database_url.replace("sqlite+aiosqlite:", "sqlite:"))
    with engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    engine.dispose()
    archive = archived(database_url, tmp_path / "new")
    with pytest.raises(BackupUnusable, match=r"of a newer version of the server \(test\)"):
        backup.restore(f"sqlite+aiosqlite:///{tmp_path / 'other.db'}", archive, force=True)
    assert not (tmp_path / "other.db").exists()


def test_nothing_is_not_backed_up(tmp_path: Path, database_url: str) -> None:
    """A database that is not there is not made, and an empty one is no server's."""
    path = tmp_path / "nothing.db"
    with pytest.raises(NothingToBackUp):
        archived(f"sqlite+aiosqlite:///{path}", tmp_path / "one")
    assert not path.exists()
    unmigrate(database_url)
    with pytest.raises(NothingToBackUp):
        archived(database_url, tmp_path / "two")


def test_a_file_that_is_no_database_is_not_backed_up(tmp_path: Path) -> None:
    """The error is the database's."""
    path = tmp_path / "notes.db"
    path.write_text("not a database, but long enough to be taken for one" * 20, "utf-8")
    with pytest.raises(StoreUnavailable, match="SQLITE_NOTADB"):
        archived(f"sqlite+aiosqlite:///{path}", tmp_path / "one")


@aio
async def test_a_living_replica_keeps_its_database(postgresql_url: str, tmp_path: Path) -> None:
    """Forced or not, nothing is restored under a process that serves from it."""
    await fill(postgresql_url)
    archive = archived(postgresql_url, tmp_path / "one")
    async with opened(postgresql_url) as store:
        leases = SqlLeases(store.database, FakeClock())
        replica = ReplicaId("r1")
        fence = await leases.acquire(presence_lease(replica), replica, 60)
        with pytest.raises(InUse, match="a server process uses the database"):
            backup.restore(postgresql_url, archive, force=True)
        assert fence is not None
        await leases.release(fence)
        backup.restore(postgresql_url, archive, force=True)


def test_lines_hold_times_in_utc(database_url: str, tmp_path: Path) -> None:
    """The file reads the same whichever database it is of."""
    run(fill(database_url))
    path = archived(database_url, tmp_path / "one").path
    plain = zstandard.ZstdDecompressor().stream_reader(io.BytesIO(path.read_bytes())).read()
    assert (START + timedelta(0)).isoformat().encode() in plain
    assert b'{"table":"leases"' not in plain
