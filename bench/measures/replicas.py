"""What is decided at one replica, at the clients of all."""

from __future__ import annotations

import asyncio
import time
from typing import Final

from bench.results import Figure
from bench.site import Site
from bench.swarm import Hearing, Swarm

HERE: Final = "rename by API, last client of that server"
FIRST_THERE: Final = "rename by API, first client of the other"
LAST_THERE: Final = "rename by API, last client of the other"


async def decision(site: Site, swarm: Swarm, rounds: int) -> list[Figure]:
    """Rename a node at the first server; the clock runs from the request.

    Everybody sees the node, so every client of every server is told. The first client elsewhere shows how
    long the decision takes to get there, the last one what telling them all takes besides.
    """
    devices = (await asyncio.to_thread(site.api.get, "/tailnet/-/devices")).json()["devices"]
    path = f"/device/{devices[-1]['nodeId']}/name"
    here_s: list[float] = []
    first_there_s: list[float] = []
    last_there_s: list[float] = []
    local = {m.number for m in swarm.machines if m.server is site.servers[0]}
    for number in range(rounds):
        name = f"renamed-{number}"
        hearing = Hearing(swarm.machines, f'"{name}.'.encode())
        with swarm.listening(hearing):
            start = time.monotonic()
            asked = asyncio.create_task(asyncio.to_thread(site.api.post, path, json={"name": name}))
            await hearing.all()
            (await asked).raise_for_status()
        there = [at for number, at in hearing.at.items() if number not in local]
        here_s.append(max(hearing.at[number] for number in local) - start)
        if there:
            first_there_s.append(min(there) - start)
            last_there_s.append(max(there) - start)
        await swarm.quiet()
    found = {HERE: here_s, FIRST_THERE: first_there_s, LAST_THERE: last_there_s}
    size = len(swarm)
    return [Figure(name, size, tuple(took_s), "s") for name, took_s in found.items() if took_s]
