"""What a repository opens with, for who looks from outside of the server: `doctor`.

Reads the database with the server's own settings and changes nothing in it: a credential for
another address is left where it is.
"""

from __future__ import annotations

from dataclasses import dataclass

from mergescale.gitops.credentials import kinds as credentials
from mergescale.gitops.credentials.installations import Installations
from mergescale.gitops.credentials.keeper import access_with
from mergescale.gitops.credentials.kinds import Credential
from mergescale.gitops.git.access import Access
from mergescale.gitops.vault import REPOSITORY
from mergescale.kernel.errors import MergescaleError
from mergescale.kernel.ids import TailnetName
from mergescale.server.master_key import master_key
from mergescale.server.settings import Repository, Settings
from mergescale.server.system import SystemClock, SystemEntropy
from mergescale.server.watched import source_of
from mergescale.store.database import Database
from mergescale.store.vault import SqlVault


@dataclass(frozen=True, slots=True)
class Opening:
    """Lends what the server would lend for its next look; an `access.Lender`.

    Attributes:
        stored: whether there is a database of this version.
    """

    settings: Settings
    tailnet: TailnetName
    repository: Repository
    stored: bool

    async def access(self) -> Access:
        """Return what git may use.

        Raises:
            MergescaleError: what is stored cannot be read, or the forge gives no token.
        """
        source, ca_file = source_of(self.repository), str(self.repository.ca_file or "")
        found = await self._credential(source.url) if self.stored else None
        installations = Installations(SystemClock(), ca_file)
        return await access_with(found, source, installations, ca_file)

    def refused(self) -> None:
        """Nothing is kept that could be forgotten."""

    async def _credential(self, url: str) -> Credential | None:
        try:
            key = master_key(self.settings)
        except MergescaleError:
            return None  # a check of its own says so
        if key is None:
            return None
        database = Database.open(self.settings.database, self.settings.database_answer_s)
        try:
            vault = SqlVault(database, self.tailnet, key, SystemClock(), SystemEntropy())
            held = (await vault.held()).get(REPOSITORY)
            # Asking for another address would make the vault forget it.
            kept = await vault.find(REPOSITORY, url) if held and held.bound_to == url else None
        finally:
            await database.dispose()
        return None if kept is None else credentials.decoded(kept)
