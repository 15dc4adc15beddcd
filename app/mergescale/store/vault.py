"""The secrets that a tailnet's outside world asks for, sealed under the master key.

`gitops.vault.Vault` on the table ``vault``. Beside a sealed value stands what it is for, in the
clear; the value is sealed under a key made of tailnet, purpose and that, so that a row that is
moved, renamed or bound to something else does not open.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from hashlib import blake2b
from typing import Any, Final

from sqlalchemy import bindparam, delete, insert, select, update

from mergescale.domain.held import Held, HeldDamaged
from mergescale.identity.masterkey import NONCE_BYTES, MasterKey, Unopened
from mergescale.kernel.clock import Clock, Entropy
from mergescale.kernel.ids import TailnetName
from mergescale.state.ports import StoreConflict
from mergescale.store.database import Database
from mergescale.store.tables import VAULT

_OF: Final = (VAULT.c.tailnet == bindparam("of"), VAULT.c.purpose == bindparam("what"))
_READ: Final = select(VAULT.c.bound_to, VAULT.c.value).where(*_OF)
_TOLD: Final = (VAULT.c.purpose, VAULT.c.bound_to, VAULT.c.created_s, VAULT.c.fingerprint)
_ALL: Final = select(*_TOLD).where(VAULT.c.tailnet == bindparam("of"))
_CHANGE: Final = update(VAULT).where(*_OF)
_DROP: Final = delete(VAULT).where(*_OF)
#: Only as it was read: what somebody put there since is for something else again.
_DROP_READ: Final = delete(VAULT).where(*_OF, VAULT.c.bound_to == bindparam("read"))
_FINGERPRINT_BYTES: Final = 8


class SqlVault:
    """The vault of one tailnet.

    Args:
        database: open and migrated; the tailnet was loaded from it.
        tailnet: whose secrets.
        key: what they are sealed under.
        clock: for when they were given.
        entropy: for nonces.
    """

    def __init__(
        self,
        database: Database,
        tailnet: TailnetName,
        key: MasterKey,
        clock: Clock,
        entropy: Entropy,
    ) -> None:
        self._database = database
        self._tailnet = tailnet
        self._key = key
        self._clock = clock
        self._entropy = entropy

    async def find(self, purpose: str, bound_to: str) -> bytes | None:
        """Return the secret, None if there is none for this; drop one for something else.

        Raises:
            HeldDamaged: it does not open.
            StoreUnavailable: the database did not answer.
        """
        where = self._where(purpose)
        async with self._database.reading() as connection:
            row = (await connection.execute(_READ, where)).one_or_none()
        if row is None:
            return None
        if row.bound_to != bound_to:
            async with self._database.writing() as connection:
                await connection.execute(_DROP_READ, {**where, "read": row.bound_to})
            return None
        try:
            return self._key.open(self._name(purpose, bound_to), row.value)
        except (Unopened, TypeError):
            raise HeldDamaged(purpose) from None

    async def put(self, purpose: str, bound_to: str, value: bytes) -> None:
        """Keep a secret in the place of whatever was kept for the purpose.

        Raises:
            StoreUnavailable: the database did not take it.
        """
        for attempt in (1, 2):
            row = self._row(purpose, bound_to, value)
            try:
                async with self._database.writing() as connection:
                    done = await connection.execute(_CHANGE.values(row), self._where(purpose))
                    if done.rowcount == 0:
                        key = {"tailnet": self._tailnet, "purpose": purpose}
                        await connection.execute(insert(VAULT), {**key, **row})
            except StoreConflict:
                # Another replica was first to have one for this purpose; the last one stands.
                if attempt > 1:
                    raise
            else:
                return

    async def drop(self, purpose: str) -> bool:
        """Forget the secret; say whether there was one.

        Raises:
            StoreUnavailable: the database did not take it.
        """
        async with self._database.writing() as connection:
            done = await connection.execute(_DROP, self._where(purpose))
        return done.rowcount > 0

    async def held(self) -> Mapping[str, Held]:
        """Return purpose -> what may be told of its secret; rows that make no sense are left out.

        Raises:
            StoreUnavailable: the database could not be read.
        """
        async with self._database.reading() as connection:
            rows = (await connection.execute(_ALL, {"of": self._tailnet})).all()
        return {row.purpose: one for row in rows if (one := _told(row)) is not None}

    def _row(self, purpose: str, bound_to: str, value: bytes) -> dict[str, Any]:
        nonce = self._entropy.bytes(NONCE_BYTES)
        return {
            "bound_to": bound_to,
            "value": self._key.seal(self._name(purpose, bound_to), value, nonce),
            "fingerprint": self._fingerprint(value),
            "created_s": self._clock.now().timestamp(),
        }

    def _name(self, purpose: str, bound_to: str) -> str:
        return f"vault {json.dumps([self._tailnet, purpose, bound_to])}"

    def _fingerprint(self, value: bytes) -> str:
        # Keyed: a plain hash of a short secret could be searched for.
        key = self._key.passphrase("vault fingerprint")
        return blake2b(value, key=key, digest_size=_FINGERPRINT_BYTES).hexdigest()

    def _where(self, purpose: str) -> dict[str, str]:
        return {"of": self._tailnet, "what": purpose}


def _told(row: Any) -> Held | None:
    """Return what a row tells; None where one of its values makes no sense."""
    if not all(isinstance(text, str) for text in (row.purpose, row.bound_to, row.fingerprint)):
        return None
    try:
        created = datetime.fromtimestamp(row.created_s, tz=UTC)
    except (TypeError, ValueError, OverflowError, OSError):
        return None
    return Held(row.bound_to, created, row.fingerprint)
