"""The one comment of ours below a pull request: found by its hidden marker, then written over."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Protocol

#: LIMIT: pages that are looked through for it; after that another one is written.
_PAGES: Final = 50


@dataclass(frozen=True, slots=True)
class Comment:
    """A comment and its number."""

    id: int
    body: str


class Talks(Protocol):
    """Lists and writes the comments of pull requests."""

    async def comments(self, number: int, page: int) -> list[Comment]:
        """Return a page of a pull request's comments; empty after the last."""
        ...

    async def add_comment(self, number: int, body: str) -> None:
        """Write another comment."""
        ...

    async def edit_comment(self, number: int, comment: int, body: str) -> bool:
        """Write over a comment; return whether it is there and may be."""
        ...


async def upsert(talks: Talks, number: int, marker: str, body: str) -> None:
    """Write the comment that begins with the marker, over the oldest one there is.

    Where somebody else wrote the marker too, whose text we may not change, it is the next one.
    """
    seen = set[int]()
    for page in range(1, _PAGES + 1):
        found = await talks.comments(number, page)
        # A forge that knows no pages gives all of them each time.
        fresh = [one for one in found if one.id not in seen]
        if not fresh:
            break
        seen |= {one.id for one in fresh}
        for one in fresh:
            if not one.body.startswith(marker):
                continue
            if one.body.strip() == body.strip() or await talks.edit_comment(number, one.id, body):
                return
    await talks.add_comment(number, body)
