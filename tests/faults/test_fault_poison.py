"""A row of a node with nonsense in any of its columns costs nobody else the network (S28, R23).

``tests/flows/test_pitfalls_rows.py`` puts impossible values into nodes in memory; here they are in
the database, where an older version, a bug or a hand may have put what is no value at all.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from mergescale.domain.record import Put
from mergescale.domain.snapshot import Snapshot
from mergescale.kernel.ids import Revision
from mergescale.netmap.encoder import Encoder
from mergescale.store.schema import migrate
from mergescale.store.tables import NODES
from mergescale.wire.mapframe import LENGTH_BYTES, Compression
from support.clock import START
from support.control_world import people
from support.stores import HOME, loaded, opened
from support.tailnet_story import REGION
from support.worlds import named, step

HEALTHY = ("laptop", "phone")
#: With another tailnet's name the row is that tailnet's, and none of this one.
COLUMNS = [column.name for column in NODES.columns if column.name != "tailnet"]
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


@pytest.fixture(scope="module")
def healthy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database with two good nodes and one that is to be spoiled."""
    path = tmp_path_factory.mktemp("poison") / "healthy.db"
    migrate(url(path))

    async def fill() -> None:
        async with opened(url(path)) as store:
            await store.journal.load(HOME)
            whole = people("alice@example.com: laptop, phone, poisoned")
            writes = [Put(record) for record in (*whole.records(), whole.counters)]
            await store.journal.commit(HOME, Revision(0), writes, START)

    asyncio.run(fill())
    return path


def url(path: Path) -> str:
    return f"sqlite+aiosqlite:///{path}"


def spoil(path: Path, column: str, expression: str, *values: object) -> None:
    """Write past every check of ours."""
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as raw:
        raw.execute("PRAGMA foreign_keys = OFF")
        where = "WHERE stable_id = 'n3CNTRL'"
        raw.execute(f"UPDATE nodes SET {column} = {expression} {where}", values)  # noqa: S608


async def read(path: Path) -> tuple[Snapshot, list[str]]:
    """Load as the server does; return what it has and what it reported."""
    async with opened(url(path)) as store:
        stored = await loaded(store.journal)
        # The journal of tests does not read policies: put one in force under which all see all.
        in_force = people().deployment
        assert in_force is not None
        return step(stored, [Put(in_force)]), [why for _, why in store.unreadable]


def peers(snapshot: Snapshot, viewer: str) -> dict[int, Any]:
    """Return the healthy peers in the full map of a node."""
    frame = Encoder(REGION).full(snapshot, named(snapshot, viewer).id, Compression.NONE, START)
    told = json.loads(frame[LENGTH_BYTES:])
    return {peer["ID"]: peer for peer in told["Peers"] if peer["ID"] in {1, 2}}


@pytest.mark.parametrize("column", COLUMNS)
def test_nonsense_in_a_column_is_its_own_nodes_problem(
    healthy: Path, tmp_path: Path, column: str
) -> None:
    """All others keep their maps; a row that means nothing is left out and reported."""
    before = asyncio.run(read(healthy))[0]
    wanted = {viewer: peers(before, viewer) for viewer in HEALTHY}
    assert all(len(told) == len(HEALTHY) - 1 for told in wanted.values())
    for expression, values in [("?", (one,)) for one in NONSENSE] + [(NOT_UTF_8, ())]:
        path = tmp_path / "spoilt.db"
        shutil.copyfile(healthy, path)
        try:
            spoil(path, column, expression, *values)
        except sqlite3.IntegrityError:
            continue  # the database itself does not take it
        after, reported = asyncio.run(read(path))
        what = f"{column} = {values!r}"
        assert {viewer: peers(after, viewer) for viewer in HEALTHY} == wanted, what
        assert (len(after.nodes) == len(before.nodes)) is not bool(reported), what
        path.unlink()
