"""What the engine needs from the outside."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from mergescale.domain.change import Change
from mergescale.domain.record import Write
from mergescale.domain.snapshot import Snapshot
from mergescale.kernel.errors import MergescaleError
from mergescale.kernel.ids import ReplicaId, Revision, TailnetName


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


class LeaseLost(StoreUnavailable):
    """Raised when a write rests on a lease that somebody else holds by now; nothing was changed."""

    code = "lease.lost"


class JournalTrimmed(StoreUnavailable):
    """Raised when a replica is too far behind, or ahead, to catch up; it must load anew."""

    code = "journal.trimmed"


@dataclass(frozen=True, slots=True)
class Fence:
    """Proof of having held a lease.

    INVARIANT(fenced): whoever takes the lease next gets a higher number, and a write that carries
    an older one is refused inside its transaction. However long a holder slept, it cannot write
    as one afterwards.

    Attributes:
        lease: its name.
        number: how often it has changed hands.
    """

    lease: str
    number: int


@dataclass(frozen=True, slots=True)
class Batch:
    """Writes that take a snapshot from one revision to another."""

    revision: Revision
    writes: Sequence[Write]


@dataclass(frozen=True, slots=True)
class Applied:
    """One deployment of the past.

    Attributes:
        commit: full hex object id.
        in_force: whether it is the one in force now.
        by, reason, until, approved_by, approved_because, verified_by: as in `Deployment`.
    """

    revision: Revision
    commit: str
    subject: str
    author: str
    committed: datetime
    applied: datetime
    in_force: bool
    by: str = ""
    reason: str = ""
    approved_by: str = ""
    approved_because: str = ""
    verified_by: tuple[str, ...] = ()
    until: datetime | None = None


class Past(Protocol):
    """What was in force before; the texts stay for as long as the history reaches."""

    async def history(self, tailnet: TailnetName, limit: int = 50) -> tuple[Applied, ...]:
        """Return the newest deployments, newest first.

        Raises:
            StoreUnavailable: nothing could be read.
        """
        ...

    async def texts(self, tailnet: TailnetName, revision: Revision) -> Mapping[str, str] | None:
        """Return the files of the deployment of a revision, None if it is not kept (any more).

        Raises:
            StoreUnavailable: nothing could be read.
        """
        ...


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
        self,
        tailnet: TailnetName,
        base: Revision,
        writes: Sequence[Write],
        now: datetime,
        fences: Collection[Fence] = (),
    ) -> Revision:
        """Write all of it and one journal row in one transaction; return the new revision.

        Raises:
            RevisionMoved: the tailnet is no longer at `base`; nothing was written.
            LeaseLost: one of `fences` is not the newest of its lease; nothing was written.
            StoreConflict: some write of the batch cannot be; nothing was written.
            StoreUnavailable: nothing was written.
        """
        ...

    async def since(self, tailnet: TailnetName, revision: Revision) -> Batch:
        """Return what takes a snapshot at `revision` to the newest one.

        Raises:
            JournalTrimmed: the journal does not lead from there to the newest revision.
            StoreUnavailable: the database could not be read.
        """
        ...

    async def heads(self) -> Mapping[TailnetName, Revision]:
        """Return the newest revision of every tailnet.

        Raises:
            StoreUnavailable: the database could not be read.
        """
        ...


class Leases(Protocol):
    """Who may do what only one may do, and which replicas are alive: one mechanism for both.

    A lease has a name and lasts for some seconds of the database's clock unless it is renewed.
    """

    async def acquire(self, lease: str, holder: ReplicaId, lasts_s: float) -> Fence | None:
        """Take a lease that is free, lapsed or `holder`'s own; None when somebody else's stands.

        Raises:
            StoreUnavailable: the database did not answer.
        """
        ...

    async def renew(self, fence: Fence, lasts_s: float) -> bool:
        """Let it last that long from now; False when it is lost.

        A lapsed lease that nobody took is renewed as well.

        Raises:
            StoreUnavailable: the database did not answer.
        """
        ...

    async def release(self, fence: Fence) -> None:
        """Let the next one have it at once; nothing happens when it is lost already.

        Raises:
            StoreUnavailable: the database did not answer.
        """
        ...

    async def living(self) -> frozenset[ReplicaId]:
        """Return the replicas whose presence lease stands; end those that lapsed, for good.

        Raises:
            StoreUnavailable: the database did not answer.
        """
        ...

    async def end_all(self) -> None:
        """End every lease: whoever held one is known to be gone.

        Raises:
            StoreUnavailable: the database did not answer.
        """
        ...


def presence_lease(replica: ReplicaId) -> str:
    """Return the name of the lease under which a replica says who is connected to it."""
    return f"replica/{replica}"


def replica_of(lease: str) -> ReplicaId | None:
    """Return whose presence lease it is, None for another lease."""
    kind, separator, replica = lease.partition("/")
    return ReplicaId(replica) if separator and kind == "replica" else None


class Feed(Protocol):
    """Who is told after each committed batch."""

    def publish(self, before: Snapshot, after: Snapshot, change: Change) -> None:
        """Take note; must not block and must not raise."""
        ...
