"""What the engine needs from the outside."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from mergescale.domain.change import Change
from mergescale.domain.record import Write
from mergescale.domain.snapshot import Snapshot
from mergescale.kernel.errors import MergescaleError
from mergescale.kernel.ids import Revision, TailnetName


class RevisionMoved(MergescaleError):
    """Raised when another replica committed first; read the journal and decide again."""

    code = "journal.moved"


class StoreUnavailable(MergescaleError):
    """Raised when the database did not take the write; nothing was changed."""

    code = "store.unavailable"


class StoreConflict(StoreUnavailable):
    """Raised when a constraint refused the write; nothing was changed.

    What the snapshot knows, decisions check. This is about what it cannot know: a node key or a
    stable id that another tailnet of the same database has.
    """

    code = "store.conflict"


@dataclass(frozen=True, slots=True)
class Batch:
    """Writes that take a snapshot from one revision to another."""

    revision: Revision
    writes: Sequence[Write]


class Journal(Protocol):
    """The durable truth of all tailnets."""

    async def load(self, tailnet: TailnetName) -> Batch:
        """Return everything stored of a tailnet as writes on an empty snapshot.

        A tailnet seen for the first time is created and has revision 0.

        Raises:
            StoreUnavailable: the database could not be read.
        """
        ...

    async def commit(
        self, tailnet: TailnetName, base: Revision, writes: Sequence[Write], now: datetime
    ) -> Revision:
        """Write all of it and one journal row in one transaction; return the new revision.

        Raises:
            RevisionMoved: the tailnet is no longer at `base`; nothing was written.
            StoreConflict: some write of the batch cannot be; nothing was written.
            StoreUnavailable: nothing was written.
        """
        ...

    async def since(self, tailnet: TailnetName, revision: Revision) -> Batch:
        """Return what takes a snapshot at `revision` to the newest one.

        Raises:
            StoreUnavailable: the database could not be read.
        """
        ...


class Feed(Protocol):
    """Who is told after each committed batch."""

    def publish(self, before: Snapshot, after: Snapshot, change: Change) -> None:
        """Take note; must not block and must not raise."""
        ...
