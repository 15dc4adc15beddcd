"""The in-memory twin of ``store``'s journal."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime

from mergescale.domain.change import Change
from mergescale.domain.declaration import Deployment
from mergescale.domain.record import Put, Record, RecordKey, Write, key_of
from mergescale.domain.snapshot import Snapshot
from mergescale.kernel.ids import Revision, TailnetName
from mergescale.state.ports import Applied, Batch, Fence, JournalTrimmed, LeaseLost, RevisionMoved


class MemoryJournal:
    """Keeps every batch of every tailnet.

    Attributes:
        fail_next: makes the next commit raise.
        gate: while it is not set, commits wait.
        waiting: how many do.
        trimmed: nobody catches up from before this revision.
        leases: the number under which each lease is held.
    """

    def __init__(self) -> None:
        self.trimmed = Revision(0)
        self.leases: dict[str, int] = {}
        self.batches: dict[TailnetName, list[tuple[Write, ...]]] = {}
        self.fail_next: Exception | None = None
        self.waiting = 0
        self.gate = asyncio.Event()
        self.gate.set()

    async def load(self, tailnet: TailnetName) -> Batch:
        batches = self.batches.setdefault(tailnet, [])
        records: dict[tuple[type, RecordKey], Record] = {}
        for write in (write for batch in batches for write in batch):
            where = type(write.record), key_of(write.record)
            if isinstance(write, Put):
                records.pop(where, None)
                records[where] = write.record
            else:
                records.pop(where, None)
        return Batch(Revision(len(batches)), [Put(record) for record in records.values()])

    async def commit(
        self,
        tailnet: TailnetName,
        base: Revision,
        writes: Sequence[Write],
        now: datetime,
        fences: Collection[Fence] = (),
    ) -> Revision:
        self.waiting += 1
        await self.gate.wait()
        self.waiting -= 1
        if self.fail_next is not None:
            error, self.fail_next = self.fail_next, None
            raise error
        batches = self.batches.setdefault(tailnet, [])
        if base != len(batches):
            raise RevisionMoved("another replica was first")
        if any(self.leases.get(fence.lease) != fence.number for fence in fences):
            raise LeaseLost("the lease is lost")
        batches.append(tuple(writes))
        return Revision(len(batches))

    async def since(self, tailnet: TailnetName, revision: Revision) -> Batch:
        batches = self.batches.setdefault(tailnet, [])
        if revision < self.trimmed:
            raise JournalTrimmed("the journal begins later")
        writes = [write for batch in batches[revision:] for write in batch]
        return Batch(Revision(len(batches)), writes)

    async def history(self, tailnet: TailnetName, limit: int = 50) -> tuple[Applied, ...]:
        told = [
            (Revision(number), write.record)
            for number, batch in enumerate(self.batches.get(tailnet, []), 1)
            for write in batch
            if isinstance(write, Put) and isinstance(write.record, Deployment)
        ]
        return tuple(
            Applied(
                revision,
                one.commit,
                one.subject,
                one.author,
                one.committed,
                one.applied,
                one is told[-1][1],
                one.by,
                one.reason,
                one.approved_by,
                one.approved_because,
                one.verified_by,
                one.until,
            )
            for revision, one in reversed(told[-limit:])
        )

    async def texts(self, tailnet: TailnetName, revision: Revision) -> Mapping[str, str] | None:
        for write in self.batches[tailnet][revision - 1]:
            if isinstance(write.record, Deployment):
                return write.record.files
        return None

    async def heads(self) -> Mapping[TailnetName, Revision]:
        return {name: Revision(len(batches)) for name, batches in self.batches.items()}


class MemoryFeed:
    """Remembers what was published."""

    def __init__(self) -> None:
        self.published: list[tuple[Snapshot, Snapshot, Change]] = []

    def publish(self, before: Snapshot, after: Snapshot, change: Change) -> None:
        self.published.append((before, after, change))
