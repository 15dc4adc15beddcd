"""GitLab: https://docs.gitlab.com/api/commits/, /api/notes/, /api/merge_requests/."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from mergescale.gitops.forges.calls import NOT_OURS, Calls, cut, listed
from mergescale.gitops.forges.comments import Comment, upsert
from mergescale.gitops.forges.port import Note, Pull, State
from mergescale.gitops.outbox import Undeliverable

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

    async def set_status(
        self, commit: str, context: str, state: State, description: str, url: str
    ) -> None:
        """Set a commit's status.

        SPEC(GitLab): ``pending`` on top of ``pending`` is 400. It is what is wanted all the same.
        """
        body = {
            "state": _STATES.get(state, str(state)),
            "name": context,
            "description": cut(description, _DESCRIPTION),
            **({"target_url": url} if url else {}),
        }
        at = f"{self._at}/statuses/{commit}"
        answer = await self._calls.ask("POST", at, body=body, fine=frozenset({_BAD_REQUEST}))
        if answer.status == _BAD_REQUEST and state is not State.PENDING:
            raise Undeliverable("the forge does not take it (400)")

    async def upsert_comment(self, number: int, marker: str, body: str) -> None:
        """Write the note that begins with the marker."""
        await upsert(self, number, marker, body)

    async def comments(self, number: int, page: int) -> list[Comment]:
        """Return a page of a merge request's notes, oldest first; empty after the last."""
        query = {"per_page": _PAGE, "page": page, "sort": "asc", "order_by": "created_at"}
        answer = await self._calls.ask("GET", self._notes(number), query=query)
        return [
            Comment(one["id"], one["body"])
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
                case {"iid": int(number), "sha": str(head), "target_branch": into} if (
                    into == branch and number > 0
                ):
                    fork = one.get("source_project_id") != one.get("target_project_id")
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
