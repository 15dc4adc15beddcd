"""A row with nonsense in any of its columns costs nobody else the network (S28, R23).

``tests/flows/test_pitfalls_rows.py`` puts impossible values into nodes in memory; here they are in
the database, where an older version, a bug or a hand may have put what is no value at all.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
import sqlite3
from collections import Counter
from pathlib import Path
from typing import Any

import psycopg
import pytest
from sqlalchemy import Table, make_url

from mergescale.domain.record import Presence, Put
from mergescale.domain.snapshot import Snapshot
from mergescale.kernel.ids import ApiKeyId, AuthKeyId, Revision
from mergescale.netmap.encoder import Encoder
from mergescale.state import apikeys, authkeys, presence
from mergescale.state.outcome import Decision
from mergescale.state.registration import register
from mergescale.store.mapping import TABLES
from mergescale.store.schema import migrate
from mergescale.store.tables import NODES, Utc
from mergescale.wire.mapframe import LENGTH_BYTES, Compression
from support.aio import run
from support.clock import START
from support.control_world import people
from support.faults import devices, new_key, one_server, staff_and_web, started
from support.faults import register as join
from support.machines import Machine, decided
from support.replicas import Replica
from support.stores import HOME, content, loaded, opened
from support.tailnet_story import REGION
from support.worlds import REPLICA, key_bytes, named, step

HEALTHY = ("laptop", "phone")
#: Whose row is spoilt: bob's node, and bob himself, by the columns that their keys have.
#: Others have one row.
POISONED = {"nodes": "id = 3", "users": "id = 2", "presence": "node_id = 3"}
#: With another tailnet's name a row is that tailnet's, and none of this one.
PLACES = [
    (table, column.name)
    for table in TABLES.values()
    for column in table.columns
    if column.name != "tailnet"
]
NONSENSE: list[Any] = [
    None,
    "",
    "[1, {}]",
    '["nonsense", null]',
    "2026-13-45 99:99:99.000000",
    b"\xff\xfe\x00",
    -1,
    2**63 - 1,
    1e308,
    "\ufdd0\x00",
]
#: Bytes under the name of text: a driver cannot even hand them out.
NOT_UTF_8 = "CAST(X'ff6e6f' AS TEXT)"
#: PostgreSQL knows types; these are within them.
WITHIN = ("''", "'[1, {}]'", "'\\xff'::bytea", "-1", "9223372036854775807", "'infinity'")
WITHIN_TIME = ("'infinity'", "'-infinity'", "'4000-01-01 BC'", "'20000-01-01'")


def everybody() -> Snapshot:
    """Return two good nodes of alice's, one of bob's, and a row of every other kind of bob's."""
    whole = people("alice@example.com: laptop, phone; bob@example.com: poisoned")
    bobs = authkeys.Wanted(user="bob@example.com")
    decisions: tuple[Decision[Any], ...] = (
        authkeys.create(AuthKeyId("bobs"), key_bytes("bobs"), bobs),
        apikeys.create(ApiKeyId("api"), key_bytes("api"), "of bob's"),
        register(Machine("waiting").asks()),
        presence.connected(named(whole, "poisoned").id, REPLICA),
    )
    for decision in decisions:
        whole, _ = decided(whole, decision, START)
    return whole


async def fill(url: str) -> None:
    """Put everybody into an empty database."""
    async with opened(url) as store:
        await store.journal.load(HOME)
        whole = everybody()
        writes = [Put(record) for record in (*whole.records(), whole.counters)]
        await store.journal.commit(HOME, Revision(0), writes, START)


