"""The in-memory twin of ``store``'s leases."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from mergescale.kernel.ids import ReplicaId
from mergescale.state.ports import Fence, StoreUnavailable, replica_of
from support.clock import FakeClock


@dataclass(frozen=True, slots=True)
class Row:
    holder: ReplicaId
    number: int
    expires: datetime


class MemoryLeases:
    """Leases of all replicas of a test; `away` makes every call fail."""

    def __init__(self, clock: FakeClock) -> None:
        self.clock = clock
        self.rows: dict[str, Row] = {}
        self.away = False

    async def acquire(self, lease: str, holder: ReplicaId, lasts_s: float) -> Fence | None:
        now, row = self._now(), self.rows.get(lease)
        if row is not None and row.expires > now and row.holder != holder:
            return None
        number = 1 if row is None else row.number + 1
        self.rows[lease] = Row(holder, number, now + timedelta(seconds=lasts_s))
        return Fence(lease, number)

    async def renew(self, fence: Fence, lasts_s: float) -> bool:
        now, row = self._now(), self.rows.get(fence.lease)
        if row is None or row.number != fence.number:
            return False
        self.rows[fence.lease] = Row(row.holder, row.number, now + timedelta(seconds=lasts_s))
        return True

    async def release(self, fence: Fence) -> None:
        await self.renew(fence, 0)

    async def living(self) -> frozenset[ReplicaId]:
        now = self._now()
        for name, row in list(self.rows.items()):
            if replica_of(name) and row.expires <= now:
                del self.rows[name]
        return frozenset(replica for name in self.rows if (replica := replica_of(name)))

    async def end_all(self) -> None:
        now = self._now()
        for name, row in list(self.rows.items()):
            if replica_of(name):
                del self.rows[name]
            else:
                self.rows[name] = Row(row.holder, row.number + 1, now)

    def _now(self) -> datetime:
        if self.away:
            raise StoreUnavailable("the database is away")
        return self.clock.now()
