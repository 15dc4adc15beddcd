"""What replicas tell each other of the watched repository, and what operators say about it.

One replica follows it; any is asked for a look, and any takes what operators want: that nothing
comes into force by itself (`suspend`, `resume`), or that one commit does or does not.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, Final, TypeVar

from mergescale.domain.record import Approval, Following, Hold, Override
from mergescale.domain.snapshot import Snapshot
from mergescale.kernel.errors import Conflict
from mergescale.state.outcome import Decision, Outcome, outcome, replaced

T = TypeVar("T")

#: LIMIT: commits on the skip list; the oldest are forgotten, long after the branch moved on.
SKIPPED_LIMIT: Final = 100
#: LIMIT: approvals that are kept; the oldest are forgotten, long after the branch moved on.
APPROVALS_LIMIT: Final = 20


class Withheld(Conflict):
    """Raised when an operator does not want the commit to come into force by itself."""

    code = "conflict.withheld"


class Suspended(Withheld):
    """Raised for every commit while following is suspended."""

    code = "conflict.suspended"


class Pinned(Withheld):
    """Raised for every other commit while one is pinned."""

    code = "conflict.pinned"


class Overridden(Withheld):
    """Raised for every commit while an operator's own policy is in force."""

    code = "conflict.overridden"


class Skipped(Withheld):
    """Raised for a commit on the skip list."""

    code = "conflict.skipped"


def ask(*, retry: bool = False) -> Decision[int]:
    """Ask whoever follows the repository for a look; return the number of the request.

    Args:
        retry: judge a refused commit again, even if nothing has moved.
    """

    def decide(snapshot: Snapshot, _: datetime) -> Outcome[int]:
        before = snapshot.following
        number = before.asked + 1
        after = replace(before, asked=number, retried=number if retry else before.retried)
        made = replaced(snapshot, before, after)
        return Outcome(made.snapshot, made.change, made.writes, after.asked)

    return decide


def tell(status: str, answered: int) -> Decision[None]:
    """Say how following the repository stands, and which requests that answers.

    Args:
        status: `domain.record.Following.status`.
        answered: number of the newest request that was there when the look began.
    """

    def decide(snapshot: Snapshot, _: datetime) -> Outcome[None]:
        before = snapshot.following
        after = replace(before, status=status, answered=max(before.answered, answered))
        made = replaced(snapshot, before, after)
        return outcome(snapshot, made.writes, None)

    return decide


def suspend(reason: str, by: str, lasting: timedelta | None = None) -> Decision[Following]:
    """Let nothing come into force by itself; suspended again, the newer reason holds.

    Args:
        reason: why, in an operator's words.
        by: the operator.
        lasting: for how long; None until somebody resumes.
    """

    def decide(snapshot: Snapshot, now: datetime) -> Outcome[Following]:
        before = snapshot.following
        until = None if lasting is None else now + lasting
        return replaced(snapshot, before, replace(before, held=Hold(reason, by, now, until)))

    return decide


def lapse() -> Decision[bool]:
    """Resume what was suspended for a time that is over; return whether it was."""

    def decide(snapshot: Snapshot, now: datetime) -> Outcome[bool]:
        before = snapshot.following
        over = has_lapsed(before, now)
        made = replaced(snapshot, before, replace(before, held=None) if over else before)
        return Outcome(made.snapshot, made.change, made.writes, over)

    return decide


def has_lapsed(following: Following, now: datetime) -> bool:
    """Say whether it was suspended for a time that is over."""
    held = following.held
    return held is not None and held.until is not None and held.until <= now


def resume() -> Decision[Following]:
    """Let the newest good commit come into force again, unless it is to be skipped."""

    def decide(snapshot: Snapshot, _: datetime) -> Outcome[Following]:
        before = snapshot.following
        if before.held is None:
            raise Conflict("following the repository is not suspended")
        return replaced(snapshot, before, replace(before, held=None))

    return decide


def accept(commit: str) -> Decision[Following]:
    """Let one commit come into force although it is on the skip list or rewrites the history.

    Args:
        commit: full object id.
    """

    def decide(snapshot: Snapshot, _: datetime) -> Outcome[Following]:
        before = snapshot.following
        skipped = tuple(one for one in before.skipped if one != commit)
        return replaced(snapshot, before, replace(before, skipped=skipped, accepted=commit))

    return decide


def approve(commit: str, reason: str, by: str, effect: str = "") -> Decision[Following]:
    """Let one commit pass gates and freeze windows; approved again, the newer words hold.

    Args:
        commit: full object id.
        reason: why, in an operator's words.
        by: the operator.
        effect: `domain.record.Approval.effect`.

    Raises (when carried out):
        Conflict: it is in force.
    """

    def decide(snapshot: Snapshot, now: datetime) -> Outcome[Following]:
        before, held = snapshot.following, snapshot.deployment
        if held is not None and held.commit == commit:
            raise Conflict(f"{commit[:12]} is in force")
        others = [one for one in before.approvals if one.commit != commit]
        approvals = (*others, Approval(commit, reason, by, now, effect))[-APPROVALS_LIMIT:]
        return replaced(snapshot, before, replace(before, approvals=approvals))

    return decide


