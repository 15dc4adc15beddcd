"""What operators do about a followed repository: look back, go back, hold still, go on.

Any replica does all of it, through the tailnet's journal: what is wanted outlives a restart and is
what every replica finds. Going back needs neither the remote nor the replica that follows it; the
texts of what was in force are in the database and are read again with today's compiler.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import structlog

from mergescale.domain.declaration import Deployment
from mergescale.domain.snapshot import Snapshot
from mergescale.gitops.errors import ReconcileError, Transient
from mergescale.gitops.gates import Proposes
from mergescale.gitops.git.messages import Found
from mergescale.gitops.operators.approving import Approving
from mergescale.gitops.operators.kept import (
    REACH,
    chosen,
    commit_of,
    found_again,
)
from mergescale.gitops.operators.naming import checked, whole_commit
from mergescale.gitops.operators.overriding import Overrides
from mergescale.gitops.planning import Comparison, compare, next_plan
from mergescale.gitops.stages import Attempt, BadCommit, committed_of, deployed, prepare
from mergescale.gitops.status import CommitInfo, commit_json, time_json
from mergescale.kernel.clock import Clock
from mergescale.kernel.errors import Conflict, Invalid
from mergescale.kernel.ids import TailnetName
from mergescale.plan.model import Plan
from mergescale.state import following, policies
from mergescale.state.engine import Engine
from mergescale.state.outcome import Decision
from mergescale.state.ports import Applied, Past, StoreUnavailable

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class RolledBack:
    """What a rollback did.

    Attributes:
        before: what it replaced; None for nothing.
        after: what is in force now.
        forward: whether what is in force now came into force later than what it replaced.
    """

    before: CommitInfo | None
    after: CommitInfo
    forward: bool

    @property
    def revert(self) -> str:
        """The command that makes the branch say so too; empty if it needs none."""
        if self.before is None or self.forward:
            return ""
        # Pull requests come as merges: of these the branch's own side is what stays.
        commits = f"{self.after.commit[:12]}..{self.before.commit[:12]}"
        return f"git revert --no-edit -m 1 --first-parent {commits}"

    def as_json(self) -> dict[str, Any]:
        """Return it as the API spells it."""
        return {
            "before": commit_json(self.before),
            "after": commit_json(self.after),
            "revert": self.revert,
        }


class Steering:
    """Of one tailnet's repository.

    Args:
        engine: of the tailnet.
        past: what was in force before.
        branch: what comes next.
        clock: for the record.

    Attributes:
        approving: lets a commit pass gates and freeze windows.
        overrides: what is in force in place of the branch's.
    """

    def __init__(self, engine: Engine, past: Past, branch: Proposes, clock: Clock) -> None:
        self._engine = engine
        self._past = past
        self._branch = branch
        self._clock = clock
        self.approving = Approving(engine, branch, clock)
        self.overrides = Overrides(engine, past, clock, branch.proving)

    async def history(self, limit: int) -> list[dict[str, Any]]:
        """Return what was in force, newest first, ready for JSON.

        Raises:
            StoreUnavailable: the database could not be read.
        """
        past = await self._past.history(self._tailnet, limit)
        return [_applied(one) for one in past]

    async def suspend(self, *, reason: str, by: str, lasting: timedelta | None = None) -> None:
        """Let no commit of the branch come into force by itself.

        Args:
            reason: why.
            by: who says so.
            lasting: for how long; None until somebody resumes.

        Raises:
            StoreUnavailable: the database did not take it.
        """
        await self._engine.apply(following.suspend(reason, by, lasting))
        log.info("gitops.suspended", tailnet=self._tailnet, by=by, reason=reason)

    async def resume(self, *, by: str) -> None:
        """Let the newest good commit come into force again.

        Raises:
            Conflict: nothing is suspended.
            StoreUnavailable: the database did not take it.
        """
        await self._engine.apply(following.resume())
        log.info("gitops.resumed", tailnet=self._tailnet, by=by)

    async def accept(self, commit: str, *, by: str, newest: str) -> str:
        """Let one commit come into force although it rewrites the history or is skipped.

        Args:
            commit: object id; shortened, it names `newest` or one that is skipped.
            by: who says so.
            newest: full id of the branch's newest commit, or empty.

        Returns:
            The full id.

        Raises:
            Invalid: it is no object id.
            NotFound: a short one that names neither.
        """
        whole = whole_commit(commit, [newest, *self._engine.snapshot.following.skipped])
        await self._engine.apply(following.accept(whole))
        log.info("gitops.accepted", tailnet=self._tailnet, by=by, commit=whole)
        return whole

    async def pin(self, commit: str, *, reason: str, by: str) -> str:
        """Put one commit in force and keep it there; newer ones wait until somebody resumes.

        Args:
            commit: one that was in force, or of the branch's history; its id may be shortened.
            reason: why.
            by: who says so.

        Returns:
            The full id.

        Raises:
            Conflict: it is neither, or ambiguous; or something else came into force meanwhile.
            Invalid: it is not acceptable to this version, or fails its tests today.
            StoreUnavailable: the database was not read or did not take it.
        """
        snapshot = self._engine.snapshot
        found = await self._wanted(checked(commit))
        decision = None
        if found.commit != policies.in_force(snapshot):
            # Nobody may have tried it yet, as it may be any of the branch's history.
            trying = self._branch.proving.prepare(found, snapshot)
            deployment, attempt = await self._prepared(trying, found, by=by, reason=reason)
            decision = _over(deployment, attempt, snapshot)
        try:
            await self._engine.apply(following.pin(decision, found.commit, reason, by))
        except policies.PolicyMoved as error:
            raise _moved(error) from error
        log.info("gitops.pinned", tailnet=self._tailnet, by=by, reason=reason, commit=found.commit)
        return found.commit

    async def rollback(self, commit: str, *, reason: str, by: str) -> RolledBack:
        """Put what was in force back in force, suspend, and skip what it replaces.

        All of it is one transaction, or nothing changes.

        Raises:
            Conflict: it is in force, or something else came into force meanwhile.
            Invalid: its texts are not acceptable to this version, or fail their tests today.
            NotFound: no deployment of that commit is kept.
            StoreUnavailable: the database was not read or did not take it.
        """
        past = await self._past.history(self._tailnet, REACH)
        kept, snapshot = commit_of(past, commit), self._engine.snapshot
        held, over = snapshot.deployment, policies.in_force(snapshot)
        if over == kept.commit:
            raise Conflict(f"{kept.commit[:12]} is in force")
        found = await found_again(self._past, self._tailnet, kept)
        # The compiler survived it before. In an emergency nothing else is to be needed: no process.
        reading = asyncio.to_thread(prepare, found, snapshot)
        deployment, attempt = await self._prepared(reading, found, by=by, reason=reason)
        decision = _over(deployment, attempt, snapshot)
        try:
            await self._engine.apply(following.rolling_back(decision, kept.commit, reason, by))
        except policies.PolicyMoved as error:
            raise _moved(error) from error
        log.info(
            "gitops.rolled-back",
            tailnet=self._tailnet,
            by=by,
            reason=reason,
            commit=kept.commit,
            replaced=over,
        )
        newest = next((one.revision for one in past if one.commit == over), kept.revision)
        before = None if held is None or held.of_api else CommitInfo.of(held)
        return RolledBack(before, CommitInfo.of(deployment), forward=newest < kept.revision)

    async def diff(self, base: str, head: str) -> Plan:
        """Compare two commits that were in force, over the tailnet as it is now.

        Raises:
            Invalid: one of them is not acceptable to this version, or it is too much work.
            NotFound: no deployment of that commit is kept.
            StoreUnavailable: the database could not be read.
        """
        past, snapshot = await self._past.history(self._tailnet, REACH), self._engine.snapshot
        kept = [chosen(past, one) for one in (base, head)]
        was, now = [await found_again(self._past, self._tailnet, one) for one in kept]
        texts = Comparison(now.files, was.files, self._clock.now(), None)
        return (await compare(self._branch.proving, snapshot, texts)).plan

    async def next_plan(self) -> Plan | None:
        """Say what following the branch would do now; None if its newest commit is in force.

        Raises:
            Conflict: the branch has nothing that could come into force, or to say what it would do
                is too much work.
            StoreUnavailable: that could not be begun.
        """
        try:
            found = await self._branch.proposed()
        except ReconcileError as error:
            raise Conflict(error.message, help=error.help) from error
        snapshot = self._engine.snapshot
        if found is None or snapshot.deployment is None:
            return None
        if found.commit in snapshot.following.skipped:
            raise Conflict(
                f"the newest commit, {found.commit[:12]}, was rolled back and is skipped"
            )
        return await next_plan(self._branch, found, snapshot, self._clock.now())

    async def newest_with(self, commit: str) -> str:
        """Return the full id of the branch's newest commit, as far as it brings this one.

        Raises:
            Conflict: the branch does not, or cannot be looked at.
            Invalid: it is no object id.
        """
        try:
            await self._branch.earlier(checked(commit))
            # Asked for afterwards, so whatever was pushed meanwhile brings it too.
            return await self._branch.newest()
        except ReconcileError as error:
            raise Conflict(error.message, help=error.help) from error

    @property
    def _tailnet(self) -> TailnetName:
        return self._engine.snapshot.tailnet

    async def _wanted(self, commit: str) -> Found:
        """Return a commit that was in force, or one of the branch's history."""
        past = await self._past.history(self._tailnet, REACH)
        if any(one.commit.startswith(commit) for one in past):
            return await found_again(self._past, self._tailnet, commit_of(past, commit))
        try:
            return await self._branch.earlier(commit)
        except ReconcileError as error:
            raise Conflict(error.message, help=error.help) from error

    async def _prepared(
        self, attempting: Awaitable[Attempt], found: Found, *, by: str, reason: str
    ) -> tuple[Deployment, Attempt]:
        """Take a commit through the stages for an operator."""
        try:
            attempt = await attempting
        except BadCommit as error:
            message = f"{found.commit[:12]} cannot be put in force again: {error.message}"
            raise Invalid(message, help="nothing has changed") from None
        except Transient as error:
            raise StoreUnavailable(error.message, help=error.help) from error
        committed, now = committed_of(found), self._clock.now()
        return deployed(attempt, committed, now, by=by, reason=reason), attempt


def _over(deployment: Deployment, attempt: Attempt, snapshot: Snapshot) -> Decision[Any]:
    """Return the decision that replaces what is in force in the snapshot, and nothing else."""
    over = policies.in_force(snapshot)
    return policies.replace(deployment, attempt.compiled, attempt.against, over=over)


def _moved(error: policies.PolicyMoved) -> Conflict:
    """Return the same as no condition that somebody sent along: nobody did."""
    return Conflict(error.message, help="see the history and decide again")


def _applied(one: Applied) -> dict[str, Any]:
    return {
        "commit": one.commit,
        "subject": one.subject,
        "author": one.author,
        "committed": time_json(one.committed),
        "applied": time_json(one.applied),
        "appliedBy": one.by or None,
        "reason": one.reason or None,
        "approvedBy": one.approved_by or None,
        "approvedBecause": one.approved_because or None,
        "verifiedBy": list(one.verified_by),
        "until": time_json(one.until),
        "inForce": one.in_force,
    }
