"""What failed, in memory; as a table would it is shared by several replicas."""

from __future__ import annotations

import asyncio

from mergescale.state.ports import StoreUnavailable


class MemoryFailures:
    """The twin of ``store.failures``.

    Attributes:
        forgiven_s: key -> when all its failures are forgiven.
        adds: how often something was counted.
        broken: nothing can be counted now.
    """

    def __init__(self) -> None:
        self.forgiven_s: dict[str, float] = {}
        self.adds = 0
        self.broken = False

    async def add(self, key: str, cost_s: float, now_s: float) -> float:
        await asyncio.sleep(0)  # as a database does it lets others go on
        if self.broken:
            raise StoreUnavailable("gone")
        self.adds += 1
        self.forgiven_s[key] = max(self.forgiven_s.get(key, 0.0), now_s) + cost_s
        return self.forgiven_s[key]
