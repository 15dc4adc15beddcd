"""GitHub: https://docs.github.com/rest/commits/statuses, /issues/comments, /pulls, /checks/runs."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final

from mergescale.gitops.forges.calls import NOT_OURS, Calls, cut, listed, nonsense
from mergescale.gitops.forges.comments import Author, Comment, upsert, user
from mergescale.gitops.forges.port import Note, Pull, Said, State

#: SPEC(check runs): annotations of a request.
_ANNOTATIONS: Final = 50
#: LIMIT: what is listed at once.
_PAGE: Final = 100
MAX_PULLS: Final = 100
_NOTHING: Final = "There is nothing to say of the policy at this commit any more."


class GitHub:
    """A project on GitHub or GitHub Enterprise; `port.Forge`.

    Args:
        calls: of its API.
        project: ``owner/repository``.
        app: returns the number of the GitHub App that the token is of, None if it is a person's.
            Apps alone may make check runs.
    """

    #: SPEC(commit statuses): characters of a description.
    longest = 140
    #: There is no word for a check that nobody wants.
    words: Mapping[State, str] = {State.SKIPPED: "pending"}

    def __init__(
        self, calls: Calls, project: str, app: Callable[[], Awaitable[int | None]] | None = None
    ) -> None:
        self._calls = calls
        self._at = f"/repos/{project}"
        self._app = app

    async def set_status(self, commit: str, said: Said) -> None:
        """Set a commit's status."""
        body = {
            "state": self.words.get(said.state, str(said.state)),
            "context": said.context,
            "description": cut(said.description, self.longest),
            **({"target_url": said.url} if said.url else {}),
        }
        await self._calls.ask("POST", f"{self._at}/statuses/{commit}", body=body)

    async def upsert_comment(self, number: int, marker: str, body: str) -> None:
        """Write our comment that begins with the marker."""
        await upsert(self, number, marker, body)

    async def own(self) -> Author | None:
        """Return who we are.

        SPEC(GitHub Apps): an installation's token is nobody's, and its comments name the app.
        """
        app = None if self._app is None else await self._app()
        return await user(self._calls) if app is None else Author(app=app)

    async def comments(self, number: int, page: int) -> list[Comment]:
        """Return a page of a pull request's comments, oldest first; empty after the last.

        Gitea says ``limit``, and some versions of it know no pages and give all of them.
        """
        query = {"per_page": _PAGE, "limit": _PAGE, "page": page}
        at = f"{self._at}/issues/{number}/comments"
        return [
            Comment(one["id"], one["body"], _author(one))
            for one in listed(await self._calls.ask("GET", at, query=query))
            if isinstance(one.get("id"), int) and isinstance(one.get("body"), str)
        ]

    async def add_comment(self, number: int, body: str) -> None:
        """Write another comment."""
        at = f"{self._at}/issues/{number}/comments"
        await self._calls.ask("POST", at, body={"body": body})

    async def edit_comment(self, _number: int, comment: int, body: str) -> bool:
        """Write over a comment; return whether it is there and may be."""
        at = f"{self._at}/issues/comments/{comment}"
        answer = await self._calls.ask("PATCH", at, body={"body": body}, fine=NOT_OURS)
        return answer.status < 300

    async def open_pulls(self, branch: str) -> Sequence[Pull]:
        """Return the open pull requests into a branch, those that changed last first."""
        query = {
            "state": "open",
            "base": branch,
            "sort": "updated",
            "direction": "desc",
            "per_page": MAX_PULLS,
        }
        answer = await self._calls.ask("GET", f"{self._at}/pulls", query=query)
        return [pull for one in listed(answer) if (pull := read_pull(one, branch)) is not None]

    async def annotate(self, commit: str, name: str, notes: Sequence[Note]) -> None:
        """Make a check run with annotations, fifty at a time; with an App's token only.

        SPEC(check runs): the newest of a name stands for the commit, so one without annotations
        takes back those that were made before.
        """
        if self._app is None or await self._app() is None:
            return
        failed = any(note.failure for note in notes)
        starts = range(0, max(len(notes), 1), _ANNOTATIONS)
        batches = [notes[at : at + _ANNOTATIONS] for at in starts]
        run = {
            "name": name,
            "head_sha": commit,
            "status": "completed",
            "conclusion": "failure" if failed else "neutral",
            "output": _output(batches[0]),
        }
        answer = await self._calls.ask("POST", f"{self._at}/check-runs", body=run)
        if not isinstance(answer.value, dict) or not isinstance(answer.value.get("id"), int):
            raise nonsense()
        for batch in batches[1:]:
            more = {"output": _output(batch)}
            at = f"{self._at}/check-runs/{answer.value['id']}"
            await self._calls.ask("PATCH", at, body=more)

    def head_ref(self, number: int) -> str:
        """Return the ref of a pull request's newest commit."""
        return f"refs/pull/{number}/head"

    async def close(self) -> None:
        """Let go of connections."""
        await self._calls.close()


def read_pull(one: Mapping[str, Any], branch: str) -> Pull | None:
    """Read a pull request as GitHub and Gitea spell it; None if it is not into the branch."""
    match one:
        case {
            "number": int(number),
            "head": {"sha": str(head)} as source,
            "base": {"ref": ref, "repo": {"full_name": str(here)}},
        } if ref == branch and number > 0:
            there = source.get("repo")
            # A fork that was deleted is null.
            name = there.get("full_name") if isinstance(there, dict) else None
            fork = not isinstance(name, str) or name.casefold() != here.casefold()
            return Pull(number, head, fork, str(one.get("title", "")))
        case _:
            return None


def _author(one: Mapping[str, Any]) -> Author:
    app, account = one.get("performed_via_github_app"), one.get("user")
    by = app.get("id") if isinstance(app, dict) else None
    match account:
        case {"id": int(number), **more}:
            return Author(number, by, bot=more.get("type") == "Bot")
        case _:
            return Author(app=by)


def _output(notes: Sequence[Note]) -> dict[str, Any]:
    said = "What the server says of the policy at this commit." if notes else _NOTHING
    return {
        "title": "Policy",
        "summary": said,
        "annotations": [
            {
                "path": note.path,
                "start_line": note.line,
                "end_line": max(note.line, note.end_line),
                "annotation_level": "failure" if note.failure else "warning",
                "message": note.message[:60_000],
            }
            for note in notes
        ],
    }
