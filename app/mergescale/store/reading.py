"""What the journal reads: a tailnet's rows, all of them or those that were touched.

Every function runs in a transaction that its caller opened, so that all it reads is of one moment.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from typing import Any, Final, cast

from sqlalchemy import Column, Row, Select, bindparam, func, select
from sqlalchemy.exc import DataError, DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection

from mergescale.domain.record import RecordKey
from mergescale.kernel.errors import MergescaleError
from mergescale.kernel.ids import NodeId, ReplicaId, Revision, TailnetName
from mergescale.store.batch import Touched, read_touched
from mergescale.store.mapping import TABLES, Kind
from mergescale.store.tables import DEPLOYMENTS, JOURNAL, TAILNETS


@dataclass(frozen=True, slots=True)
class Broken:
    """Stands for a row that the driver cannot hand out: a value is not of its column's type.

    Attributes:
        key: of the record, as far as that can be read.
    """

    key: object
    error: Exception


#: What reading a row that is no record raises.
NO_RECORD: Final = (
    ValueError,
    TypeError,
    AttributeError,
    OverflowError,
    DBAPIError,
    MergescaleError,
)
#: Rows by the class of their records, in the order of loading.
Rows = dict[Kind, Sequence[Row[Any] | Broken]]

#: LIMIT: keys per IN list; SQLite takes 32,766 parameters, PostgreSQL 65,535.
_KEYS_PER_READ: Final = 500


def _keys(kind: Kind) -> list[Column[Any]]:
    """Return the columns of the class's key, the tailnet left out."""
    return [column for column in TABLES[kind].primary_key.columns if column.name != "tailnet"]


_TAILNET = select(TAILNETS).where(TAILNETS.c.name == bindparam("tailnet"))
_IN_FORCE = select(DEPLOYMENTS).where(
    DEPLOYMENTS.c.tailnet == bindparam("tailnet"), DEPLOYMENTS.c.revision == bindparam("revision")
)
_AFTER = (
    select(JOURNAL.c.revision, JOURNAL.c.touched)
    .where(JOURNAL.c.tailnet == bindparam("tailnet"), JOURNAL.c.revision > bindparam("revision"))
    .order_by(JOURNAL.c.revision)
)
_LAST_MOMENT = select(JOURNAL.c.at).order_by(JOURNAL.c.at.desc()).limit(1)
_ALL: Final = {
    kind: select(table)
    .where(table.c.tailnet == bindparam("tailnet"))
    .order_by(*table.primary_key.columns)
    for kind, table in TABLES.items()
}
#: By the first column of the key after the tailnet; there is none where a tailnet has one record.
_SOME: Final = {
    kind: query.where(
        *(column.in_(bindparam("keys", expanding=True)) for column in _keys(kind)[:1])
    )
    for kind, query in _ALL.items()
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
        kind: await _rows(connection, kind, query, {"tailnet": tailnet})
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
        found: list[Row[Any] | Broken] = []
        for chunk in _chunks(sorted(wanted)):
            parameters = {"tailnet": tailnet, "keys": chunk}
            found.extend(await _rows(connection, kind, _SOME[kind], parameters))
        rows[kind] = found
    return rows


async def last_moment(connection: AsyncConnection) -> datetime | None:
    """Return the newest moment at which anything was committed, None before the first."""
    moment: datetime | None = await connection.scalar(_LAST_MOMENT)
    return moment


def _chunks(keys: Iterable[Any]) -> Iterator[list[Any]]:
    rest = iter(keys)
    while chunk := list(islice(rest, _KEYS_PER_READ)):
        yield chunk


async def _rows(
    connection: AsyncConnection, kind: Kind, query: Select[Any], parameters: Mapping[str, Any]
) -> list[Row[Any] | Broken]:
    """Return the rows of an ordered query; one that cannot be handed out costs only itself."""
    try:
        return list((await connection.execute(query, parameters)).all())
    except Exception as error:
        if not about_values(error):
            raise
    count = select(func.count()).select_from(query.order_by(None).subquery())
    rows = await connection.scalar(count, parameters)
    return await _by_halves(connection, kind, query, parameters, range(rows or 0))


async def _by_halves(
    connection: AsyncConnection,
    kind: Kind,
    query: Select[Any],
    parameters: Mapping[str, Any],
    places: range,
) -> list[Row[Any] | Broken]:
    """Return the rows at these places; what cannot be read is found by halving."""
    part = query.limit(len(places)).offset(places.start)
    try:
        return list((await connection.execute(part, parameters)).all())
    except Exception as error:
        if not about_values(error):
            raise
        if len(places) == 1:
            return [Broken(await _key_at(connection, kind, part, parameters), error)]
    middle = places.start + len(places) // 2
    found: list[Row[Any] | Broken] = []
    for half in (range(places.start, middle), range(middle, places.stop)):
        found += await _by_halves(connection, kind, query, parameters, half)
    return found


async def _key_at(
    connection: AsyncConnection, kind: Kind, one: Select[Any], parameters: Mapping[str, Any]
) -> object:
    """Return the key of a row of which only that may be readable; None if not even that is."""
    keys = _keys(kind)
    if not keys:
        return None
    try:
        row = (await connection.execute(one.with_only_columns(*keys), parameters)).one()
    except Exception as error:
        if not about_values(error):
            raise
        return None
    return row[0] if len(row) == 1 else tuple(row)


def about_values(error: Exception) -> bool:
    """Say whether it is what was read that is wrong, and not the reading.

    INVARIANT(rows do not vanish): a disk or a connection that fails must not look like rows that
    mean nothing. A database gives its own failures a code; a driver that cannot decode has none.
    """
    if isinstance(error, DBAPIError):
        original = error.orig
        coded = getattr(original, "sqlite_errorcode", None) or getattr(original, "sqlstate", None)
        if error.connection_invalidated or coded is not None:
            return False
        # A moment that Python has not, as PostgreSQL's infinity, is a driver's DataError.
        return isinstance(error, DataError) or _is_decoding(original)
    return isinstance(error, (ValueError, TypeError, OverflowError))


def _is_decoding(error: BaseException | None) -> bool:
    return "decode" in str(error).lower()


def key_in(kind: Kind, row: Row[Any] | Broken) -> RecordKey:
    """Return the key of the record that the row is or was meant to be."""
    if isinstance(row, Broken):
        return cast("RecordKey", row.key)
    if kind is Kind.PRESENCE:
        return row.node_id, row.replica
    if kind is Kind.PRIMARY:
        prefix: RecordKey = row.prefix
        return prefix
    if kind is Kind.FOLLOWING:
        return None
    key: RecordKey = row.id
    return key
