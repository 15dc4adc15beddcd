"""`state.ports.Journal` on a database.

A commit is one transaction: compare-and-set of the tailnet's revision, the rows that the batch
leaves behind, one journal row. Catching up reads from the journal which records were touched, and
then those records as they are now: it needs no history of values and ends at the newest revision
however many lie between.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from secrets import token_hex
from typing import Any, Final

from sqlalchemy import Row, bindparam, delete, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from mergescale.domain.node import Node
from mergescale.domain.record import Counters, Drop, Put, Record, RecordKey, Write
from mergescale.domain.user import User
from mergescale.kernel.clock import Clock
from mergescale.kernel.ids import Revision, TailnetName
from mergescale.state.ports import (
    Applied,
    Batch,
    Fence,
    JournalTrimmed,
    LeaseLost,
    RevisionMoved,
    StoreConflict,
    StoreUnavailable,
)
from mergescale.store.batch import Folded
from mergescale.store.database import Database
from mergescale.store.leases import check_fences
from mergescale.store.mapping import (
    Declare,
    Kind,
    deployment_from_row,
    from_row,
    revision_of,
    to_row,
)
from mergescale.store.reading import (
    NO_RECORD,
    Broken,
    Rows,
    everything,
    head_of,
    in_force,
    key_in,
    rows_of,
    touched_after,
)
from mergescale.store.rows import Values, signers
from mergescale.store.tables import DEPLOYMENTS, JOURNAL, TAILNETS
from mergescale.store.tombstones import tombstone
from mergescale.store.uninterrupted import to_the_end
from mergescale.store.wakeups import notify

#: LIMIT: batches a replica may fall behind before it must load everything again. At the busiest
#: (some dozens of batches a second) that is minutes; in an ordinary tailnet it is weeks.
JOURNAL_LIMIT: Final = 10_000
#: LIMIT: deployments kept with their texts; enough to see and return to what was in force.
HISTORY_LIMIT: Final = 200
#: Trimming is a statement more, so only every so many revisions.
_TRIM_EVERY: Final = 64
_MINE = select(JOURNAL.c.revision).where(
    JOURNAL.c.tailnet == bindparam("tailnet"),
    JOURNAL.c.revision == bindparam("revision"),
    JOURNAL.c.batch == bindparam("batch"),
)
_TRIM_JOURNAL = delete(JOURNAL).where(
    JOURNAL.c.tailnet == bindparam("tailnet"), JOURNAL.c.revision <= bindparam("last")
)


#: Told of each stored thing that could not be read: the tailnet and why.
OnUnreadable = Callable[[TailnetName, Exception], None]


@dataclass(frozen=True, slots=True)
class _Batch:
    """What one call of `SqlJournal.commit` asks for."""

    tailnet: TailnetName
    base: Revision
    folded: Folded
    now: datetime
    fences: Collection[Fence]


class SqlJournal:
    """The durable truth of all tailnets.

    Args:
        database: open and migrated.
        declare: reads a declaration from the stored texts of a deployment. It runs in a thread
            and may raise anything: then the tailnet has no deployment, so nobody reaches anybody.
        clock: dates the creation of a tailnet.
        on_unreadable: told of a deployment that `declare` refused and of each row that is no
            record any more. Such a row is left out, so that it costs nobody else the network.
    """

    def __init__(
        self, database: Database, declare: Declare, clock: Clock, on_unreadable: OnUnreadable
    ) -> None:
        self._database = database
        self._declare = declare
        self._clock = clock
        self._on_unreadable = on_unreadable

    async def load(self, tailnet: TailnetName) -> Batch:
        """Return everything stored of a tailnet as writes on an empty snapshot.

        A tailnet seen for the first time is created and has revision 0.

        Raises:
            StoreUnavailable: the database could not be read.
        """
        stored = await self._read_all(tailnet)
        if stored is None:
            await self._create(tailnet)
            stored = await self._read_all(tailnet)
        if stored is None:
            raise StoreUnavailable("the database did not keep a tailnet it was given")
        head, rows, deployment = stored
        records = [from_row(Kind.COUNTERS, head), *self._whole(tailnet, rows)]
        writes: list[Write] = [Put(record) for record in records]
        if deployment is not None:
            writes.extend(await self._deployed(tailnet, deployment))
        elif head.in_force is not None:
            self._on_unreadable(tailnet, ValueError("the deployment in force is not stored"))
        return Batch(revision_of(head), writes)

    async def commit(
        self,
        tailnet: TailnetName,
        base: Revision,
        writes: Sequence[Write],
        now: datetime,
        fences: Collection[Fence] = (),
    ) -> Revision:
        """Write all of it and one journal row in one transaction; return the new revision.

        A cancellation waits until the transaction is over and strikes at the caller's next wait.
        The engine swaps and publishes without one, so it never stops between a durable batch and
        its snapshot.

        Raises:
            RevisionMoved: the tailnet is no longer at `base`; nothing was written.
            LeaseLost: one of `fences` is not the newest of its lease; nothing was written.
            StoreUnavailable: nothing was written, as far as can be known: when the database went
                away during COMMIT and stays away, the next `commit` is `RevisionMoved` if it was.
        """
        batch = _Batch(tailnet, base, Folded.of(writes), now, fences)
        return await to_the_end(self._commit_once(batch))

    async def since(self, tailnet: TailnetName, revision: Revision) -> Batch:
        """Return what takes a snapshot at `revision` to the newest one.

        Dropped records come first and say only their class and key.

        Raises:
            JournalTrimmed: the journal does not reach back to `revision`, or the database is
                older than that (it was restored from a backup).
            StoreUnavailable: the database could not be read.
        """
        async with self._database.reading() as connection:
            head = await head_of(connection, tailnet)
            newest = Revision(0) if head is None else revision_of(head)
            batches, touched = await touched_after(connection, tailnet, revision)
            if batches != newest - revision:
                raise JournalTrimmed(
                    f"the journal does not lead from revision {revision} to {newest}"
                )
            rows = await rows_of(connection, tailnet, touched)
            deployment = await in_force(connection, head)
        records = {(kind, key): record for kind, key, record in self._keyed(tailnet, rows)}
        if head is not None and (Kind.COUNTERS, None) in touched:
            records[Kind.COUNTERS, None] = from_row(Kind.COUNTERS, head)
        # A touched deployment is never among `records`: it is dropped here and put again below.
        writes: list[Write] = [
            Drop(tombstone(kind, key))
            for (kind, key), dropped in touched.items()
            if dropped or (kind, key) not in records
        ]
        writes.extend(Put(record) for record in records.values())
        if (Kind.DEPLOYMENT, None) in touched and deployment is not None:
            writes.extend(await self._deployed(tailnet, deployment))
        return Batch(newest, writes)

    async def tailnets(self) -> tuple[TailnetName, ...]:
        """Return the names of all tailnets, sorted.

        Raises:
            StoreUnavailable: the database could not be read.
        """
        async with self._database.reading() as connection:
            names = await connection.scalars(select(TAILNETS.c.name).order_by(TAILNETS.c.name))
            return tuple(TailnetName(name) for name in names)

    async def heads(self) -> Mapping[TailnetName, Revision]:
        """Return the newest revision of every tailnet.

        Raises:
            StoreUnavailable: the database could not be read.
        """
        async with self._database.reading() as connection:
            rows = (await connection.execute(select(TAILNETS))).all()
            return {TailnetName(row.name): revision_of(row) for row in rows}

    async def history(self, tailnet: TailnetName, limit: int = 50) -> tuple[Applied, ...]:
        """Return the newest deployments, newest first; `HISTORY_LIMIT` are kept.

        Raises:
            StoreUnavailable: the database could not be read.
        """
        columns = [column for column in DEPLOYMENTS.c if column is not DEPLOYMENTS.c.files]
        newest = (
            select(*columns)
            .where(DEPLOYMENTS.c.tailnet == tailnet)
            .order_by(DEPLOYMENTS.c.revision.desc())
            .limit(limit)
        )
        async with self._database.reading() as connection:
            head = await head_of(connection, tailnet)
            rows = (await connection.execute(newest)).all()
        current = None if head is None else head.in_force
        return tuple(_applied(row, current) for row in rows)

    async def texts(self, tailnet: TailnetName, revision: Revision) -> Mapping[str, str] | None:
        """Return the files of the deployment of a revision, None if it is not kept (any more).

        Raises:
            StoreUnavailable: the database could not be read.
        """
        mine = DEPLOYMENTS.c.tailnet == tailnet, DEPLOYMENTS.c.revision == revision
        async with self._database.reading() as connection:
            kept = await connection.scalar(select(DEPLOYMENTS.c.files).where(*mine))
        files: Mapping[str, str] | None = None if kept is None else json.loads(kept)
        return files

    async def _commit_once(self, batch: _Batch) -> Revision:
        """Commit; when that fails, find out whether only the answer to COMMIT was lost."""
        mark = token_hex(16)
        try:
            return await self._commit(batch, mark)
        except (StoreConflict, LeaseLost):
            raise
        except StoreUnavailable:
            if await self._arrived(batch, mark):
                return Revision(batch.base + 1)
            raise

    async def _arrived(self, batch: _Batch, mark: str) -> bool:
        """Say whether the batch is in the journal; no, if the database does not answer."""
        parameters = {"tailnet": batch.tailnet, "revision": batch.base + 1, "batch": mark}
        try:
            async with self._database.reading() as connection:
                return (await connection.execute(_MINE, parameters)).one_or_none() is not None
        except StoreUnavailable:
            return False

    async def _commit(self, batch: _Batch, mark: str) -> Revision:
        tailnet, folded, revision = batch.tailnet, batch.folded, Revision(batch.base + 1)
        async with self._database.writing() as connection:
            await _compare_and_set(connection, tailnet, batch.base, folded)
            await check_fences(connection, batch.fences)
            for statement, rows in folded.statements(tailnet):
                await connection.execute(statement, rows)
            if folded.deployment is not None:
                row = {**to_row(tailnet, folded.deployment), "revision": revision}
                await connection.execute(insert(DEPLOYMENTS), row)
                await _trim_history(connection, tailnet)
            entry = {"tailnet": tailnet, "revision": revision, "at": batch.now, "batch": mark}
            what = {"kind": folded.kind, "touched": folded.touched()}
            await connection.execute(insert(JOURNAL), {**entry, **what})
            if revision % _TRIM_EVERY == 0:
                last = {"tailnet": tailnet, "last": revision - JOURNAL_LIMIT}
                await connection.execute(_TRIM_JOURNAL, last)
            await notify(connection, tailnet, revision)
        return revision

    async def _create(self, tailnet: TailnetName) -> None:
        row = {"name": tailnet, "revision": 0, "created": self._clock.now()}
        try:
            async with self._database.writing() as connection:
                await connection.execute(
                    insert(TAILNETS), {**row, **to_row(tailnet, Counters()), "in_force": None}
                )
        except StoreConflict:
            return  # another replica was first

    async def _read_all(
        self, tailnet: TailnetName
    ) -> tuple[Row[Any], Rows, Row[Any] | None] | None:
        """Return the tailnet's own row, the rows of its records and its deployment."""
        async with self._database.reading() as connection:
            head = await head_of(connection, tailnet)
            if head is None:
                return None
            rows = await everything(connection, tailnet)
            return head, rows, await in_force(connection, head)

    def _keyed(self, tailnet: TailnetName, rows: Rows) -> Iterator[tuple[Kind, RecordKey, Record]]:
        """Yield the records of rows; report those that are no records and leave them out."""
        for kind, some in rows.items():
            for row in some:
                key = key_in(kind, row)
                try:
                    if isinstance(row, Broken):
                        raise row.error
                    yield kind, key, from_row(kind, row)
                except NO_RECORD as error:
                    report = ValueError(f"the stored {kind} '{key}' cannot be read")
                    report.__cause__ = error
                    self._on_unreadable(tailnet, report)

    def _whole(self, tailnet: TailnetName, rows: Rows) -> Iterator[Record]:
        """Yield the records of a whole tailnet, without nodes whose owner cannot be read."""
        users = set()
        for _, _, record in self._keyed(tailnet, rows):
            match record:
                case User(id=user):
                    users.add(user)
                case Node(id=node, user=owner) if owner is not None and owner not in users:
                    unowned = ValueError(f"the owner of the stored node '{node}' cannot be read")
                    self._on_unreadable(tailnet, unowned)
                    continue
            yield record

    async def _deployed(self, tailnet: TailnetName, row: Row[Any]) -> Sequence[Write]:
        """Return the write that puts a stored deployment in force; none if it means nothing.

        INVARIANT(fail-closed): what was in force before does not come back in its place, since
        the newer policy may have narrowed it. `since` has dropped it by then.
        """
        try:
            return [Put(await asyncio.to_thread(deployment_from_row, row, self._declare))]
        except Exception as error:  # noqa: BLE001 - whatever it is, the network must start
            self._on_unreadable(tailnet, error)
            return []


