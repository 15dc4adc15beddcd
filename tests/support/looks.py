"""Looks at repositories as a server does: a child process, and a store in a folder of its own."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from mergescale.gitops.git.child import Fetcher
from mergescale.gitops.git.messages import Found, Unchanged
from mergescale.gitops.git.source import Source


class Looker:
    """Follows one repository, look by look.

    Attributes:
        source: what is followed.
        state: the folder of the store, and of whatever the worker makes beside it.
        store: the store.
    """

    def __init__(self, source: Source, state: Path) -> None:
        self.source = source
        self.state = state
        self.store = state / "policy.git"
        self._fetcher = Fetcher(source, self.store)

    def look(self, *, known: str = "", applied: str = "") -> Unchanged | Found:
        """Look once; raises what `Fetcher.look` raises."""

        async def once() -> Unchanged | Found:
            try:
                return await self._fetcher.look(known=known, applied=applied)
            finally:
                await self._fetcher.close()

        return asyncio.run(once())

    def finds(self, *, known: str = "", applied: str = "") -> Found:
        """Look once where something new must be found."""
        found = self.look(known=known, applied=applied)
        assert isinstance(found, Found)
        return found


def looker(repository: Path, state: Path, **members: Any) -> Looker:
    """Return one that has not looked yet; `members` are those of `Source.parse`."""
    return Looker(Source.parse(str(repository), **members), state)
