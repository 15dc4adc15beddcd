"""The server's own keys, in the database, sealed under the master key.

They are rows and not files because every replica must show clients the same Noise key and the
same relay key: whichever replica starts first makes them, the others read them, and a backup of
the database is a backup of the server. The master key is kept elsewhere, so whoever has the
database, or a backup of it, cannot be the server.

A row without a secret names the master key from the first start on. A server that comes with
another one stops there, before it could seal or make anything.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from datetime import datetime
from hmac import compare_digest
from typing import Any, Final

from sqlalchemy import Row, bindparam, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from mergescale.identity.masterkey import NONCE_BYTES, MasterKey, Unopened
from mergescale.kernel.clock import Clock, Entropy
from mergescale.kernel.errors import MergescaleError
from mergescale.state.ports import StoreConflict
from mergescale.store.database import Database
from mergescale.store.tables import SERVER_SECRETS

#: The row that names the master key.
_CLAIM: Final = "master-key"

_READ = select(SERVER_SECRETS).where(SERVER_SECRETS.c.name == bindparam("wanted"))
_PLAIN = select(SERVER_SECRETS).where(SERVER_SECRETS.c.sealed_by.is_(None)).with_for_update()
_SEAL = update(SERVER_SECRETS).where(SERVER_SECRETS.c.name == bindparam("plain"))


class SecretDamaged(MergescaleError):
    """Raised when a stored server key is not what was stored.

    A new one is never made in its place: every client has pinned the old one.
    """

    code = "store.secret"


class MasterKeyWrong(MergescaleError):
    """Raised when the database's secrets are sealed under another master key; nothing changed.

    Attributes:
        sealed_by: fingerprint of that key.
    """

    code = "store.master-key"

    def __init__(self, sealed_by: str, given: MasterKey) -> None:
        super().__init__(
            f"the server's secrets are sealed under the master key {sealed_by}, the one given is"
            f" {given.fingerprint}",
            help="give the master key that was in use when this database, or its backup, was"
            " written",
        )
        self.sealed_by = sealed_by


async def sealed_under(database: Database) -> str | None:
    """Return the fingerprint of the master key in use, None before there is one.

    Raises:
        StoreUnavailable: the database could not be read.
    """
    query = select(SERVER_SECRETS.c.sealed_by).where(SERVER_SECRETS.c.sealed_by.is_not(None))
    async with database.reading() as connection:
        found: str | None = await connection.scalar(query.limit(1))
    return found


class ServerSecrets:
    """The secrets of one database under one master key; make it with `open`."""

    def __init__(self, database: Database, key: MasterKey, clock: Clock, entropy: Entropy) -> None:
        self._database = database
        self._key = key
        self._clock = clock
        self._entropy = entropy

    @classmethod
    async def open(
        cls, database: Database, key: MasterKey, clock: Clock, entropy: Entropy
    ) -> ServerSecrets:
        """Let the database belong to this master key, or check that it does.

        Secrets that an earlier version stored as they were are sealed, all in one transaction.

        Raises:
            MasterKeyWrong: it belongs to another one.
            SecretDamaged: a plain secret fails its digest; nothing was changed.
            StoreUnavailable: the database could not be read or written.
        """
        secrets = cls(database, key, clock, entropy)
        for attempt in (1, 2):
            if (holder := await sealed_under(database)) is not None:
                if holder != key.fingerprint:
                    raise MasterKeyWrong(holder, key)
                return secrets
            try:
                await secrets._claim()
            except StoreConflict:
                # Another replica was first; whose key it brought is seen on the second look.
                if attempt > 1:
                    raise
        return secrets

    async def get_or_create(self, name: str, make: Callable[[], bytes]) -> bytes:
        """Return the secret called `name`; the first caller in the life of the database makes it.

        Raises:
            SecretDamaged: what is stored fails its digest or does not open.
            MasterKeyWrong: it was sealed under another master key.
            StoreUnavailable: the database could not be read or written.
        """
        stored = await self._read(name)
        if stored is not None:
            return stored
        value = make()
        try:
            async with self._database.writing() as connection:
                await connection.execute(insert(SERVER_SECRETS), self._row(name, value))
        except StoreConflict:
            # Another replica was first; its secret is the server's.
            theirs = await self._read(name)
            if theirs is None:
                raise
            return theirs
        return value

    async def get(self, name: str) -> bytes:
        """Return the secret called `name`, which exists.

        Raises:
            SecretDamaged: what is stored fails its digest, does not open or is not there.
            StoreUnavailable: the database could not be read.
        """
        stored = await self._read(name)
        if stored is None:
            raise _damaged(name)
        return stored

    @property
    def key(self) -> MasterKey:
        """The master key, for what is kept outside of the database."""
        return self._key

    async def _claim(self) -> None:
        """Name the master key and seal what is plain."""
        async with self._database.writing() as connection:
            await connection.execute(insert(SERVER_SECRETS), self._row(_CLAIM, b""))
            plain = (await connection.execute(_PLAIN)).all()
            if plain and not self._database.shared:
                # Else the old values would stay readable in pages that are free again.
                await connection.exec_driver_sql("PRAGMA secure_delete = ON")
            for row in plain:
                sealed = self._row(row.name, _checked(row), row.created)
                await connection.execute(_SEAL, {"plain": row.name, **sealed})
        if plain and not self._database.shared:
            await self._empty_the_log()

    async def _empty_the_log(self) -> None:
        """Take the old values out of SQLite's write-ahead log too."""
        pooled = await self._database.writer.raw_connection()
        try:
            driver: Any = pooled.driver_connection
            await driver.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        finally:
            pooled.close()

    async def _read(self, name: str) -> bytes | None:
        async with self._database.reading() as connection:
            row = await _row(connection, name)
        if row is None:
            return None
        value = _checked(row)
        if row.sealed_by != self._key.fingerprint:
            raise MasterKeyWrong(str(row.sealed_by), self._key)
        try:
            return self._key.open(name, value)
        except Unopened:
            raise _damaged(name) from None

    def _row(self, name: str, value: bytes, created: datetime | None = None) -> dict[str, Any]:
        sealed = self._key.seal(name, value, self._entropy.bytes(NONCE_BYTES))
        return {
            "name": name,
            "value": sealed,
            "digest": _digest(sealed),
            "created": created or self._clock.now(),
            "sealed_by": self._key.fingerprint,
        }


async def _row(connection: AsyncConnection, name: str) -> Row[Any] | None:
    return (await connection.execute(_READ, {"wanted": name})).one_or_none()


def _checked(row: Row[Any]) -> bytes:
    value: bytes = row.value
    if not compare_digest(_digest(value), row.digest):
        raise _damaged(row.name)
    return value


def _damaged(name: str) -> SecretDamaged:
    return SecretDamaged(
        f"the server secret '{name}' in the database is damaged",
        help="restore the database from a backup; a new secret would lock all clients out",
    )


def _digest(value: bytes) -> bytes:
    return hashlib.sha256(value).digest()
