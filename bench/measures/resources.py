"""What clients that say nothing cost."""

from __future__ import annotations

import asyncio
import time
from typing import Final

from bench.process import cpu_s, resident_bytes
from bench.results import Figure
from bench.site import Site
from bench.swarm import Swarm

#: Most of a keepalive's period, so that most clients get theirs meanwhile.
IDLE_S: Final = 30.0
MEMORY: Final = "resident memory"


async def memory(site: Site, swarm: Swarm) -> list[Figure]:
    """Return the resident memory with everybody connected."""
    megabytes = resident_bytes(site.pid) / 1e6
    each = megabytes * 1000 / len(swarm)
    return [Figure(MEMORY, len(swarm), (megabytes,), "MB", 350, note=f"{each:.0f} kB a client")]


async def idle(site: Site, swarm: Swarm, for_s: float = IDLE_S) -> list[Figure]:
    """Return the share of a core that is used while nobody does anything."""
    await swarm.quiet()
    before, start = cpu_s(site.pid), time.monotonic()
    await asyncio.sleep(for_s)
    share = (cpu_s(site.pid) - before) / (time.monotonic() - start)
    note = "keepalives, a look at the repository four times a second, the lag meter"
    return [Figure("idle, share of a core", len(swarm), (100 * share,), "%", 3, note=note)]
