"""How far what is in force has come: the condition `Delivered`, n of m connected nodes.

It counts maps that were written to streams, at this replica and, by what they say in the journal, at
the others. After a restart no stream holds anything, so nothing is counted before nodes are back.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from datetime import datetime
from typing import Any, Final, Protocol

import structlog

from mergescale.domain.declaration import Deployment
from mergescale.gitops.status import time_json
from mergescale.kernel.clock import Clock
from mergescale.kernel.errors import Refusal
from mergescale.kernel.ids import NodeId
from mergescale.state import deliveries
from mergescale.state.deliveries import Streams, Tally
from mergescale.state.engine import Engine, EngineStopped
from mergescale.state.ports import LeaseLost, StoreUnavailable
from mergescale.state.replica import Seat

log = structlog.get_logger()

#: Its name, among the conditions of `gitops.status`.
DELIVERED: Final = "Delivered"
#: How often streams are counted, and the most often that a replica tells others.
TURN_S: Final = 1.0


class Holds(Protocol):
    """The map streams of this replica; `fanout.hub.Hub`."""

    def nodes(self) -> frozenset[NodeId]:
        """Return whose streams are open."""
        ...

    def holders(self) -> frozenset[NodeId]:
        """Return whose stream was written a map under the deployment in force."""
        ...


class Delivery:
    """Of one tailnet, at this replica. Drive it with `run`.

    Args:
        engine: of the tailnet.
        holds: its streams here.
        seat: this replica's name, and its right to speak under it.
        clock: for the time at which a condition turned.
        told: whether there are other replicas to be told.
    """

    def __init__(
        self, engine: Engine, holds: Holds, seat: Callable[[], Seat], clock: Clock, *, told: bool
    ) -> None:
        self._engine = engine
        self._holds = holds
        self._seat = seat
        self._clock = clock
        self._told = told
        self._counted: Deployment | None = None
        self._complete = False
        self._since: datetime | None = None

    @property
    def undelivered(self) -> int:
        """How many streams of this replica do not hold what is in force."""
        return len(self._holds.nodes()) - len(self._holds.holders())

    def tally(self) -> Tally:
        """Count now."""
        here, streams = self._seat().id, self._streams()
        return deliveries.tally(self._engine.snapshot, here, streams, alone=not self._told)

    def condition(self) -> dict[str, Any]:
        """Return the condition ready for JSON."""
        state, reason, message = self._said()
        return {
            "name": DELIVERED,
            "state": state,
            "reason": reason,
            "message": message,
            "since": time_json(self._since),
        }

    async def run(self) -> None:
        """Count, and tell other replicas, for ever. Cancel it to stop."""
        while True:
            await asyncio.sleep(TURN_S)
            # Whoever cannot say it now says it the next time.
            with contextlib.suppress(StoreUnavailable, LeaseLost, EngineStopped, Refusal):
                await self.turn()

    async def turn(self) -> None:
        """Count once; tell the others if they would count otherwise by it.

        Raises:
            LeaseLost: this replica goes by another name from now on.
            StoreUnavailable: the database did not take it.
            EngineStopped: too late.
        """
        self._said()
        snapshot, seat, streams = self._engine.snapshot, self._seat(), self._streams()
        if not self._told or snapshot.deployment is None:
            return
        if deliveries.is_news(snapshot, seat.id, streams):
            said = deliveries.report(seat.id, snapshot.deployment, streams.holders)
            await self._engine.apply(said, seat.fence)

    def _streams(self) -> Streams:
        return Streams(self._holds.nodes(), self._holds.holders())

    def _said(self) -> tuple[bool | None, str, str]:
        """Return state, reason and message, and note when the state turned."""
        deployment = self._engine.snapshot.deployment
        if deployment is None:
            self._counted, self._since = None, None
            return None, "NotYet", ""
        tally = self.tally()
        if deployment is not self._counted:
            self._counted, self._complete, self._since = deployment, False, deployment.applied
            if not tally.connected:
                self._complete = True
        if tally.complete is not self._complete:
            self._complete, self._since = tally.complete, self._clock.now()
            if tally.complete:
                log.info(
                    "policy.delivered",
                    tailnet=self._engine.snapshot.tailnet,
                    commit=deployment.commit,
                    nodes=tally.reached,
                    offline=tally.offline,
                )
        if not tally.complete:
            return False, "Delivering", str(tally)
        return True, "Delivered" if tally.connected else "NobodyConnected", str(tally)