@pytest.fixture(scope="module")
def healthy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database with everybody in it."""
    path = tmp_path_factory.mktemp("poison") / "healthy.db"
    migrate(sqlite(path))
    asyncio.run(fill(sqlite(path)))
    return path


def sqlite(path: Path) -> str:
    return f"sqlite+aiosqlite:///{path}"


def spoil(path: Path, table: str, column: str, expression: str, *values: object) -> None:
    """Write past every check of ours, into the row that is to be poisoned."""
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as raw:
        raw.execute("PRAGMA foreign_keys = OFF")
        where = POISONED.get(table, "1 = 1")
        raw.execute(f"UPDATE {table} SET {column} = {expression} WHERE {where}", values)  # noqa: S608


async def read(url: str) -> tuple[Snapshot, list[str]]:
    """Load as the server does; return what it has and what it reported."""
    async with opened(url) as store:
        stored = await loaded(store.journal)
        # The journal of tests does not read policies: put one in force under which all see all.
        in_force = people().deployment
        assert in_force is not None
        return step(stored, [Put(in_force)]), [why for _, why in store.unreadable]


def peers(snapshot: Snapshot) -> dict[str, dict[int, Any]]:
    """Return the healthy peers in the full maps of the healthy nodes; all maps can be made."""
    told = {}
    for node in snapshot.nodes.values():
        frame = Encoder(REGION).full(snapshot, node.id, Compression.NONE, START)
        message = json.loads(frame[LENGTH_BYTES:])
        if node.name in HEALTHY:
            told[node.name] = {p["ID"]: p for p in message["Peers"] if p["ID"] in {1, 2}}
    return told


def check(before: Snapshot, after: Snapshot, reported: list[str], what: str) -> None:
    """Assert that the good nodes hold what they held, and that what is missing is reported once."""
    assert peers(after) == peers(before), what
    missing = sum(counted(before, after).values()) - sum(counted(after, after).values())
    assert len(reported) == len(set(reported)) == missing, (what, reported)


def counted(snapshot: Snapshot, after: Snapshot) -> Counter[type]:
    """Count the records of each class; the presence of nodes that are gone afterwards is gone too."""
    return Counter(
        type(record)
        for record in snapshot.records()
        if not isinstance(record, Presence) or record.node in after.nodes
    )


def test_all_see_all_while_nothing_is_wrong(healthy: Path) -> None:
    """What the others compare with is not empty."""
    before, reported = asyncio.run(read(sqlite(healthy)))
    assert reported == []
    assert [len(told) for told in peers(before).values()] == [1, 1]
    assert len(before.nodes) == 3
    assert {type(record).__name__ for record in before.records()} >= {
        "User", "Node", "AuthKey", "ApiKey", "PendingLogin", "Presence",
    }  # fmt: skip


@pytest.mark.parametrize(("table", "column"), PLACES, ids=lambda it: getattr(it, "name", it))
def test_nonsense_in_a_column_is_its_own_rows_problem(
    healthy: Path, tmp_path: Path, table: Table, column: str
) -> None:
    """All others keep their maps; a row that means nothing is left out and reported.

    Only the maps' own table gets all the nonsense there is.
    """
    before, _ = asyncio.run(read(sqlite(healthy)))
    some = NONSENSE if table is NODES else NONSENSE[::4]
    for expression, values in [("?", (one,)) for one in some] + [(NOT_UTF_8, ())]:
        path = tmp_path / "spoilt.db"
        shutil.copyfile(healthy, path)
        try:
            spoil(path, table.name, column, expression, *values)
        except sqlite3.IntegrityError:
            continue  # the database itself does not take it
        after, reported = asyncio.run(read(sqlite(path)))
        check(before, after, reported, f"{table.name}.{column} = {values!r}")
        path.unlink()


def test_what_is_mended_is_there_again(healthy: Path, tmp_path: Path) -> None:
    """Whatever was left out of a map stays in the database, also while others change."""
    path = tmp_path / "mended.db"
    shutil.copyfile(healthy, path)
    whole, _ = asyncio.run(read(sqlite(path)))
    spoil(path, "nodes", "ipv4", "?", "nonsense")
    spoil(path, "users", "role", "?", "nonsense")

    async def work() -> None:
        async with opened(sqlite(path)) as store:
            snapshot = await loaded(store.journal)
            renamed = Put(named(snapshot, "laptop"))
            await store.journal.commit(HOME, snapshot.revision, [renamed], START)

    asyncio.run(work())
    assert set(asyncio.run(read(sqlite(path)))[0].names) == set(HEALTHY)
    spoil(path, "nodes", "ipv4", "?", str(named(whole, "poisoned").ipv4))
    spoil(path, "users", "role", "?", "member")
    mended, reported = asyncio.run(read(sqlite(path)))
    assert reported == []
    assert {**content(mended), "revision": whole.revision} == content(whole)


def test_the_same_within_the_types_of_postgresql(postgresql_url: str) -> None:
    """It refuses what is of another type; what it takes may still be no record, nor a moment."""
    asyncio.run(fill(postgresql_url))
    before, _ = asyncio.run(read(postgresql_url))
    place = make_url(postgresql_url)
    with psycopg.connect(
        dbname=place.database, user=place.username, host=str(place.query["host"]), autocommit=True
    ) as raw:
        raw.execute("SET session_replication_role = replica")  # no references
        taken = 0
        for column in (one for one in NODES.columns if one.name != "tailnet"):
            raw.execute("CREATE TABLE kept AS SELECT * FROM nodes")
            for expression in WITHIN_TIME if isinstance(column.type, Utc) else WITHIN:
                said = f"UPDATE nodes SET {column.name} = {expression} WHERE id = 3"  # noqa: S608
                try:
                    raw.execute(said.encode())
                except psycopg.Error:
                    continue
                taken += 1
                after, reported = asyncio.run(read(postgresql_url))
                check(before, after, reported, said)
                raw.execute("DELETE FROM nodes")
                raw.execute("INSERT INTO nodes SELECT * FROM kept")
            raw.execute("DROP TABLE kept")
    assert taken > 2 * len(NODES.columns)


@pytest.mark.enable_socket
@pytest.mark.timeout(180)
def test_a_server_starts_beside_a_poisoned_row(tmp_path: Path) -> None:
    """It serves everybody else, names the row once, and once it is mended the device is back."""
    server, _ = one_server(tmp_path)
    with started(server):
        run(staff_and_web(server), deadline_s=60)
        run(_joins(server, "poisoned"), deadline_s=60)
        whole = devices(server)
    database = server.process.state_dir / "mergescale.db"
    number = int(whole["poisoned"]["id"])
    address = whole["poisoned"]["addresses"][0]
    assert number == 3
    spoil(database, "nodes", "ipv4", "?", "nonsense")
    with started(server):
        run(_sees(server), deadline_s=60)
        assert set(devices(server)) == {"laptop", "web"}
        said = [one["why"] for one in server.process.events("store.unreadable")]
        assert said == ["the stored node '3' cannot be read"]
    spoil(database, "nodes", "ipv4", "?", address)
    with started(server):
        assert devices(server)["poisoned"]["addresses"] == whole["poisoned"]["addresses"]


async def _joins(server: Replica, name: str) -> None:
    told = await join(server, name, new_key(server))
    assert told["Error"] == ""


async def _sees(server: Replica) -> None:
    async with server.connected("laptop") as laptop, server.connected("web") as web:
        await laptop.sees("web")
        await web.sees("laptop")
        assert "poisoned" not in {*laptop.peers, *web.peers}
