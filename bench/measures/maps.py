"""One full map, and one node's news for everybody."""

from __future__ import annotations

import asyncio
import time
from typing import Final

from bench.machine import Machine
from bench.results import Figure
from bench.site import Site, Spent, Target
from bench.swarm import Hearing, Swarm, each

#: Viewers that ask; each on its own connection, so that nothing is warm but the server's pieces.
_VIEWERS: Final = 200
_WARM_UP: Final = 20
#: A round takes less than half a second, so many of them cost little and tell what is typical.
_TIMES: Final = 3
#: How long idle clients are watched before.
_IDLE_S: Final = 3.0


async def full_map(site: Site, swarm: Swarm, rounds: int) -> list[Figure]:
    """Ask for single full maps, one after another, and divide the server's processor time.

    Everything is in it: the request, HTTP/2 and Noise both ways, the socket. What the server spends on
    idle clients in the same time is not; beside other work, when all takes longer, that would be a tenth.
    """
    viewers = swarm.machines[:: max(1, len(swarm) // _VIEWERS)][:_VIEWERS]
    await each(viewers[:_WARM_UP], Machine.read_map, 1)
    idle_share = await _idle_share(site, swarm)
    sizes: list[int] = []

    async def ask(machine: Machine) -> None:
        sizes.append(len(await machine.read_map()))

    spent_ms = []
    for _ in range(_TIMES * rounds):
        before, start = site.spent(), time.monotonic()
        await each(viewers, ask, 1)
        idle_s = idle_share * (time.monotonic() - start)
        spent_s = site.spent().since(before).servers_s - idle_s
        spent_ms.append(spent_s / len(viewers) * 1000)
    note = f"{sum(sizes) // len(sizes):,} B compressed; without idle's {idle_share:.1%} of a core"
    return [
        Figure("processor time of one full map", len(swarm), tuple(spent_ms), "ms", 1, note=note)
    ]


async def _idle_share(site: Site, swarm: Swarm) -> float:
    """Return what the server spends on clients that say nothing, as a share of a core."""
    await swarm.quiet()
    before, start = site.spent(), time.monotonic()
    await asyncio.sleep(_IDLE_S)
    return site.spent().since(before).servers_s / (time.monotonic() - start)


async def endpoint_change(target: Target, swarm: Swarm, rounds: int) -> list[Figure]:
    """Let one node say other endpoints; the clock runs from its request to its last peer's patch."""
    took_s: list[float] = []
    spent: list[Spent] = []
    encodings: set[int] = set()
    for number in range(rounds):
        mover, peers = (
            swarm.machines[number],
            [*swarm.machines[:number], *swarm.machines[number + 1 :]],
        )
        port = 50_000 + number
        hearing = Hearing(peers, b":%d" % port)
        before = target.spent()
        with swarm.listening(hearing):
            start = time.monotonic()
            await mover.update(port)
            took_s.append(await hearing.all() - start)
        spent.append(target.spent().since(before))
        encodings.add(len(hearing.distinct))
        await swarm.quiet()
    note = f"{max(encodings)} different message{'s' if max(encodings) > 1 else ''}"
    if said := min(spent, key=lambda one: one.servers_s).say():
        note += f", {said}"
    return [
        Figure("endpoint change, all peers told", len(swarm), tuple(took_s), "s", 0.15, note=note)
    ]
