"""The one comment of ours below a pull request: found by its hidden marker, then written over."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Protocol

from mergescale.gitops.forges.calls import Calls

#: LIMIT: pages that are looked through for it; after that another one is written.
_PAGES: Final = 50
#: Whatever a forge says to a token that may not ask whose it is; 401 is one that it does not know.
_NOT_TOLD: Final = frozenset(range(402, 500))


@dataclass(frozen=True, slots=True)
class Author:
    """Who wrote a comment, as far as the forge tells.

    Attributes:
        user: number of the account.
        app: number of the GitHub App that the account spoke through, or is.
        bot: the account is no person's.
    """

    user: int | None = None
    app: int | None = None
    bot: bool = False


@dataclass(frozen=True, slots=True)
class Comment:
    """A comment, its number and who wrote it."""

    id: int
    body: str
    author: Author


class Talks(Protocol):
    """Lists and writes the comments of pull requests."""

    async def own(self) -> Author | None:
        """Return who we are; None if the forge does not tell."""
        ...

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
    """Write our comment that begins with the marker, over the oldest one there is.

    A plan in somebody else's comment would be theirs to change, even where we may write over it. Where
    we cannot know who we are, it is the first one that may be written over.
    """
    own, seen = await talks.own(), set[int]()
    for page in range(1, _PAGES + 1):
        found = await talks.comments(number, page)
        # A forge that knows no pages gives all of them each time.
        fresh = [one for one in found if one.id not in seen]
        if not fresh:
            break
        seen |= {one.id for one in fresh}
        for one in fresh:
            if not one.body.startswith(marker) or not may_be(own, one.author):
                continue
            if one.body.strip() == body.strip() or await talks.edit_comment(number, one.id, body):
                return
    await talks.add_comment(number, body)


def may_be(own: Author | None, author: Author) -> bool:
    """Say whether a comment is ours, or cannot be told from one that is.

    A second comment with each plan would be worse than one in the name of another bot.
    """
    if own is None:
        return True
    if own.app is None:
        return author.user in {own.user, None}
    if author.app is not None:
        return author.app == own.app
    # GitHub does not name the app with every comment of one.
    return author.bot or author.user is None


async def user(calls: Calls) -> Author | None:
    """Return whose the token is, as all of the forges tell at ``/user``; None if it may not know."""
    answer = await calls.ask("GET", "/user", fine=_NOT_TOLD)
    match answer.value:
        case {"id": int(number)} if answer.is_fine:
            return Author(user=number)
        case _:
            return None
