"""`state.ports.Leases` on a database.

Time is the database's: on PostgreSQL all replicas read one clock, however wrong their own are. On
SQLite it is the machine's, which is the same thing, since its only process runs on it. A step of
that clock can make a lease lapse early or late; the numbers keep writes right all the same.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import bindparam, delete, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from mergescale.kernel.clock import Clock
from mergescale.kernel.ids import ReplicaId
from mergescale.state.ports import Fence, LeaseLost, StoreConflict, replica_of
from mergescale.store.database import Database
from mergescale.store.tables import LEASES, Utc

_NAMED: Final = LEASES.c.name == bindparam("lease")
_TO_TAKE: Final = select(LEASES).where(_NAMED).with_for_update()
#: A shared lock: who takes the lease waits until the write that rests on it is over.
_TO_REST_ON: Final = select(LEASES.c.number).where(_NAMED).with_for_update(read=True)
_TAKE: Final = update(LEASES).where(_NAMED)
_RENEW: Final = update(LEASES).where(_NAMED, LEASES.c.number == bindparam("held"))
_MAKE: Final = insert(LEASES)
_PRESENCE: Final = LEASES.c.name.startswith("replica/")


async def check_fences(connection: AsyncConnection, fences: Collection[Fence]) -> None:
    """Let the transaction go on only if nobody has taken these leases since.

    Raises:
        LeaseLost: somebody has.
    """
    for fence in fences:
        newest = await connection.scalar(_TO_REST_ON, {"lease": fence.lease})
        if newest != fence.number:
            raise LeaseLost(
                "the lease that this rests on is lost",
                help="this server process was cut off or stopped for too long; it recovers itself",
            )


class SqlLeases:
    """Leases in the table ``leases``.

    Args:
        database: open and migrated.
        clock: the machine's, for SQLite.
    """

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    async def acquire(self, lease: str, holder: ReplicaId, lasts_s: float) -> Fence | None:
        """Take a lease that is free, lapsed or `holder`'s own; None when somebody else's stands.

        Raises:
            StoreUnavailable: the database did not answer.
        """
        try:
            async with self._database.writing() as connection:
                row = (await connection.execute(_TO_TAKE, {"lease": lease})).one_or_none()
                now = await self._now(connection)
                expires = now + timedelta(seconds=lasts_s)
                if row is None:
                    made = {"name": lease, "holder": holder, "number": 1, "expires": expires}
                    await connection.execute(_MAKE, made)
                    return Fence(lease, 1)
                if row.expires > now and row.holder != holder:
                    return None
                taken = {"holder": holder, "number": row.number + 1, "expires": expires}
                await connection.execute(_TAKE.values(taken), {"lease": lease})
                return Fence(lease, row.number + 1)
        except StoreConflict:
            return None  # another replica made it first

    async def renew(self, fence: Fence, lasts_s: float) -> bool:
        """Let it last that long from now; False when it is lost.

        Raises:
            StoreUnavailable: the database did not answer.
        """
        async with self._database.writing() as connection:
            expires = await self._now(connection) + timedelta(seconds=lasts_s)
            return await _moved(connection, fence, expires)

    async def release(self, fence: Fence) -> None:
        """Let the next one have it at once; nothing happens when it is lost already.

        Raises:
            StoreUnavailable: the database did not answer.
        """
        async with self._database.writing() as connection:
            await _moved(connection, fence, await self._now(connection))

    async def living(self) -> frozenset[ReplicaId]:
        """Return the replicas whose presence lease stands; end those that lapsed, for good.

        A lease that ended is a row that is gone. Its name never comes back: a replica that lost
        it goes on under another one.

        Raises:
            StoreUnavailable: the database did not answer.
        """
        query = select(LEASES.c.name, LEASES.c.expires).where(_PRESENCE)
        async with self._database.reading() as connection:
            rows = (await connection.execute(query)).all()
            now = await self._now(connection)
        if any(row.expires <= now for row in rows):
            async with self._database.writing() as connection:
                lapsed = LEASES.c.expires <= await self._now(connection)
                await connection.execute(delete(LEASES).where(_PRESENCE, lapsed))
                rows = (await connection.execute(query)).all()
        return frozenset(replica for row in rows if (replica := replica_of(row.name)))

    async def end_all(self) -> None:
        """End every lease: whoever held one is known to be gone.

        Raises:
            StoreUnavailable: the database did not answer.
        """
        async with self._database.writing() as connection:
            await connection.execute(delete(LEASES).where(_PRESENCE))
            now = await self._now(connection)
            free = {"expires": now, "number": LEASES.c.number + 1}
            await connection.execute(update(LEASES).values(free))

    async def _now(self, connection: AsyncConnection) -> datetime:
        """Read the clock that leases are measured by."""
        if connection.dialect.name != "postgresql":
            return self._clock.now()
        now: datetime = (
            await connection.execute(select(func.clock_timestamp(type_=Utc)))
        ).scalar_one()
        return now


async def _moved(connection: AsyncConnection, fence: Fence, expires: datetime) -> bool:
    """Set when the lease ends, if it is still held under this number."""
    where = {"lease": fence.lease, "held": fence.number}
    done = await connection.execute(_RENEW.values(expires=expires), where)
    return done.rowcount == 1