async def _compare_and_set(
    connection: AsyncConnection, tailnet: TailnetName, base: Revision, folded: Folded
) -> None:
    """Move the tailnet from `base` to the next revision, with what else its row says."""
    values: Values = {"revision": base + 1, **folded.counters}
    if folded.deployment is not None:
        values["in_force"] = base + 1
    elif folded.withdrawn:
        values["in_force"] = None
    moved = await connection.execute(
        update(TAILNETS)
        .where(TAILNETS.c.name == tailnet, TAILNETS.c.revision == base)
        .values(values)
    )
    if moved.rowcount != 1:
        raise RevisionMoved("another replica was first")


async def _trim_history(connection: AsyncConnection, tailnet: TailnetName) -> None:
    """Forget the oldest deployments; the one in force is the newest, so it stays."""
    mine = DEPLOYMENTS.c.tailnet == tailnet
    oldest_kept = (
        select(DEPLOYMENTS.c.revision)
        .where(mine)
        .order_by(DEPLOYMENTS.c.revision.desc())
        .offset(HISTORY_LIMIT - 1)
        .limit(1)
    )
    revision = await connection.scalar(oldest_kept)
    if revision is not None:
        await connection.execute(delete(DEPLOYMENTS).where(mine, DEPLOYMENTS.c.revision < revision))


def _applied(row: Row[Any], in_force: int | None) -> Applied:
    return Applied(
        revision=revision_of(row),
        commit=row.commit_id,
        subject=row.subject,
        author=row.author,
        committed=row.committed,
        applied=row.applied,
        in_force=row.revision == in_force,
        by=row.applied_by,
        reason=row.reason,
        approved_by=row.approved_by,
        approved_because=row.approved_because,
        verified_by=signers(row.verified_by),
        until=row.until,
    )
