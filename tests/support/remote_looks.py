"""What follows a remote repository, as the server has it, in the process of a test."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path

from mergescale.gitops.credentials.installations import Installations
from mergescale.gitops.credentials.keeper import Keeper
from mergescale.gitops.git.child import Fetcher
from mergescale.gitops.git.source import Source
from mergescale.gitops.reconcile import Reconciler
from mergescale.gitops.vault import Vault
from mergescale.kernel.ids import TailnetName
from mergescale.state.engine import Engine
from support.clock import FakeClock
from support.journal import MemoryFeed, MemoryJournal
from support.vault import MemoryVault


@dataclass(slots=True)
class Looker:
    """Looks at one remote repository.

    Attributes:
        store: path of the server's copy.
    """

    engine: Engine
    keeper: Keeper
    fetcher: Fetcher
    reconciler: Reconciler
    store: Path

    async def look(self) -> str:
        """Look; return the reason of what went wrong, empty for nothing."""
        await self.reconciler.sync()
        trouble = self.reconciler.trouble
        return "" if trouble is None else trouble.reason

    def hurry(self, timeout_s: float) -> None:
        """Give up a look after that many seconds from now on."""
        self.fetcher._source = replace(self.fetcher._source, timeout_s=timeout_s)

    def redirect(self, url: str) -> None:
        """Ask git for this address from now on, as if the name of the host led elsewhere.

        The credential stays the one for the configured address.
        """
        self.fetcher._source = replace(self.fetcher._source, url=url)

    @property
    def applied(self) -> str | None:
        deployment = self.engine.snapshot.deployment
        return None if deployment is None else deployment.commit

    @property
    def left(self) -> list[str]:
        """Return what lies beside the copy of the repository."""
        found = {path.name for path in self.store.parent.iterdir()}
        store = self.store.name
        return sorted(found - {store, f"{store}-lock", self.store.with_suffix(".home").name})


@contextlib.asynccontextmanager
async def looking(
    source: Source,
    folder: Path,
    *,
    vault: Vault | None = None,
    journal: MemoryJournal | None = None,
    ca_file: Path | None = None,
) -> AsyncIterator[Looker]:
    """Follow a repository for the block, by `Looker.look` only."""
    clock, store = FakeClock(), folder / "state" / "policy.git"
    engine = await Engine.open(
        TailnetName("default"), journal or MemoryJournal(), MemoryFeed(), clock
    )
    ca = str(ca_file or "")
    installations = Installations(clock, ca)
    keeper = Keeper(engine, source, vault or MemoryVault(), installations, ca)
    fetcher = Fetcher(source, store, lender=keeper)
    running = asyncio.create_task(engine.run())
    try:
        reconciler = Reconciler(engine, source, fetcher, clock)
        yield Looker(engine, keeper, fetcher, reconciler, store)
    finally:
        await fetcher.close()
        engine.stop()
        await running
