"""What happens to a fetched commit before the engine sees it: pure stages, each a new `Attempt`.

What came through them is put in force as a `Deployment` (`deployed`).

Run in a thread, because they take as long as the policy is large.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Final

import structlog

from mergescale.domain.access import Access
from mergescale.domain.declaration import Declaration, Deployment
from mergescale.domain.record import Approval
from mergescale.domain.snapshot import Snapshot
from mergescale.gitops.errors import Stalled
from mergescale.gitops.git.messages import Fault, Found
from mergescale.gitops.status import Problem, counted, problems
from mergescale.policy.diagnostics import Diagnostic, Span, has_errors
from mergescale.policy.repository import declare, selftest

log = structlog.get_logger()

#: LIMIT: of those who signed what came into force, how many are kept, the newest first.
_MAX_NAMED: Final = 50


class BadCommit(Stalled):
    """Raised by a stage that refuses the commit.

    Attributes:
        condition: lower-case name of the condition that does not hold: ``valid`` or ``tested``.
        problems: why, with places.
    """

    code = "gitops.bad-commit"

    def __init__(
        self,
        condition: str,
        reason: str,
        message: str,
        shown: tuple[Problem, ...] = (),
    ) -> None:
        super().__init__(reason, message, help="fix it in a new commit; nothing has changed")
        self.condition = condition
        self.problems = shown


@dataclass(frozen=True, slots=True)
class Attempt:
    """A commit on its way through the stages; each stage fills in its own part.

    Attributes:
        against: the snapshot that the policy is compiled against.
        declaration: after `check`.
        access: after `compile_policy`.
    """

    found: Found
    against: Snapshot
    diagnostics: tuple[Diagnostic, ...] = ()
    declaration: Declaration | None = None
    access: Access | None = None

    @property
    def declared(self) -> Declaration:
        """Return the declaration; only after `check`."""
        assert self.declaration is not None  # noqa: S101 - the order of STAGES
        return self.declaration

    @property
    def compiled(self) -> Access:
        """Return the access; only after `compile_policy`."""
        assert self.access is not None  # noqa: S101 - the order of STAGES
        return self.access


def read(attempt: Attempt) -> Attempt:
    """Refuse a commit with files that are no plain, small UTF-8 texts."""
    if not attempt.found.faults:
        return attempt
    diagnostics = tuple(_diagnostic(fault) for fault in attempt.found.faults)
    raise _bad("valid", "Unreadable", attempt, diagnostics)


def check(attempt: Attempt) -> Attempt:
    """Make a declaration of the texts."""
    declaration, diagnostics = declare(attempt.found.files, tested=False)
    if declaration is None:
        raise _bad("valid", "Invalid", attempt, diagnostics)
    return replace(attempt, declaration=declaration, diagnostics=diagnostics)


def test(attempt: Attempt) -> Attempt:
    """Run the policy's own tests."""
    failed = selftest(attempt.declared, attempt.against)
    if has_errors(failed):
        raise _bad("tested", "TestsFailed", attempt, failed)
    return attempt


def compile_policy(attempt: Attempt) -> Attempt:
    """Resolve the policy against the nodes there are, taking over what stays as it is in force."""
    access = attempt.declared.policy.resolve(attempt.against, attempt.against.access)
    return replace(attempt, access=access)


STAGES: Final[tuple[Callable[[Attempt], Attempt], ...]] = (read, check, test, compile_policy)


def prepare(found: Found, against: Snapshot) -> Attempt:
    """Take a commit through all stages.

    Raises:
        BadCommit: a stage refused it, or broke on it: then it is not tried again either, so that
            one commit cannot keep the server busy for ever.
    """
    attempt = Attempt(found, against)
    for stage in STAGES:
        try:
            attempt = stage(attempt)
        except BadCommit:
            raise
        except Exception as error:
            log.exception("gitops.stage-broke", stage=stage.__name__, commit=found.commit)
            message = f"the server failed to {stage.__name__.partition('_')[0]} this commit"
            raise BadCommit("valid", "InternalError", message) from error
    return attempt


def committed_of(found: Found) -> datetime:
    """Return when a commit was made, as its committer says; 1970 for what no calendar has."""
    try:
        return datetime.fromtimestamp(found.committed_s, tz=UTC)
    except (OverflowError, ValueError, OSError):
        # The committer chose the number, and git takes any.
        return datetime.fromtimestamp(0, tz=UTC)


def deployed(
    attempt: Attempt,
    committed: datetime,
    now: datetime,
    *,
    by: str = "",
    reason: str = "",
    until: datetime | None = None,
    approval: Approval | None = None,
) -> Deployment:
    """Return the record that what was prepared is in force."""
    found = attempt.found
    return Deployment(
        commit=found.commit,
        files=found.files,
        subject=found.subject,
        author=found.author,
        committed=committed,
        applied=now,
        declaration=attempt.declared,
        by=by,
        reason=reason,
        until=until,
        approved_by=approval.by if approval else "",
        approved_because=approval.reason if approval else "",
        verified_by=() if found.verdict is None else found.verdict.by[:_MAX_NAMED],
    )


def _bad(
    condition: str, reason: str, attempt: Attempt, diagnostics: tuple[Diagnostic, ...]
) -> BadCommit:
    shown = problems(diagnostics, attempt.found.files)
    return BadCommit(condition, reason, counted(diagnostics), shown)


def _diagnostic(fault: Fault) -> Diagnostic:
    span = Span(fault.path or ".", fault.line, fault.column, fault.line, fault.column, 0, 0)
    return Diagnostic(fault.code, fault.message, fault.help, span)
