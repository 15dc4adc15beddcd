"""An operator lets one commit pass what would hold it back, and says why."""

from __future__ import annotations

import structlog

from mergescale.gitops.errors import ReconcileError
from mergescale.gitops.gates import Proposes
from mergescale.gitops.operators.naming import whole_commit
from mergescale.gitops.planning import next_plan
from mergescale.kernel.clock import Clock
from mergescale.kernel.errors import Conflict, Invalid
from mergescale.plan.model import effect_of
from mergescale.state import following
from mergescale.state.engine import Engine

log = structlog.get_logger()

#: LIMIT: as many digits of a plan's hash as plans show.
_SHORTEST = 12


class Approving:
    """Of one tailnet's repository.

    Args:
        engine: of the tailnet.
        branch: what comes next.
        clock: for plans.
    """

    def __init__(self, engine: Engine, branch: Proposes, clock: Clock) -> None:
        self._engine = engine
        self._branch = branch
        self._clock = clock

    async def approve(
        self, commit: str, *, reason: str, by: str, newest: str, plan: str = ""
    ) -> str:
        """Let one commit pass gates and freeze windows; it passes the other stages as any.

        Args:
            commit: object id; shortened, it names `newest`.
            reason: why.
            by: who says so.
            newest: full id of the branch's newest commit, or empty.
            plan: hash of the plan that was looked at, twelve digits or more; then the commit
                passes only while it does what that plan says. Empty for whatever it does.

        Returns:
            The full id.

        Raises:
            Conflict: it is in force, or its plan is another one by now.
            Invalid: it is no object id, or the hash is too short.
            NotFound: a short id that is not the newest.
            StoreUnavailable: the database did not take it.
        """
        whole = whole_commit(commit, [newest])
        effect = await self._effect(whole, plan) if plan else ""
        await self._engine.apply(following.approve(whole, reason, by, effect))
        log.warning(
            "gitops.approved",
            tailnet=self._engine.snapshot.tailnet,
            by=by,
            reason=reason,
            commit=whole,
            plan=plan or None,
        )
        return whole

    async def _effect(self, commit: str, plan: str) -> str:
        if len(plan) < _SHORTEST:
            raise Invalid(f'"{plan}" is no hash of a plan', help=f"give {_SHORTEST} digits or more")
        try:
            found = await self._branch.proposed()
        except ReconcileError as error:
            raise Conflict(error.message, help=error.help) from error
        if found is None or found.commit != commit:
            raise Conflict(f"{commit[:12]} is not the newest commit that may come into force")
        made = await next_plan(self._branch, found, self._engine.snapshot, self._clock.now())
        if made is None or not made.hash.startswith(plan):
            now = "" if made is None else f"; it is {made.hash[:_SHORTEST]} now"
            raise Conflict(
                f"that is not the plan of {commit[:12]} any more{now}",
                help="the policy in force, the devices or the users moved: look at the plan again",
            )
        return effect_of(made)
