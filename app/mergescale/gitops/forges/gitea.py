"""Gitea and Forgejo, whose API is much like GitHub's: https://docs.gitea.com/api/."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from mergescale.gitops.forges.calls import listed
from mergescale.gitops.forges.comments import Author, user
from mergescale.gitops.forges.github import MAX_PULLS, GitHub, read_pull
from mergescale.gitops.forges.port import Note, Pull, State

#: LIMIT: Gitea gives no more at once (MAX_RESPONSE_ITEMS), and has no filter by branch.
_PAGE: Final = 50
_PAGES: Final = 10


class Gitea(GitHub):
    """A project on Gitea or Forgejo; `port.Forge`."""

    longest = 255
    #: Older versions have no word for a check that nobody wants.
    words: Mapping[State, str] = {State.SKIPPED: "warning"}

    async def open_pulls(self, branch: str) -> Sequence[Pull]:
        """Return the open pull requests into a branch, those that changed last first."""
        found: list[Pull] = []
        seen = set[int]()
        for page in range(1, _PAGES + 1):
            query = {"state": "open", "sort": "recentupdate", "limit": _PAGE, "page": page}
            entries = listed(await self._calls.ask("GET", f"{self._at}/pulls", query=query))
            numbers = {one["number"] for one in entries if isinstance(one.get("number"), int)}
            if numbers <= seen:
                break
            seen |= numbers
            found += (pull for one in entries if (pull := read_pull(one, branch)) is not None)
            if len(found) >= MAX_PULLS:
                break
        return found[:MAX_PULLS]

    async def own(self) -> Author | None:
        """Return who we are; not known without the scope ``read:user``."""
        return await user(self._calls)

    async def annotate(self, commit: str, name: str, notes: Sequence[Note]) -> None:
        """Do nothing: there is nothing of the kind."""
