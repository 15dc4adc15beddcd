"""What clients that say nothing cost."""

from __future__ import annotations

import asyncio
import time
from typing import Final

from bench.process import cpu_s, family_bytes, resident_bytes
from bench.results import Figure
from bench.site import Site
from bench.swarm import Swarm

#: Most of a keepalive's period, so that most clients get theirs meanwhile.
IDLE_S: Final = 30.0
MEMORY: Final = "resident memory"


async def memory(site: Site, swarm: Swarm) -> list[Figure]:
    """Return the resident memory of each server process with everybody connected."""
    megabytes = tuple(resident_bytes(pid) / 1e6 for pid in site.pids)
    each = sum(megabytes) * 1000 / len(swarm)
    note = f"{each:.0f} kB a client"
    if site.cluster is not None:
        note += f"; PostgreSQL {family_bytes(site.cluster.pid) / 1e6:.0f} MB"
    return [Figure(MEMORY, len(swarm), megabytes, "MB", 350, note=note)]


async def idle(site: Site, swarm: Swarm, for_s: float = IDLE_S) -> list[Figure]:
    """Return the share of a core that each server process uses while nobody does anything."""
    await swarm.quiet()
    before, each, start = site.spent(), [cpu_s(pid) for pid in site.pids], time.monotonic()
    await asyncio.sleep(for_s)
    spent, took_s = site.spent().since(before), time.monotonic() - start
    shares = [100 * (cpu_s(pid) - was) / took_s for pid, was in zip(site.pids, each, strict=True)]
    note = "keepalives, a look at the repository four times a second, the lag meter"
    if site.cluster is not None:
        note = f"each process, and PostgreSQL {100 * spent.database_s / took_s:.1f} %"
    return [Figure("idle, share of a core", len(swarm), tuple(shares), "%", 3, note=note)]
