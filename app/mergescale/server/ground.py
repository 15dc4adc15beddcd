"""What every part of the process stands on: database, time, chance, the server's own secrets."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from dataclasses import dataclass, field

from mergescale.fanout.bell import LoginBell
from mergescale.kernel.ids import TailnetName
from mergescale.kernel.keys import PrivateKey
from mergescale.server import descriptors
from mergescale.server.backups import migrate_with_backup
from mergescale.server.master_key import unlock
from mergescale.server.metrics import Metrics
from mergescale.server.settings import Settings
from mergescale.server.system import SystemClock, SystemEntropy
from mergescale.server.tls import Certificate, certificate_files
from mergescale.store.database import Database
from mergescale.store.reading import last_moment
from mergescale.store.server_secrets import ServerSecrets
from mergescale.store.vault import SqlVault

_KEY_BYTES = 32


@dataclass(frozen=True, slots=True)
class Ground:
    """What knows nothing of any tailnet.

    Attributes:
        certificate: of the main port; None where that speaks no TLS.
        sockets: how many of clients there may be.
    """

    settings: Settings
    certificate: Certificate | None
    database: Database
    clock: SystemClock
    entropy: SystemEntropy
    secrets: ServerSecrets
    sockets: int
    metrics: Metrics = field(default_factory=Metrics)
    bell: LoginBell = field(default_factory=LoginBell)

    async def key(self, name: str) -> PrivateKey:
        """Return the server's own key of this name, made at the first start."""
        return PrivateKey(await self.secrets.get_or_create(name, self._new_key))

    def vault(self, tailnet: TailnetName) -> SqlVault:
        """Return the secrets that the outside world asks this tailnet for."""
        return SqlVault(self.database, tailnet, self.secrets.key, self.clock, self.entropy)

    def _new_key(self) -> bytes:
        return self.entropy.bytes(_KEY_BYTES)


async def ground(settings: Settings, resources: AsyncExitStack) -> Ground:
    """Open what must be there before any tailnet; what must be given back is on `resources`.

    Raises:
        MergescaleError: the configuration or the database cannot be used; says why.
    """
    entropy = SystemEntropy()
    settings.state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    files = certificate_files(settings)
    certificate = Certificate(files) if files is not None else None
    database = await _database(settings, resources)
    clock = await _clock(settings, database)
    secrets = await unlock(settings, database, clock, entropy)
    return Ground(settings, certificate, database, clock, entropy, secrets, descriptors.room())


async def _database(settings: Settings, resources: AsyncExitStack) -> Database:
    await asyncio.to_thread(migrate_with_backup, settings, SystemClock())
    database = Database.open(settings.database, settings.database_answer_s)
    resources.push_async_callback(database.dispose)
    return database


async def _clock(settings: Settings, database: Database) -> SystemClock:
    """Return the time, which goes on from what is stored unless the operator knows better."""
    stored = None
    if not settings.trust_clock:
        async with database.reading() as connection:
            stored = await last_moment(connection)
    return SystemClock(stored, settings.clock_confirm_s)
