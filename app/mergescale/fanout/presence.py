"""Turns streams that open and close into presence decisions.

A client that reconnects within the grace period never appears offline. What is wanted for a node
is one value, not a queue: however often it flaps while the database is slow, one decision at a
time is under way for it, and the last wish wins.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final

from mergescale.fanout.timers import Handle, Timers
from mergescale.kernel.errors import Refusal
from mergescale.kernel.ids import NodeId
from mergescale.state.engine import EngineStopped
from mergescale.state.ports import StoreUnavailable

#: How long a node may be without a stream before it is offline (spec 4.1).
GRACE_S: Final = 10.0
#: How long to wait before a decision that the database did not take is submitted again.
RETRY_S: Final = 1.0
#: LIMIT: decisions under way at once; the engine commits them together.
_AT_ONCE: Final = 256

#: Carries out "this node is (not) connected here"; raises Refusal for a node that is gone.
Submit = Callable[[NodeId, bool], Awaitable[object]]


class Presence:
    """Watches the streams of one tailnet; implements `hub.Attendance`. Drive it with `run`."""

    def __init__(self, submit: Submit, timers: Timers, *, grace_s: float = GRACE_S) -> None:
        self._submit = submit
        self._timers = timers
        self._grace_s = grace_s
        self._leaving: dict[NodeId, Handle] = {}
        self._wishes: dict[NodeId, bool] = {}
        self._due: set[NodeId] = set()
        self._wake = asyncio.Event()
        self._stopped = False

    def opened(self, node: NodeId) -> None:
        """Make the node online, or keep it so if it left only just now."""
        leaving = self._leaving.pop(node, None)
        if leaving is None:
            self._want(node, connected=True)
        else:
            leaving.cancel()

    def closed(self, node: NodeId) -> None:
        """Make the node offline unless it comes back within the grace period."""
        self._leaving[node] = self._timers.call_later(self._grace_s, partial(self._leave, node))

    def repeat(self) -> None:
        """Submit again what is wanted for every node: what was told before was taken back."""
        self._due.update(self._wishes)
        self._wake.set()

    async def run(self) -> None:
        """Carry out what is wanted, until `stop`."""
        while not self._stopped:
            await self._wake.wait()
            self._wake.clear()
            while self._due and not self._stopped:
                await self._carry_out_some()

    def stop(self) -> None:
        """Let `run` return; nothing more is submitted.

        Who is connected stays as it was told: after a restart the nodes come back, and those
        that do not are cleared when this replica's lease lapses.
        """
        self._stopped = True
        for handle in self._leaving.values():
            handle.cancel()
        self._leaving.clear()
        self._wake.set()

    def _leave(self, node: NodeId) -> None:
        del self._leaving[node]
        self._want(node, connected=False)

    def _want(self, node: NodeId, *, connected: bool) -> None:
        self._wishes[node] = connected
        self._submit_soon(node)

    def _submit_soon(self, node: NodeId) -> None:
        self._due.add(node)
        self._wake.set()

    async def _carry_out_some(self) -> None:
        batch = [self._due.pop() for _ in range(min(_AT_ONCE, len(self._due)))]
        async with asyncio.TaskGroup() as group:
            for node in batch:
                group.create_task(self._carry_out(node))

    async def _carry_out(self, node: NodeId) -> None:
        connected = self._wishes.get(node)
        if connected is None:
            return
        try:
            await self._submit(node, connected)
        except StoreUnavailable:
            self._timers.call_later(RETRY_S, partial(self._submit_soon, node))
        except Refusal:
            # The node was deleted meanwhile: it is neither online nor offline.
            self._wishes.pop(node, None)
        except EngineStopped:
            self.stop()
        else:
            if not connected and not self._wishes.get(node):
                self._wishes.pop(node, None)
