"""What is known of the watched repository, as one immutable value.

Condition names and reasons are part of the public API: alerts are written against them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Any, Final

from mergescale.domain.declaration import Deployment
from mergescale.gitops.git.revisions import revision
from mergescale.policy.diagnostics import Diagnostic, Severity, render

#: Reasons for which a good commit is not in force that somebody wants: no case for an alert.
WANTED: Final = frozenset({"Suspended", "Pinned", "Overridden", "Frozen"})


class ConditionName(StrEnum):
    """What is said of a sync, in the order in which a good one comes true.

    `STALLED` is the other way round: true is bad, and it stays until a person acts.
    """

    FETCHED = "Fetched"
    VERIFIED = "Verified"
    VALID = "Valid"
    TESTED = "Tested"
    PLANNED = "Planned"
    APPLIED = "Applied"
    STALLED = "Stalled"


@dataclass(frozen=True, slots=True)
class Condition:
    """One statement.

    Attributes:
        state: None while it is not known, e.g. before the first fetch.
        reason: one CamelCase word.
        message: one sentence for people, or empty.
        since: when `state` became what it is.
    """

    state: bool | None
    reason: str
    message: str
    since: datetime


@dataclass(frozen=True, slots=True)
class CommitInfo:
    """A commit as people recognise it."""

    commit: str
    subject: str
    author: str
    committed: datetime

    @classmethod
    def of(cls, deployment: Deployment) -> CommitInfo:
        """Return it of what was put in force."""
        return cls(deployment.commit, deployment.subject, deployment.author, deployment.committed)


@dataclass(frozen=True, slots=True)
class Problem:
    """A diagnostic with the text that shows it.

    Attributes:
        rendered: the lines that a terminal shows, source line underlined.
    """

    diagnostic: Diagnostic
    rendered: str


@dataclass(frozen=True, slots=True)
class Status:
    """Where following the repository stands.

    Attributes:
        repository, branch, folder: what is followed; a tag, a range or a commit's id as well.
        follows: which of those ``branch`` is.
        name: the branch or tag that named `target`; empty for a pinned commit.
        current: the commit in force.
        applied: when it came into force.
        target: the newest commit seen; differs from `current` while it is bad or under way.
        verified_by: who signed what was verified last; names and keys, newest first.
        problems: what is wrong with `target`; warnings of a good commit are here too.
        last_success: when the repository was last reached and its newest commit in force.
        last_attempt: when it was last looked at.
        attempts: looks that failed one after another.
    """

    repository: str
    branch: str
    folder: str
    conditions: Mapping[ConditionName, Condition]
    current: CommitInfo | None = None
    applied: datetime | None = None
    target: CommitInfo | None = None
    verified_by: tuple[str, ...] = ()
    problems: tuple[Problem, ...] = ()
    last_success: datetime | None = None
    last_attempt: datetime | None = None
    attempts: int = 0
    follows: str = "branch"
    name: str = ""

    def holds(self, name: ConditionName) -> bool:
        """Say whether the condition is known to be true."""
        return self.conditions[name].state is True

    def told(
        self, now: datetime, *, reason: str, message: str = "", **states: bool | None
    ) -> Status:
        """Return the status with conditions replaced; `since` moves with the state only.

        Args:
            now: the time.
            reason: one CamelCase word, for all of them.
            message: one sentence, for all of them.
            **states: lower-case condition name -> its state.
        """
        conditions = dict(self.conditions)
        for word, state in states.items():
            name = ConditionName(word.capitalize())
            before = conditions[name]
            since = before.since if before.state is state else now
            conditions[name] = Condition(state, reason, message, since)
        return replace(self, conditions=conditions)

    def as_json(self) -> dict[str, Any]:
        """Return it as the API spells it: camelCase, RFC 3339 times, null for what is not known."""
        return {
            "repository": self.repository,
            "branch": self.branch,
            "follows": self.follows,
            "folder": self.folder,
            "current": self._revised(self.current),
            "applied": time_json(self.applied),
            "target": self._revised(self.target),
            "conditions": [
                {
                    "name": str(name),
                    "state": one.state,
                    "reason": one.reason,
                    "message": one.message,
                    "since": time_json(one.since),
                }
                for name, one in self.conditions.items()
            ],
            "verifiedBy": list(self.verified_by),
            "problems": [_problem(one) for one in self.problems],
            "lastSuccess": time_json(self.last_success),
            "lastAttempt": time_json(self.last_attempt),
            "attempts": self.attempts,
        }

    def _revised(self, commit: CommitInfo | None) -> dict[str, Any] | None:
        """Return a commit with what named it, as far as that is known: ``main@sha1:0123…``."""
        said = commit_json(commit)
        if commit is None or said is None:
            return None
        named = self.target is not None and commit.commit == self.target.commit
        # A branch has one name; which of the tags in a range it was is known of the newest only.
        name = self.branch if self.follows in {"branch", "tag"} else self.name if named else ""
        return {**said, "revision": revision(name, commit.commit)}


def fresh(
    repository: str, branch: str, folder: str, now: datetime, *, follows: str = "branch"
) -> Status:
    """Return the status before anything was looked at."""
    unknown = Condition(None, "NotYet", "", now)
    conditions = dict.fromkeys(ConditionName, unknown)
    return Status(repository, branch, folder, conditions, follows=follows)


def problems(diagnostics: Sequence[Diagnostic], texts: Mapping[str, str]) -> tuple[Problem, ...]:
    """Render diagnostics against the files that their spans name."""
    return tuple(Problem(one, render(one, texts.get(one.span.file, ""))) for one in diagnostics)


def counted(diagnostics: Sequence[Diagnostic]) -> str:
    """Return one line for people: how many errors, and where the first one is."""
    errors = [one for one in diagnostics if one.severity is Severity.ERROR]
    if not errors:
        return ""
    span = errors[0].span
    first = f"{span.file}:{span.start_line}:{span.start_column}: {errors[0].message}"
    return first if len(errors) == 1 else f"{first} (and {len(errors) - 1} more)"


def commit_json(commit: CommitInfo | None) -> dict[str, Any] | None:
    """Return a commit as the API spells it."""
    if commit is None:
        return None
    return {
        "commit": commit.commit,
        "subject": commit.subject,
        "author": commit.author,
        "committed": time_json(commit.committed),
    }


def _problem(problem: Problem) -> dict[str, Any]:
    one = problem.diagnostic
    return {
        "severity": str(one.severity),
        "code": one.code,
        "message": one.message,
        "help": one.help,
        "file": one.span.file,
        "line": one.span.start_line,
        "column": one.span.start_column,
        "endLine": one.span.end_line,
        "endColumn": one.span.end_column,
        "rendered": problem.rendered,
    }


def time_json(when: datetime | None) -> str | None:
    """Return a time as the API spells it."""
    return None if when is None else when.isoformat().replace("+00:00", "Z")
