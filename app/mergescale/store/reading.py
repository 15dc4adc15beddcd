"""What the journal reads: a tailnet's rows, all of them or those that were touched.

Every function runs in a transaction that its caller opened, so that all it reads is of one moment.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, Final, cast

from sqlalchemy import Row, bindparam, select
from sqlalchemy.ext.asyncio import AsyncConnection

from mergescale.domain.record import RecordKey
from mergescale.kernel.ids import NodeId, ReplicaId, Revision, TailnetName
from mergescale.store.batch import Touched, read_touched
from mergescale.store.mapping import TABLES, Kind
from mergescale.store.tables import DEPLOYMENTS, JOURNAL, TAILNETS

#: Rows by the class of their records, in the order of loading.
Rows = dict[Kind, Sequence[Row[Any]]]

#: LIMIT: keys per IN list; SQLite takes 32,766 parameters, PostgreSQL 65,535.
_KEYS_PER_READ: Final = 500

_TAILNET = select(TAILNETS).where(TAILNETS.c.name == bindparam("tailnet"))
_IN_FORCE = select(DEPLOYMENTS).where(
    DEPLOYMENTS.c.tailnet == bindparam("tailnet"), DEPLOYMENTS.c.revision == bindparam("revision")
)
_AFTER = (
    select(JOURNAL.c.revision, JOURNAL.c.touched)
    .where(JOURNAL.c.tailnet == bindparam("tailnet"), JOURNAL.c.revision > bindparam("revision"))
    .order_by(JOURNAL.c.revision)
)
_ALL: Final = {
    kind: select(table)
    .where(table.c.tailnet == bindparam("tailnet"))
    .order_by(*table.primary_key.columns)
    for kind, table in TABLES.items()
}
_SOME: Final = {
    kind: select(table).where(
        table.c.tailnet == bindparam("tailnet"),
        table.c["node_id" if kind is Kind.PRESENCE else "id"].in_(
            bindparam("keys", expanding=True)
        ),
    )
    for kind, table in TABLES.items()
}


async def head_of(connection: AsyncConnection, tailnet: TailnetName) -> Row[Any] | None:
    """Return the tailnet's own row, None for a tailnet that was never loaded."""
    return (await connection.execute(_TAILNET, {"tailnet": tailnet})).one_or_none()


async def in_force(connection: AsyncConnection, head: Row[Any] | None) -> Row[Any] | None:
    """Return the row of the deployment that `head` says is in force."""
    if head is None or head.in_force is None:
        return None
    parameters = {"tailnet": head.name, "revision": head.in_force}
    return (await connection.execute(_IN_FORCE, parameters)).one_or_none()


async def everything(connection: AsyncConnection, tailnet: TailnetName) -> Rows:
    """Return all rows of the tailnet's records."""
    return {
        kind: (await connection.execute(query, {"tailnet": tailnet})).all()
        for kind, query in _ALL.items()
    }


async def touched_after(
    connection: AsyncConnection, tailnet: TailnetName, revision: Revision
) -> tuple[int, dict[Touched, bool]]:
    """Return how many batches came after `revision`, and what they touched.

    The flag says whether the record was dropped on the way, even if it is there again.
    """
    parameters = {"tailnet": tailnet, "revision": revision}
    entries = (await connection.execute(_AFTER, parameters)).all()
    touched: dict[Touched, bool] = {}
    for entry in entries:
        for kind, key, dropped in read_touched(entry.touched):
            touched[kind, key] = touched.get((kind, key), False) or dropped
    return len(entries), touched


async def rows_of(
    connection: AsyncConnection, tailnet: TailnetName, touched: Iterable[Touched]
) -> Rows:
    """Return the rows that the touched records have now, classes in the order of loading."""
    keys: dict[Kind, set[Any]] = {kind: set() for kind in TABLES}
    for kind, key in touched:
        if kind is Kind.PRESENCE:
            keys[kind].add(cast("tuple[NodeId, ReplicaId]", key)[0])
        elif kind in TABLES:
            keys[kind].add(key)
    rows: Rows = {}
    for kind, wanted in keys.items():
        found: list[Row[Any]] = []
        for chunk in _chunks(sorted(wanted)):
            parameters = {"tailnet": tailnet, "keys": chunk}
            found.extend((await connection.execute(_SOME[kind], parameters)).all())
        rows[kind] = found
    return rows


def _chunks(keys: Iterable[Any]) -> Iterator[list[Any]]:
    rest = iter(keys)
    while chunk := list(islice(rest, _KEYS_PER_READ)):
        yield chunk


def key_in(kind: Kind, row: Row[Any]) -> RecordKey:
    """Return the key of the record that the row is or was meant to be."""
    if kind is Kind.PRESENCE:
        return row.node_id, row.replica
    key: RecordKey = row.id
    return key
