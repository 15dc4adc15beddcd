"""The server's own keys, in the database.

They are rows and not files because every replica must show clients the same Noise key and the
same relay key: whichever replica starts first makes them, the others read them, and a backup of
the database is a backup of the server. The SQLite file is readable by its owner only.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from datetime import datetime
from hmac import compare_digest

from sqlalchemy import bindparam, insert, select

from mergescale.kernel.errors import MergescaleError
from mergescale.state.ports import StoreConflict
from mergescale.store.database import Database
from mergescale.store.tables import SERVER_SECRETS

_READ = select(SERVER_SECRETS.c.value, SERVER_SECRETS.c.digest).where(
    SERVER_SECRETS.c.name == bindparam("name")
)


class SecretDamaged(MergescaleError):
    """Raised when a stored server key is not what was stored.

    A new one is never made in its place: every client has pinned the old one.
    """

    code = "store.secret"


async def get_or_create_secret(
    database: Database, name: str, make: Callable[[], bytes], now: datetime
) -> bytes:
    """Return the secret called `name`; the first caller in the life of the database makes it.

    Raises:
        SecretDamaged: what is stored fails its digest.
        StoreUnavailable: the database could not be read or written.
    """
    stored = await _read(database, name)
    if stored is not None:
        return stored
    value = make()
    row = {"name": name, "value": value, "digest": _digest(value), "created": now}
    try:
        async with database.writing() as connection:
            await connection.execute(insert(SERVER_SECRETS), row)
    except StoreConflict:
        # Another replica was first; its secret is the server's.
        theirs = await _read(database, name)
        if theirs is None:
            raise
        return theirs
    return value


async def _read(database: Database, name: str) -> bytes | None:
    async with database.reading() as connection:
        row = (await connection.execute(_READ, {"name": name})).one_or_none()
    if row is None:
        return None
    value: bytes = row.value
    if not compare_digest(_digest(value), row.digest):
        raise SecretDamaged(
            f"the server secret '{name}' in the database is damaged",
            help="restore the database from a backup; a new secret would lock all clients out",
        )
    return value


def _digest(value: bytes) -> bytes:
    return hashlib.sha256(value).digest()