def check(following: Following, commit: str) -> None:
    """Refuse a commit that is not to come into force by itself.

    Raises:
        Overridden: none is, whatever else operators want.
        Pinned: another one is wanted.
        Suspended: none is.
        Skipped: this one is not.
    """
    override, held = following.override, following.held
    if override is not None:
        raise Overridden(
            f"a policy of {override.by} is in force in place of the repository's:"
            f" {override.reason}",
            help="mergescale gitops override --off",
        )
    if held is not None and held.pinned:
        if commit == held.pinned:
            return
        raise Pinned(
            f"{held.pinned[:12]} is pinned by {held.by}: {held.reason}",
            help="mergescale gitops resume",
        )
    if following.held is not None:
        raise Suspended(
            f"following is suspended by {following.held.by}: {following.held.reason}",
            help="mergescale gitops resume",
        )
    if commit in following.skipped:
        raise Skipped(
            f"{commit[:12]} was rolled back and is skipped",
            help=f"push a commit that reverts it, or mergescale gitops accept {commit[:12]}",
        )


def of_branch(decision: Decision[T], commit: str) -> Decision[T]:
    """Carry out a decision that puts a commit of the branch in force, if operators let it.

    INVARIANT(withheld): judged here, in the engine's turn, not only before the commit is tried:
    whoever suspends or rolls back finds nothing newer in force afterwards.

    Raises (when carried out):
        Withheld: they do not.
    """

    def decide(snapshot: Snapshot, now: datetime) -> Outcome[T]:
        check(snapshot.following, commit)
        made = decision(snapshot, now)
        # Once: what comes after it is followed forward, and judged by the gates, again.
        told = snapshot.following
        left = tuple(one for one in told.approvals if one.commit != commit)
        return _with(made, replace(told, accepted="", approvals=left, trial=None))

    return decide


def rolling_back(decision: Decision[T], commit: str, reason: str, by: str) -> Decision[T]:
    """Carry out a decision that puts a commit of the past in force, and keep it there.

    Args:
        decision: the one.
        commit: that comes into force; it is not skipped any more, what it replaces is.
        reason: why, in an operator's words.
        by: the operator.
    """

    def decide(snapshot: Snapshot, now: datetime) -> Outcome[T]:
        made, before, held = decision(snapshot, now), snapshot.following, snapshot.deployment
        skipped = [one for one in before.skipped if one != commit]
        if held is not None and held.commit not in (commit, *skipped) and not before.override:
            skipped.append(held.commit)
        kept = tuple(skipped[-SKIPPED_LIMIT:])
        after = replace(
            before, held=Hold(reason, by, now), skipped=kept, accepted="", override=None
        )
        return _with(made, after)

    return decide


def pin(decision: Decision[T] | None, commit: str, reason: str, by: str) -> Decision[Following]:
    """Keep one commit in force; newer ones wait until somebody resumes.

    Args:
        decision: that puts it in force; None if it is.
        commit: full id of the one.
        reason: why, in an operator's words.
        by: the operator.
    """

    def decide(snapshot: Snapshot, now: datetime) -> Outcome[Following]:
        if decision is None:
            made: Outcome[Any] = outcome(snapshot, (), None)
            if snapshot.deployment is None or snapshot.deployment.commit != commit:
                raise Conflict(f"{commit[:12]} is in force no more", help="decide again")
        else:
            made = decision(snapshot, now)
        before = snapshot.following
        skipped = tuple(one for one in before.skipped if one != commit)
        held = Hold(reason, by, now, pinned=commit)
        after = replace(before, held=held, skipped=skipped, accepted="", override=None)
        done = _with(made, after)
        return Outcome(done.snapshot, done.change, done.writes, after)

    return decide


def overriding(decision: Decision[T], override: Override) -> Decision[Override]:
    """Carry out a decision that puts an operator's own policy in force for a while.

    One that replaces another keeps what comes back: the repository's, not the other one.
    """

    def decide(snapshot: Snapshot, now: datetime) -> Outcome[Override]:
        earlier = snapshot.following.override
        told = override
        if earlier is not None:
            told = replace(override, back=earlier.back, instead_of=earlier.instead_of)
        made = _with(decision(snapshot, now), replace(snapshot.following, override=told))
        return Outcome(made.snapshot, made.change, made.writes, told)

    return decide


def coming_back(decision: Decision[Any], override: Override) -> Decision[bool]:
    """Carry out a decision that puts the repository's policy back; return whether it was to be.

    Nothing happens when the override is over already, or another one took its place.
    """

    def decide(snapshot: Snapshot, now: datetime) -> Outcome[bool]:
        if snapshot.following.override != override:
            return outcome(snapshot, (), answer=False)
        made = _with(decision(snapshot, now), replace(snapshot.following, override=None))
        return Outcome(made.snapshot, made.change, made.writes, answer=True)

    return decide


def _with(made: Outcome[T], following: Following) -> Outcome[T]:
    """Add what is said of following to an outcome."""
    more = replaced(made.snapshot, made.snapshot.following, following)
    writes = [*made.writes, *more.writes]
    return Outcome(more.snapshot, made.change | more.change, writes, made.answer)
