"""GitLab: https://docs.gitlab.com/api/commits/, /api/notes/, /api/merge_requests/."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from mergescale.gitops.forges.calls import NOT_OURS, Calls, cut, listed
from mergescale.gitops.forges.comments import Author, Comment, upsert, user
from mergescale.gitops.forges.port import Note, Pull, Said, State
from mergescale.gitops.outbox import Undeliverable

#: SPEC(commit statuses): characters of a description, and of a link.
_DESCRIPTION: Final = 255
_PAGE: Final = 100
MAX_PULLS: Final = 100
_STATES: Final = {State.FAILURE: "failed", State.ERROR: "canceled"}
_BAD_REQUEST: Final = 400


class GitLab:
    """A project on GitLab; `port.Forge`.

    Args:
        calls: of its API.
        project: its full name as one segment of a path.
    """

    def __init__(self, calls: Calls, project: str) -> None:
        self._calls = calls
        self._at = f"/projects/{project}"

    async def set_status(self, commit: str, said: Said) -> None:
        """Set a commit's status.

        SPEC(GitLab): ``pending`` on top of ``pending`` is 400. It is what is wanted all the same.
        A status belongs to a pipeline: without a ``ref`` it is the newest one of the commit, or one
        of the first branch that holds it; there is none of those for a fork's commits (404).
        """
        body = {
            "state": _STATES.get(said.state, str(said.state)),
            "name": said.context,
            "description": cut(said.description, _DESCRIPTION),
            **({"target_url": said.url} if 0 < len(said.url) <= _DESCRIPTION else {}),
            **({"ref": said.ref} if said.ref else {}),
        }
        at = f"{self._at}/statuses/{commit}"
        answer = await self._calls.ask("POST", at, body=body, fine=frozenset({_BAD_REQUEST}))
        if answer.status == _BAD_REQUEST and said.state is not State.PENDING:
            raise Undeliverable("the forge does not take it (400)")

    async def upsert_comment(self, number: int, marker: str, body: str) -> None:
        """Write our note that begins with the marker."""
        await upsert(self, number, marker, body)

    async def own(self) -> Author | None:
        """Return who we are."""
        return await user(self._calls)

    async def comments(self, number: int, page: int) -> list[Comment]:
        """Return a page of a merge request's notes, oldest first; empty after the last."""
        query = {"per_page": _PAGE, "page": page, "sort": "asc", "order_by": "created_at"}
        answer = await self._calls.ask("GET", self._notes(number), query=query)
        return [
            Comment(one["id"], one["body"], _author(one))
            for one in listed(answer)
            if isinstance(one.get("id"), int) and isinstance(one.get("body"), str)
        ]

    async def add_comment(self, number: int, body: str) -> None:
        """Write another note."""
        await self._calls.ask("POST", self._notes(number), body={"body": body})

    async def edit_comment(self, number: int, comment: int, body: str) -> bool:
        """Write over a note; return whether it is there and may be."""
        answer = await self._calls.ask(
            "PUT",
            f"{self._notes(number)}/{comment}",
            body={"body": body},
            fine=NOT_OURS,
        )
        return answer.status < 300

    async def open_pulls(self, branch: str) -> Sequence[Pull]:
        """Return the open merge requests into a branch, those that changed last first."""
        query = {
            "state": "opened",
            "target_branch": branch,
            "order_by": "updated_at",
            "sort": "desc",
            "per_page": MAX_PULLS,
        }
        answer = await self._calls.ask("GET", f"{self._at}/merge_requests", query=query)
        found = []
        for one in listed(answer):
            match one:
                case {
                    "iid": int(number),
                    "sha": str(head),
                    "target_branch": into,
                    "target_project_id": int(here),
                } if into == branch and number > 0:
                    # Of a fork that was deleted it is null.
                    fork = one.get("source_project_id") != here
                    found.append(Pull(number, head, fork, str(one.get("title", ""))))
                case _:
                    pass
        return found

    async def annotate(self, commit: str, name: str, notes: Sequence[Note]) -> None:
        """Do nothing: GitLab takes code quality from its own pipelines only."""

    def head_ref(self, number: int) -> str:
        """Return the ref of a merge request's newest commit."""
        return f"refs/merge-requests/{number}/head"

    async def close(self) -> None:
        """Let go of connections."""
        await self._calls.close()

    def _notes(self, number: int) -> str:
        return f"{self._at}/merge_requests/{number}/notes"


def _author(one: Mapping[str, Any]) -> Author:
    match one:
        case {"author": {"id": int(number)}}:
            return Author(user=number)
        case _:
            return Author()
