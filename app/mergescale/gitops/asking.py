"""What following a repository needs of whoever asks git."""

from __future__ import annotations

from typing import Protocol

from mergescale.gitops.git.messages import Found, Unchanged


class Fetches(Protocol):
    """What asks git; `child.Fetcher` is the real one."""

    async def look(
        self, *, known: str, applied: str, accepted: str = "", past: str = ""
    ) -> Unchanged | Found:
        """Say where the ref is, and read the files if that is not `known`.

        Args:
            known: full object id looked at last, or empty.
            applied: full object id in force, or empty.
            accepted: full object id that may come although it does not descend, or empty.
            past: commit of the history that is wanted instead of the newest, or empty.

        Raises:
            Stalled: only a new commit or another configuration helps.
            Transient: it may work later.
        """
        ...

    async def warm(self) -> None:
        """Make the next `look` quicker."""
        ...

    async def close(self) -> None:
        """Let go of everything that `warm` holds."""
        ...
