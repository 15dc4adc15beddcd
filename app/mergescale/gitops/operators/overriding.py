"""An operator's own policy in place of the repository's, in an emergency and for a while.

It goes the way of a commit: checked, tested by its own tests, put in force whole or not at all. While
it lasts no commit comes into force, and everything says so. Then what the repository said before comes
back, from the database: neither the remote nor the process that took the override is needed. The
next look brings what was pushed meanwhile.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any, Final

import structlog

from mergescale.domain.change import NOTHING
from mergescale.domain.declaration import fingerprint
from mergescale.domain.record import Drop, Override, Write
from mergescale.domain.snapshot import Snapshot
from mergescale.gitops.errors import Transient
from mergescale.gitops.git.messages import Found
from mergescale.gitops.operators.kept import REACH, found_again
from mergescale.gitops.stages import Attempt, BadCommit, check, compile_policy, deployed
from mergescale.gitops.trying.proving import Proving
from mergescale.kernel.clock import Clock
from mergescale.kernel.errors import Conflict, Invalid, NotFound, Refusal
from mergescale.kernel.ids import Revision
from mergescale.policy.policyfile import with_policy
from mergescale.state import following, policies
from mergescale.state.engine import Engine, EngineStopped
from mergescale.state.outcome import Decision, Outcome, outcome
from mergescale.state.ports import Applied, Fence, LeaseLost, Past, StoreUnavailable

log = structlog.get_logger()

#: What history shows where a commit has its subject.
SUBJECT: Final = "an operator's override"
#: LIMIT: an override that is still wanted after a week belongs into the repository.
LONGEST: Final = timedelta(days=7)
#: How often it is looked for what is over.
TURN_S: Final = 1.0


class Overrides:
    """Of one tailnet that follows a repository.

    Args:
        engine: of the tailnet.
        past: what was in force before.
        clock: for the record, and for when it is over.
        proving: tries policies before.
    """

    def __init__(
        self, engine: Engine, past: Past, clock: Clock, proving: Proving | None = None
    ) -> None:
        self._engine = engine
        self._proving = proving or Proving(engine)
        self._past = past
        self._clock = clock

    async def put(self, text: str, *, reason: str, by: str, lasting: timedelta) -> Override:
        """Put a policy in force in place of the repository's.

        Args:
            text: of the policy file; people, tags, DNS and so on stay as they are.
            reason: why.
            by: who says so.
            lasting: for how long, at most `LONGEST`.

        Raises:
            Conflict: something else came into force meanwhile.
            Invalid: a stage refused it, or it is to last longer; nothing has changed.
            StoreUnavailable: the database was not read or did not take it.
        """
        if not timedelta(0) < lasting <= LONGEST:
            raise Invalid(
                f"an override lasts {LONGEST.days} days at most",
                help="what is needed for longer belongs into the repository",
            )
        snapshot, now = self._engine.snapshot, self._clock.now()
        held = snapshot.deployment
        back = await self._in_force()
        try:
            attempt = await self._proving.prepare(_found(text, snapshot, by, now), snapshot)
        except BadCommit as error:
            raise Invalid(error.message, help="nothing has changed") from None
        except Transient as error:
            raise StoreUnavailable(error.message, help=error.help) from error
        until = now + lasting
        deployment = deployed(attempt, now, now, by=by, reason=reason, until=until)
        override = Override(
            commit=deployment.commit,
            reason=reason,
            by=by,
            since=now,
            until=until,
            back=Revision(0) if back is None else back.revision,
            instead_of="" if held is None or held.of_api else held.commit,
        )
        over = policies.in_force(snapshot)
        decision = policies.replace(deployment, attempt.compiled, attempt.against, over=over)
        try:
            told = await self._engine.apply(following.overriding(decision, override))
        except policies.PolicyMoved as error:
            # Not its own: nobody sent a condition along.
            raise Conflict(error.message, help="see the history and decide again") from error
        log.warning(
            "gitops.overridden",
            tailnet=snapshot.tailnet,
            by=by,
            reason=reason,
            until=until.isoformat(),
            replaced=over,
        )
        return told

    async def end(self, *, by: str, fence: Fence | None = None) -> None:
        """Put back what the repository said before.

        Args:
            by: who says so; empty for the time.
            fence: the lease that this rests on.

        Raises:
            Conflict: there is no override.
            LeaseLost: the lease is somebody else's.
            StoreUnavailable: the database was not read or did not take it.
        """
        snapshot = self._engine.snapshot
        override = snapshot.following.override
        if override is None:
            raise Conflict("nothing is in force in place of the repository's policy")
        decision = await self._coming_back(override, snapshot)
        if await self._engine.apply(following.coming_back(decision, override), fence):
            held = self._engine.snapshot.deployment
            log.warning(
                "gitops.override-ended",
                tailnet=snapshot.tailnet,
                by=by,
                commit="" if held is None else held.commit,
            )

    async def run(self, duties: Callable[[], Fence | None]) -> None:
        """End what is over, for ever, while this replica has the duties. Cancel it to stop."""
        while True:
            await asyncio.sleep(TURN_S)
            fence = duties()
            if fence is not None:
                # What cannot be ended now is ended the next time.
                with contextlib.suppress(StoreUnavailable, LeaseLost, EngineStopped, Refusal):
                    await self.turn(fence)

    async def turn(self, fence: Fence) -> None:
        """End what is over by now: the override, the suspension.

        Raises:
            LeaseLost, StoreUnavailable, Refusal, EngineStopped: it is not ended.
        """
        told, now = self._engine.snapshot.following, self._clock.now()
        if following.has_lapsed(told, now) and await self._engine.apply(following.lapse(), fence):
            log.info("gitops.resumed", tailnet=self._engine.snapshot.tailnet, by="")
        if told.override is not None and told.override.until <= now:
            await self.end(by="", fence=fence)

    async def _in_force(self) -> Applied | None:
        past = await self._past.history(self._engine.snapshot.tailnet, 1)
        return next((one for one in past if one.in_force), None)

    async def _coming_back(self, override: Override, snapshot: Snapshot) -> Decision[Any]:
        """Return the decision that puts back what was in force; it was good then.

        Its tests are not run again: a time that is over is over, whoever came or went meanwhile.
        """
        past = await self._past.history(snapshot.tailnet, REACH)
        kept = next((one for one in past if one.revision == override.back), None)
        if kept is None:
            return _nothing if override.back else _dropped
        try:
            found = await found_again(self._past, snapshot.tailnet, kept)
            attempt = await asyncio.to_thread(_again, found, snapshot)
        except (BadCommit, NotFound) as error:
            # The next look at the branch replaces it, if there is anything better there.
            log.error(  # noqa: TRY400 - its message says it all
                "gitops.override-stays", tailnet=snapshot.tailnet, why=error.message
            )
            return _nothing
        deployment = deployed(
            attempt, kept.committed, self._clock.now(), by=kept.by, reason=kept.reason
        )
        return policies.replace(deployment, attempt.compiled, attempt.against)


def _found(text: str, snapshot: Snapshot, by: str, now: datetime) -> Found:
    held = snapshot.deployment
    return Found(
        commit=fingerprint(text),
        subject=SUBJECT,
        author=by,
        committed_s=int(now.timestamp()),
        descends=True,
        files=with_policy(None if held is None else held.files, text),
        faults=[],
    )


def _again(found: Found, snapshot: Snapshot) -> Attempt:
    return compile_policy(check(Attempt(found, snapshot)))


def _dropped(snapshot: Snapshot, _: datetime) -> Outcome[None]:
    """Nothing was in force before: nobody reaches anybody again."""
    held = snapshot.deployment
    drops: list[Write] = [] if held is None else [Drop(held)]
    return outcome(snapshot, drops, None)


def _nothing(snapshot: Snapshot, _: datetime) -> Outcome[None]:
    return Outcome(snapshot, NOTHING, (), None)
