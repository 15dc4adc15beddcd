"""What operators do about a followed repository: look back, go back, hold still, go on.

Any replica does all of it, through the tailnet's journal: what is wanted outlives a restart and is
what every replica finds. Going back needs neither the remote nor the replica that follows it; the
texts of what was in force are in the database and are read again with today's compiler.
"""

from __future__ import annotations

import asyncio
import dataclasses
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import structlog

from mergescale.domain.declaration import Deployment
from mergescale.domain.snapshot import Snapshot
from mergescale.gitops.approving import Approving
from mergescale.gitops.errors import ReconcileError
from mergescale.gitops.gates import Proposes, plan_of, proposed
from mergescale.gitops.messages import Found
from mergescale.gitops.naming import checked, one_of, whole_commit
from mergescale.gitops.stages import Attempt, BadCommit, check, compile_policy, prepare
from mergescale.gitops.status import CommitInfo, commit_json, time_json
from mergescale.kernel.clock import Clock
from mergescale.kernel.errors import Conflict, Invalid, NotFound
from mergescale.kernel.ids import TailnetName
from mergescale.netmap.inventory import revision_of
from mergescale.plan.build import Side, make_plan, tree_of
from mergescale.plan.model import Plan
from mergescale.state import following, policies
from mergescale.state.engine import Engine
from mergescale.state.ports import Applied, Past

log = structlog.get_logger()

#: LIMIT: deployments that are searched for a commit; as many as the store keeps.
_REACH: Final = 200


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
        return f"git revert --no-edit {self.after.commit[:12]}..{self.before.commit[:12]}"

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
    """

    def __init__(self, engine: Engine, past: Past, branch: Proposes, clock: Clock) -> None:
        self._engine = engine
        self._past = past
        self._branch = branch
        self._clock = clock
        self.approving = Approving(engine, branch, clock)

    async def history(self, limit: int) -> list[dict[str, Any]]:
        """Return what was in force, newest first, ready for JSON.

        Raises:
            StoreUnavailable: the database could not be read.
        """
        past = await self._past.history(self._tailnet, limit)
        return [_applied(one) for one in past]

    async def suspend(self, *, reason: str, by: str) -> None:
        """Let no commit of the branch come into force by itself.

        Raises:
            StoreUnavailable: the database did not take it.
        """
        await self._engine.apply(following.suspend(reason, by))
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

    async def rollback(self, commit: str, *, reason: str, by: str) -> RolledBack:
        """Put what was in force back in force, suspend, and skip what it replaces.

        All of it is one transaction, or nothing changes.

        Raises:
            Conflict: it is in force, or something else came into force meanwhile.
            Invalid: its texts are not acceptable to this version, or fail their tests today.
            NotFound: no deployment of that commit is kept.
            StoreUnavailable: the database was not read or did not take it.
        """
        past = await self._past.history(self._tailnet, _REACH)
        kept, snapshot = _chosen(past, commit), self._engine.snapshot
        held = snapshot.deployment
        if held is not None and held.commit == kept.commit:
            raise Conflict(f"{kept.commit[:12]} is in force")
        found = await self._found(kept)
        try:
            attempt = await asyncio.to_thread(prepare, found, snapshot)
        except BadCommit as error:
            message = f"{kept.commit[:12]} cannot be put in force again: {error.message}"
            raise Invalid(message, help="nothing has changed") from None
        deployment = _deployment(attempt, kept.committed, self._clock.now())
        deployment = dataclasses.replace(deployment, by=by, reason=reason)
        over = policies.in_force(snapshot)
        decision = policies.replace(deployment, attempt.compiled, attempt.against, over=over)
        try:
            await self._engine.apply(following.rolling_back(decision, kept.commit, reason, by))
        except policies.PolicyMoved as error:
            # Not its own: nobody sent a condition along.
            raise Conflict(error.message, help="see the history and decide again") from error
        log.info(
            "gitops.rolled-back",
            tailnet=self._tailnet,
            by=by,
            reason=reason,
            commit=kept.commit,
            replaced=over,
        )
        newest = next((one.revision for one in past if one.commit == over), kept.revision)
        before = None if held is None else _info(held)
        return RolledBack(before, _info(deployment), forward=newest < kept.revision)

    async def diff(self, base: str, head: str) -> Plan:
        """Compare two commits that were in force, over the tailnet as it is now.

        Raises:
            Invalid: one of them is not acceptable to this version.
            NotFound: no deployment of that commit is kept.
            StoreUnavailable: the database could not be read.
        """
        past, snapshot = await self._past.history(self._tailnet, _REACH), self._engine.snapshot
        kept = [_chosen(past, one) for one in (base, head)]
        found = [await self._found(one) for one in kept]
        return await asyncio.to_thread(_compared, found, snapshot, self._clock.now())

    async def next_plan(self) -> Plan | None:
        """Say what following the branch would do now; None if its newest commit is in force.

        Raises:
            Conflict: the branch has nothing that could come into force.
        """
        try:
            attempt = await self._branch.proposed()
        except ReconcileError as error:
            raise Conflict(error.message, help=error.help) from error
        held = self._engine.snapshot.deployment
        if attempt is None or held is None:
            return None
        newest = attempt.found.commit
        if newest in self._engine.snapshot.following.skipped:
            raise Conflict(f"the newest commit, {newest[:12]}, was rolled back and is skipped")
        limits = self._branch.safeguards.limits
        return await asyncio.to_thread(plan_of, attempt, self._clock.now(), limits)

    @property
    def _tailnet(self) -> TailnetName:
        return self._engine.snapshot.tailnet

    async def _found(self, kept: Applied) -> Found:
        """Return a deployment of the past as if it had been fetched."""
        files = await self._past.texts(self._tailnet, kept.revision)
        if files is None:
            raise NotFound(f"the texts of {kept.commit[:12]} are not kept any more")
        return Found(
            commit=kept.commit,
            subject=kept.subject,
            author=kept.author,
            committed_s=int(kept.committed.timestamp()),
            descends=True,
            files=dict(files),
            faults=[],
        )


def _chosen(past: tuple[Applied, ...], commit: str) -> Applied:
    """Return the newest deployment of a commit."""
    checked(commit)
    whole = one_of({one.commit for one in past if one.commit.startswith(commit)}, commit)
    for one in past:
        if one.commit == whole:
            return one
    raise NotFound(f'"{commit}" was not in force', help="see mergescale gitops history")


def _compared(found: list[Found], snapshot: Snapshot, now: datetime) -> Plan:
    try:
        attempts = [compile_policy(check(Attempt(one, snapshot))) for one in found]
    except BadCommit as error:
        raise Invalid(f"this version cannot read it: {error.message}") from None
    base, head = (
        Side(tree_of(one.found.files), one.declared, proposed(one, now)) for one in attempts
    )
    return make_plan(base, head, revision_of(snapshot))


def _deployment(attempt: Attempt, committed: datetime, now: datetime) -> Deployment:
    found = attempt.found
    return Deployment(
        commit=found.commit,
        files=found.files,
        subject=found.subject,
        author=found.author,
        committed=committed,
        applied=now,
        declaration=attempt.declared,
    )


def _info(deployment: Deployment) -> CommitInfo:
    return CommitInfo(
        deployment.commit, deployment.subject, deployment.author, deployment.committed
    )


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
        "inForce": one.in_force,
    }
