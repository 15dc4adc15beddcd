"""The server's part of a pull request's trial: ask the worker for the merge."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from mergescale.gitops.errors import Transient
from mergescale.gitops.git.access import Access, Lender
from mergescale.gitops.git.child import Fetcher, failure
from mergescale.gitops.git.messages import Failed, Merged
from mergescale.gitops.git.source import Source
from mergescale.gitops.trust.demands import Demands


class Tries(Protocol):
    """Merges pull requests for trial; `Trials`."""

    async def attempt(self, ref: str) -> Merged:
        """Merge what the ref names into the branch as it was fetched last.

        Raises:
            ReconcileError: it could not be tried.
        """
        ...

    async def close(self) -> None:
        """Let no child process stay behind."""
        ...


class Trials(Fetcher):
    """Asks a short-lived child process per trial, beside the one that looks at the branch.

    Args:
        source: whose pull requests.
        base: path of the bare repository that the branch is fetched into.
        lender: knows what opens the repository; without one nothing is known to.
        demands: whose commits are wanted.
    """

    def __init__(
        self,
        source: Source,
        base: Path,
        lender: Lender | None = None,
        demands: Demands | None = None,
    ) -> None:
        # In a folder of its own: what lies beside the store during a look is removed afterwards.
        super().__init__(source, base.parent / "trials" / base.name, demands, lender)
        self._base = base.absolute()

    async def attempt(self, ref: str) -> Merged:
        """Merge what the ref names into the branch as it was fetched last.

        Raises:
            Stalled: nothing but another commit helps.
            Waiting: somebody said how long to wait.
            Transient: it may work later.
        """
        access = Access() if self._lender is None else await self._lender.access()
        request = self._request(
            known="",
            applied="",
            pull=ref,
            base=str(self._base),
            demands=self._demands,
            access=access,
        )
        reply = await self._ask(request)
        match reply:
            case Merged():
                return reply
            case Failed():
                if self._lender is not None:
                    self._lender.refused()
                raise failure(reply)
            case _:
                raise Transient("WorkerFailed", "the process that runs git said something else")
