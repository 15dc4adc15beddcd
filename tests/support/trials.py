"""In-memory twin of ``gitops.trying.containment.Trials``: a compiler that survives what it is told to."""

from __future__ import annotations

import asyncio

from mergescale.domain.snapshot import Snapshot
from mergescale.gitops.errors import ReconcileError
from mergescale.gitops.git.messages import Found
from mergescale.gitops.trying.containment import Task


class MemoryTrials:
    """Survives everything at first.

    Attributes:
        runs: the commits that were tried.
        works: what else was done.
        harm: raised by every trial while it is set.
        gate: trials wait here; open unless a test closes it.
    """

    def __init__(self) -> None:
        self.runs: list[str] = []
        self.works: list[Task] = []
        self.harm: ReconcileError | None = None
        self.gate = asyncio.Event()
        self.gate.set()
        self.closed = False

    def warm(self, snapshot: Snapshot) -> None:
        del snapshot

    async def run(self, found: Found, against: Snapshot) -> None:
        del against
        self.runs.append(found.commit)
        await self.gate.wait()
        if self.harm is not None:
            raise self.harm

    async def work(self, task: Task, against: Snapshot) -> bytes:
        self.works.append(task)
        await self.gate.wait()
        if self.harm is not None:
            raise self.harm
        return task.carry_out(against)

    def close(self) -> None:
        self.closed = True
