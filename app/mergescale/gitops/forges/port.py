"""What is wanted of a forge."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol


class State(StrEnum):
    """What a commit status says; each forge has words of its own for it.

    Attributes:
        ERROR: the check was not carried out, and will not be.
        SKIPPED: nobody wants it to be.
    """

    PENDING = "pending"
    SUCCESS = "success"
    FAILURE = "failure"
    ERROR = "error"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True)
class Pull:
    """An open pull request, or merge request.

    Attributes:
        number: as people write it.
        head: full id of its newest commit.
        fork: its commits are in another project, or in one that is gone.
    """

    number: int
    head: str
    fork: bool
    title: str = ""


@dataclass(frozen=True, slots=True)
class Said:
    """A commit status.

    Attributes:
        context: names the check.
        description: one line for people; cut to what the forge takes.
        url: where to read more, empty for nowhere.
        ref: what the commit is the newest of; empty for not known. Forges that look at commits alone
            do not ask for it.
    """

    context: str
    state: State
    description: str
    url: str = ""
    ref: str = ""


@dataclass(frozen=True, slots=True)
class Note:
    """Something to be shown beside a line of a file.

    Attributes:
        path: from the root of the repository.
        line, end_line: 1-based, both included.
        failure: an error, not a warning.
    """

    path: str
    line: int
    end_line: int
    failure: bool
    message: str


class Forge(Protocol):
    """The project on its forge.

    Every method raises `gitops.outbox.Retry` if it may work later, `gitops.outbox.Undeliverable` if
    the forge does not want it at all.
    """

    async def set_status(self, commit: str, said: Said) -> None:
        """Set a commit's status; one that is there already is fine.

        Args:
            commit: full object id.
            said: of which check, and what.
        """
        ...

    async def upsert_comment(self, number: int, marker: str, body: str) -> None:
        """Write our one comment of a pull request, which begins with `marker`, new or over the old.

        Args:
            number: of the pull request.
            marker: hidden in Markdown.
            body: Markdown that begins with it.
        """
        ...

    async def open_pulls(self, branch: str) -> Sequence[Pull]:
        """Return the open pull requests into a branch, those that changed last first; not all."""
        ...

    async def annotate(self, commit: str, name: str, notes: Sequence[Note]) -> None:
        """Show notes beside the lines of a commit, in place of those that were shown before.

        Forges that cannot do it do nothing.
        """
        ...

    def head_ref(self, number: int) -> str:
        """Return the ref of a pull request's newest commit in the project's own repository."""
        ...

    async def close(self) -> None:
        """Let go of connections."""
        ...
