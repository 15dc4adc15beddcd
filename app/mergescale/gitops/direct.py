"""A policy that comes over the API instead of with a commit: the same stages, the same record.

For tailnets that follow no repository and whose operators allowed it.
"""

from __future__ import annotations

from typing import Final

import structlog

from mergescale.domain.declaration import Deployment, fingerprint
from mergescale.gitops.errors import Transient
from mergescale.gitops.git.messages import Found
from mergescale.gitops.stages import Attempt
from mergescale.gitops.trying.proving import Proving
from mergescale.kernel.clock import Clock
from mergescale.policy.policyfile import with_policy
from mergescale.state import policies
from mergescale.state.engine import Engine
from mergescale.state.ports import StoreUnavailable

log = structlog.get_logger()

#: What history shows where a commit has its subject.
SUBJECT: Final = "set over the API"


class Direct:
    """Brings policies of one tailnet into force as they are given.

    Args:
        engine: of the tailnet.
        clock: for the record.
        proving: tries them before.
    """

    def __init__(self, engine: Engine, clock: Clock, proving: Proving | None = None) -> None:
        self._engine = engine
        self._proving = proving or Proving(engine)
        self._clock = clock

    async def put(self, text: str, *, author: str, over: str | None) -> Attempt:
        """Put a policy in force, at once and whole or not at all.

        Args:
            text: of the policy file; the files beside it stay as they are.
            author: who sent it, for the record.
            over: `state.policies.in_force` that it replaces, None for whatever it is.

        Raises:
            BadCommit: a stage refused it, or the compiler did not survive it.
            PolicyMoved: something else than `over` is in force.
            StoreUnavailable: it could not be tried, or the database did not take it.
            EngineStopped: too late.
        """
        snapshot, now = self._engine.snapshot, self._clock.now()
        held = snapshot.deployment
        found = Found(
            commit=fingerprint(text),
            subject=SUBJECT,
            author=author,
            committed_s=int(now.timestamp()),
            descends=True,
            files=with_policy(None if held is None else held.files, text),
            faults=[],
        )
        try:
            attempt = await self._proving.prepare(found, snapshot)
        except Transient as error:
            raise StoreUnavailable(error.message, help=error.help) from error
        deployment = Deployment(
            commit=found.commit,
            files=found.files,
            subject=found.subject,
            author=author,
            committed=now,
            applied=now,
            declaration=attempt.declared,
        )
        decide = policies.replace(deployment, attempt.compiled, attempt.against, over=over)
        await self._engine.apply(decide)
        log.info(
            "policy.set",
            tailnet=snapshot.tailnet,
            by=author,
            commit=found.commit,
            replaced="" if held is None else held.commit,
        )
        return attempt
