"""Plans of texts that somebody proposes, over a server's own devices and users.

Nothing is fetched and nothing changes. Work is as long as the policy is large, so it is done in a
thread, and for a tailnet one at a time: a storm of pull requests is no storm of processes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import datetime
from typing import Final

from mergescale.domain.snapshot import Snapshot
from mergescale.gitops.gates import proposed
from mergescale.gitops.git.messages import Found
from mergescale.gitops.stages import Attempt, BadCommit, check, compile_policy
from mergescale.kernel.clock import Clock
from mergescale.kernel.errors import Conflict
from mergescale.netmap.inventory import revision_of
from mergescale.plan.build import Side, make_plan, tree_of
from mergescale.plan.gates import Limits
from mergescale.plan.rendering import PlanRefused, Review
from mergescale.policy.repository import selftest
from mergescale.state.engine import Engine

#: LIMIT: who wait for their turn; each holds megabytes of texts.
_WAITING: Final = 8


class Planner:
    """Of one tailnet.

    Args:
        engine: of the tailnet.
        clock: for what depends on the time.
        limits: of its gates.
    """

    def __init__(self, engine: Engine, clock: Clock, limits: Limits) -> None:
        self._engine = engine
        self._clock = clock
        self._limits = limits
        self._turn = asyncio.Lock()
        self._waiting = 0

    async def review(self, files: Mapping[str, str], base: Mapping[str, str] | None) -> Review:
        """Compare texts with what is in force.

        Args:
            files: path in the watched folder -> text.
            base: texts to compare with instead.

        Raises:
            PlanRefused: one of them is no policy.
            Conflict: nothing is in force and no base is given, or too many plans are asked for.
        """
        if self._waiting >= _WAITING:
            raise Conflict("too many plans are being made at the moment", help="ask again later")
        self._waiting += 1
        try:
            async with self._turn:
                snapshot, now = self._engine.snapshot, self._clock.now()
                return await asyncio.to_thread(self._review, snapshot, files, base, now)
        finally:
            self._waiting -= 1

    def _review(
        self,
        snapshot: Snapshot,
        files: Mapping[str, str],
        base: Mapping[str, str] | None,
        now: datetime,
    ) -> Review:
        if base is not None:
            attempt = _attempt("base", base, snapshot)
            before = Side(tree_of(base), attempt.declared, proposed(attempt, now))
        elif (held := snapshot.deployment) is not None:
            before = Side(tree_of(held.files), held.declaration, snapshot)
        else:
            raise Conflict("nothing is in force to compare with", help='send a "base" too')
        attempt = _attempt("files", files, snapshot)
        after = Side(tree_of(files), attempt.declared, proposed(attempt, now))
        plan = make_plan(before, after, revision_of(snapshot), self._limits)
        tested = selftest(attempt.declared, after.snapshot)
        return Review(plan, attempt.diagnostics, tested, files)


def _attempt(which: str, files: Mapping[str, str], snapshot: Snapshot) -> Attempt:
    found = Found(
        commit="",
        subject="",
        author="",
        committed_s=0,
        descends=True,
        files=dict(files),
        faults=[],
    )
    try:
        return compile_policy(check(Attempt(found, snapshot)))
    except BadCommit as error:
        wrong = [one.diagnostic for one in error.problems]
        raise PlanRefused(f'"{which}" are no policy: {error.message}', wrong, files) from None
