"""What takes policies over the API, where operators allowed it, and what plans them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mergescale.api.callers import PolicyRefused
from mergescale.gitops.direct import Direct
from mergescale.gitops.planning import Planner
from mergescale.gitops.stages import BadCommit
from mergescale.kernel.ids import TailnetName
from mergescale.plan.gates import Limits
from mergescale.server.tailnet import Parts


@dataclass(frozen=True, slots=True)
class Desk:
    """Hands policies on to ``gitops``; `api.callers.PolicyDesk`."""

    direct: Direct

    async def put(self, text: str, *, author: str, over: str | None) -> None:
        """Put a policy in force; see `Direct.put`."""
        try:
            await self.direct.put(text, author=author, over=over)
        except BadCommit as error:
            found = [one.diagnostic for one in error.problems]
            raise PolicyRefused(error.message, found) from None


def desks(parts: Sequence[Parts]) -> Mapping[TailnetName, Desk]:
    """Return a desk for each tailnet that follows no repository."""
    return {
        part.engine.snapshot.tailnet: Desk(Direct(part.engine, part.clock, part.proving))
        for part in parts
        if part.watcher is None
    }


def planners(parts: Sequence[Parts]) -> Mapping[TailnetName, Planner]:
    """Return what plans proposed texts, for each tailnet; with the gates of its repository."""
    return {
        part.engine.snapshot.tailnet: Planner(
            part.engine,
            part.clock,
            Limits() if part.watcher is None else part.watcher.safeguards.limits,
            part.proving,
        )
        for part in parts
    }
