"""`state.throttle.Failures` in the table ``failures``: what replicas know of each other's."""

from __future__ import annotations

from typing import Final

from sqlalchemy import case, delete
from sqlalchemy.dialects import postgresql, sqlite

from mergescale.store.database import Database
from mergescale.store.tables import FAILURES

_AT: Final = FAILURES.c.forgiven_s


class SqlFailures:
    """One row for each key that is not forgiven yet; the others go with the next failure."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(self, key: str, cost_s: float, now_s: float) -> float:
        """Count one failure; return when all of this key are forgiven.

        Raises:
            StoreUnavailable: it was not counted.
        """
        made = postgresql.insert if self._database.shared else sqlite.insert
        count = made(FAILURES).values(key=key, forgiven_s=now_s + cost_s)
        later = case((now_s < _AT, _AT), else_=now_s) + cost_s
        upsert = count.on_conflict_do_update(
            index_elements=[FAILURES.c.key], set_={"forgiven_s": later}
        ).returning(_AT)
        async with self._database.writing() as connection:
            await connection.execute(delete(FAILURES).where(now_s > _AT))
            forgiven_s: float = (await connection.execute(upsert)).scalar_one()
            return forgiven_s
