"""Looking at a database from outside, for whoever wants to know what is wrong with it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import func, select

from mergescale.store.backup import one_moment, schema_of
from mergescale.store.schema import newest
from mergescale.store.tables import DEPLOYMENTS, JOURNAL, SERVER_SECRETS, TAILNETS, Utc


@dataclass(frozen=True, slots=True)
class Seen:
    """What a database looks like.

    Attributes:
        schema: its revision.
        current: this version's revision; the rest is empty when they differ.
        faults: what SQLite's own check found.
        written: time of the newest batch.
        in_force: tailnet -> commit.
        sealed_by: fingerprint of the master key in use, empty for none.
    """

    schema: str
    current: str
    faults: Sequence[str] = ()
    written: datetime | None = None
    in_force: Mapping[str, str] | None = None
    sealed_by: str = ""


def inspect(url: str) -> Seen:
    """Look at a database in one transaction that changes nothing.

    Raises:
        NothingToBackUp: there is no database.
        DatabaseUrlInvalid: not a URL of a supported database.
        StoreUnavailable: it could not be read.
    """
    with one_moment(url) as connection:
        schema, current = schema_of(connection), newest()
        faults: list[str] = []
        if connection.dialect.name == "sqlite":
            found = connection.exec_driver_sql("PRAGMA integrity_check(5)").scalars()
            faults = [str(fault) for fault in found if fault != "ok"]
        if schema != current:
            return Seen(schema, current, faults)
        deployed = select(TAILNETS.c.name, DEPLOYMENTS.c.commit_id).join(
            DEPLOYMENTS,
            (DEPLOYMENTS.c.tailnet == TAILNETS.c.name)
            & (DEPLOYMENTS.c.revision == TAILNETS.c.in_force),
        )
        sealed = select(SERVER_SECRETS.c.sealed_by).where(SERVER_SECRETS.c.sealed_by.is_not(None))
        return Seen(
            schema,
            current,
            faults,
            connection.scalar(select(func.max(JOURNAL.c.at, type_=Utc))),
            {row.name: row.commit_id for row in connection.execute(deployed)},
            connection.scalar(sealed.limit(1)) or "",
        )
