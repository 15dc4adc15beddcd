"""The stage between compiling a commit and putting it in force: gates, freeze windows, approvals.

What a gate refuses waits for a new commit or an approval; what a freeze window holds back comes
into force by itself when the window ends. An approval is for one commit and passes both. Rolling
back is not asked: somebody already decided.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

import structlog

from mergescale.domain.record import Approval
from mergescale.domain.snapshot import Snapshot
from mergescale.gitops.errors import HeldBack, ReconcileError, Stalled
from mergescale.gitops.freeze import Freeze, Window, freeze_at
from mergescale.gitops.git.messages import Found
from mergescale.gitops.stages import Attempt, BadCommit, deployed
from mergescale.gitops.status import time_json
from mergescale.gitops.trying.proving import Proving
from mergescale.kernel.errors import Refusal
from mergescale.netmap.inventory import revision_of
from mergescale.plan.build import make_plan
from mergescale.plan.gates import Judgement, Limits, judge
from mergescale.plan.model import Plan, effect_of
from mergescale.plan.side import Side, tree_of
from mergescale.state import policies

log = structlog.get_logger()


class GateRefused(HeldBack):
    """Raised when a gate does not let a good commit pass."""

    code = "gitops.gate-refused"


class Frozen(HeldBack):
    """Raised for every commit within a freeze window.

    Attributes:
        until: when it comes into force; None when no end is in sight.
        figures: what it does.
    """

    code = "gitops.frozen"

    def __init__(self, freeze: Freeze, commit: str, figures: str) -> None:
        end = "" if freeze.until is None else f" until {time_json(freeze.until)}"
        why = f": {'; '.join(freeze.reasons)}" if freeze.reasons else ""
        super().__init__(
            "Frozen",
            f"nothing new comes into force{end}{why}",
            help=f'mergescale gitops approve {commit[:12]} --reason "…" lets this one in',
        )
        self.until = freeze.until
        self.figures = figures


@dataclass(frozen=True, slots=True)
class Safeguards:
    """What one tailnet's repository has to pass."""

    limits: Limits = field(default_factory=Limits)
    windows: tuple[Window, ...] = ()


class Proposes(Protocol):
    """Knows the branch; `reconcile.Reconciler`."""

    @property
    def safeguards(self) -> Safeguards:
        """What its commits have to pass."""
        ...

    async def earlier(self, commit: str) -> Found:
        """Return a commit of the branch's history by its id, which may be shortened.

        Raises:
            ReconcileError: there is none that could come into force.
        """
        ...

    @property
    def proving(self) -> Proving:
        """Where its commits are tried, and planned."""
        ...

    async def newest(self) -> str:
        """Return the full id of the newest commit, whatever there is to say about it.

        Raises:
            ReconcileError: the repository does not say.
        """
        ...

    async def proposed(self) -> Found | None:
        """Return the newest commit, from whom it must be; None if it is in force.

        Raises:
            ReconcileError: there is none that could come into force.
        """
        ...


@dataclass(frozen=True, slots=True)
class Passed:
    """A commit that may come into force.

    Attributes:
        figures: one sentence on what it does.
        approval: that let it pass, or would have.
    """

    figures: str
    approval: Approval | None = None


def admit(attempt: Attempt, safeguards: Safeguards, now: datetime) -> Passed:
    """Ask gates and freeze windows about a commit that was compiled.

    Raises:
        GateRefused, Frozen: it does not come into force by itself.
        BadCommit: asking broke; it is not tried again, so that it does not keep the server busy.
        Stalled: the domain says no to it.
    """
    try:
        return _admit(attempt, safeguards, now)
    except ReconcileError:
        raise
    except Refusal as error:
        raise Stalled("Refused", error.message, help=error.help) from error
    except Exception as error:
        log.exception("gitops.gates-broke", commit=attempt.found.commit)
        message = "the server failed to plan this commit"
        raise BadCommit("valid", "InternalError", message) from error


def _admit(attempt: Attempt, safeguards: Safeguards, now: datetime) -> Passed:
    commit, base = attempt.found.commit, attempt.against
    head = proposed(attempt, now)
    judged = judge(base, head, safeguards.limits)
    approval = base.following.approval(commit)
    freeze = freeze_at(safeguards.windows, now)
    if base.deployment is None:
        # A server that never had a policy admits nobody: its first one is not what a freeze is for.
        freeze = None
    if approval is not None and (judged.refusing or freeze is not None):
        if approval.effect and approval.effect != effect_of(plan_of(attempt, now)):
            raise _refused("it does something else than what was approved", commit)
        log.warning(
            "gitops.approval-used",
            tailnet=base.tailnet,
            commit=commit,
            by=approval.by,
            reason=approval.reason,
            gates=[one.gate for one in judged.refusing],
            frozen=freeze is not None,
        )
        return Passed(_figures(judged), approval)
    if judged.refusing:
        said = "; ".join(f"{one.gate}: {one.message}" for one in judged.refusing)
        raise _refused(said, commit)
    if freeze is not None:
        raise Frozen(freeze, commit, _figures(judged))
    return Passed(_figures(judged), approval)


def proposed(attempt: Attempt, now: datetime) -> Snapshot:
    """Return the tailnet as it would be: the very decision, carried out on nothing."""
    deployment = deployed(attempt, now, now)
    decide = policies.replace(deployment, attempt.compiled, attempt.against)
    return decide(attempt.against, now).snapshot


def plan_of(attempt: Attempt, now: datetime, limits: Limits | None = None) -> Plan | None:
    """Return the whole plan of a commit over what is in force; None while nothing is."""
    base = attempt.against
    if base.deployment is None:
        return None
    before = Side(tree_of(base.deployment.files), base.deployment.declaration, base)
    after = Side(tree_of(attempt.found.files), attempt.declared, proposed(attempt, now))
    return make_plan(before, after, revision_of(base), limits)


def planned(verdict: ReconcileError, figures: str) -> tuple[bool | None, str, str]:
    """Return state, reason and message of the condition ``Planned`` of a commit that waits."""
    match verdict:
        case GateRefused():
            return False, verdict.reason, verdict.message
        case Frozen():
            return True, "Planned", verdict.figures
        case HeldBack():
            return True, "Planned", figures
        case _:
            return None, "NotReached", ""


def is_over(verdict: ReconcileError | None, now: datetime) -> bool:
    """Say whether a verdict was for a time that has passed."""
    match verdict:
        case Frozen(until=datetime() as until):
            return until <= now
        case _:
            return False


def left_s(verdict: ReconcileError | None, now: datetime) -> float | None:
    """Return the seconds until `is_over`; None for a verdict that no time changes."""
    match verdict:
        case Frozen(until=datetime() as until):
            return max(0.0, (until - now).total_seconds())
        case _:
            return None


def approvals_json(snapshot: Snapshot) -> list[Mapping[str, Any]]:
    """Return the approvals that wait for their commits, as the API spells them."""
    return [
        {
            "commit": one.commit,
            "by": one.by,
            "reason": one.reason,
            "at": time_json(one.at),
            "bound": bool(one.effect),
        }
        for one in snapshot.following.approvals
    ]


def _figures(judged: Judgement) -> str:
    warned = "".join(f"; {one.message}" for one in judged.findings if not one.refuses)
    return f"{judged.connections}{warned}"


def _refused(message: str, commit: str) -> GateRefused:
    return GateRefused(
        "GateRefused",
        message,
        help=f'fix it in a new commit, or mergescale gitops approve {commit[:12]} --reason "…"',
    )
