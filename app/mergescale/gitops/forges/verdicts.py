"""What merging a pull request would do, from its files and the tailnet as it is: pure.

The same stages as for a commit of the branch, then the plan over the very decision that would put
it in force. What comes of it is the same for the same files and the same tailnet. Whoever may open
a pull request chooses the files, so it is found out in a bounded child process (`Judging`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from itertools import chain
from typing import Final

import msgspec

from mergescale.domain.snapshot import Snapshot
from mergescale.gitops.forges.port import Note
from mergescale.gitops.forges.reports import (
    Check,
    Report,
    expectations,
    failed,
    passed,
    tested,
    unreached,
    valid,
)
from mergescale.gitops.gates import plan_of
from mergescale.gitops.git.messages import Found
from mergescale.gitops.stages import BadCommit, prepare
from mergescale.gitops.status import Problem, counted, problems
from mergescale.gitops.trust.demands import Signatures
from mergescale.plan.gates import Limits
from mergescale.plan.markdown import MARKER, MAX_CHARACTERS, as_markdown, code, fenced
from mergescale.plan.model import Plan, Verdict
from mergescale.plan.redaction import Redaction, redacted, without_names
from mergescale.policy.diagnostics import Diagnostic

#: LIMIT: characters of a comment, that of a plan and a little more; GitHub takes 65,536.
MAX_COMMENT: Final = MAX_CHARACTERS + 1000
#: LIMIT: problems that a comment shows.
_MAX_PROBLEMS: Final = 20
#: LIMIT: signers that it names.
_MAX_SIGNERS: Final = 5


@dataclass(frozen=True, slots=True)
class Tried:
    """A pull request, merged for trial.

    Attributes:
        number: of the pull request.
        head, base: full ids of the commits that were merged.
        merged: the files of the merge, under the id of its tree, and who vouches for the commits
            that it brings; None if the two conflict.
        conflicts: paths for which they do.
    """

    number: int
    head: str
    base: str
    merged: Found | None
    conflicts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Judged:
    """What is said of a pull request.

    Attributes:
        verdict: a word or two for lists.
        hash: of the plan; empty if there is none.
        comment: Markdown that begins with `MARKER`.
        reports: for its head.
        notes: for lines of its head.
    """

    verdict: str
    hash: str
    comment: str
    reports: tuple[Report, ...]
    notes: tuple[Note, ...] = ()


@dataclass(frozen=True, slots=True)
class Judging:
    """Finds out what merging does, where that can do no harm; a `containment.Task`.

    Attributes:
        tried, now, level, limits: of `judged`.
    """

    tried: Tried
    now: datetime
    level: Redaction
    limits: Limits

    def carry_out(self, snapshot: Snapshot) -> bytes:
        """Do it, over the tailnet as it is."""
        return msgspec.json.encode(judged(self.tried, snapshot, self.now, self.level, self.limits))


def read(answer: bytes) -> Judged:
    """Return what `Judging` found."""
    return msgspec.json.decode(answer, type=Judged)


def judged(
    tried: Tried,
    snapshot: Snapshot,
    now: datetime,
    level: Redaction,
    limits: Limits,
) -> Judged:
    """Return what merging does.

    Args:
        tried: the pull request.
        snapshot: the tailnet now.
        now: the time.
        level: how much is told.
        limits: of the gates.

    Raises:
        MemoryError: it takes more than there is.
    """
    if tried.merged is None:
        return _conflicting(tried)
    try:
        attempt = prepare(tried.merged, snapshot)
    except BadCommit as bad:
        if isinstance(bad.__cause__, MemoryError):
            raise bad.__cause__ from None
        return _bad(tried.merged, bad, level)
    checked = valid(len(tried.merged.files)), tested(expectations(attempt.declared))
    plan = plan_of(attempt, now, limits)
    if plan is None:
        why = "nothing is in force yet that it could be compared with"
        return Judged("no plan", "", "", (*checked, unreached(Check.PLAN, why)))
    shown = redacted(plan, level)
    return Judged(
        verdict="refused" if plan.refused else str(plan.verdict),
        hash=plan.hash,
        comment=_comment(chain(_unvouched(tried.merged, level), _good(shown, tried, level))),
        reports=(*checked, plan_report(shown)),
    )


def plan_report(plan: Plan) -> Report:
    """Return what is said of a plan; of one that a gate refuses, that it does."""
    if plan.refused:
        return failed(Check.PLAN, f"refused: {'; '.join(_refusals(plan))}")
    if plan.verdict is Verdict.NO_EFFECT:
        return passed(Check.PLAN, 1, "no effect", "nothing was compared")
    return passed(Check.PLAN, 1, f"{plan.verdict}: {_share(plan)}", "nothing was compared")


def _share(plan: Plan) -> str:
    """Return how much changes, in figures that stay as devices come and go.

    Each other description is another status, and GitHub takes a thousand of a check.
    """
    if not plan.blast.pairs:
        return "no pair of devices changes"
    percent = round(100 * plan.blast.share)
    return f"{f'{percent}%' if percent else 'less than 1%'} of all pairs of devices change"


def _conflicting(tried: Tried) -> Judged:
    why = "it conflicts with the branch"
    said = f"It conflicts with the branch at {code(tried.base[:12])}. Merge or rebase it first;"
    lines = ["### It cannot be merged", "", f"{said} until then nothing is checked.", ""]
    lines += (f"- {code(path)}" for path in tried.conflicts)
    reports = (
        unreached(Check.VALIDATE, f"not reached: {why}"),
        unreached(Check.TEST, f"not reached: {why}"),
        failed(Check.PLAN, why),
    )
    return Judged("conflict", "", _comment(iter(lines)), reports)


def _bad(merged: Found, bad: BadCommit, level: Redaction) -> Judged:
    told = without_names((one.diagnostic for one in bad.problems), level)
    said = counted(told) or bad.message or bad.reason
    if bad.condition == "tested":
        reports = valid(len(merged.files)), failed(Check.TEST, said)
        verdict, title = "tests fail", "Tests of the policy fail"
    else:
        reports = failed(Check.VALIDATE, said), unreached(Check.TEST, "not reached: not valid")
        verdict, title = "invalid", "This is not a policy"
    last = unreached(Check.PLAN, f"not reached: {verdict}")
    shown = _problems(title, said, problems(told, merged.files))
    comment = _comment(chain(_unvouched(merged, level), shown))
    return Judged(verdict, "", comment, (*reports, last), tuple(map(_note, told)))


def _problems(title: str, said: str, found: tuple[Problem, ...]) -> Iterator[str]:
    yield from (f"### {title}", "", "Merged as it is, nothing would change.", "")
    if not found:
        yield f"- {code(said)}"
    for one in found[:_MAX_PROBLEMS]:
        yield from ("", fenced(one.rendered))
    if len(found) > _MAX_PROBLEMS:
        yield f"\n… and {len(found) - _MAX_PROBLEMS} more."


def _refusals(plan: Plan) -> list[str]:
    return [f"{one.gate}: {one.message}" for one in plan.gates if one.refuses]


def _good(plan: Plan, tried: Tried, level: Redaction) -> Iterator[str]:
    body = as_markdown(plan).removeprefix(MARKER).strip("\n").split("\n")
    yield from body
    signed = _vouched(tried.merged, level)
    yield f"<sub>{code(tried.head[:12])} merged into {code(tried.base[:12])}{signed}</sub>"


def _unvouched(merged: Found, level: Redaction) -> Iterator[str]:
    """Warn of commits that the branch could not come into force with.

    No check fails for it: how it is merged makes other commits, and somebody else may sign those.
    """
    verdict = merged.verdict
    if verdict is None or not verdict.reason:
        return
    why = verdict.reason if level is Redaction.COUNTS else verdict.message
    if verdict.signatures is Signatures.STRICT:
        then = "merged with this commit in it, the branch does not come into force"
    else:
        then = "as the newest commit of the branch it does not come into force"
    yield from (f"> **Not verified**: {code(why)}; {then}.", "")


def _vouched(merged: Found | None, level: Redaction) -> str:
    """Say who signed what the pull request brings, where somebody was to."""
    verdict = None if merged is None else merged.verdict
    if verdict is None or not verdict.by:
        return ""
    count = "1 commit" if verdict.commits == 1 else f"{verdict.commits} commits"
    if level is Redaction.COUNTS:
        return f"; {count} signed as asked for"
    more = f" and {len(verdict.by) - _MAX_SIGNERS} more" * (len(verdict.by) > _MAX_SIGNERS)
    return f"; {count} signed by {', '.join(map(code, verdict.by[:_MAX_SIGNERS]))}{more}"


def _comment(lines: Iterable[str]) -> str:
    """Return the comment, cut at a line where it gets too long."""
    kept, size = [MARKER], len(MARKER)
    for line in lines:
        size += len(line) + 1
        if size > MAX_COMMENT:
            opened = "\n".join(kept).count("<details>") - "\n".join(kept).count("</details>")
            kept += ["", "</details>"] * opened
            kept += ["", "… the rest is too long for a comment."]
            break
        kept.append(line)
    return "\n".join(kept) + "\n"


def _note(one: Diagnostic) -> Note:
    return Note(
        path=one.span.file,
        line=one.span.start_line,
        end_line=one.span.end_line,
        failure=one.severity == "error",
        message=one.message,
    )
