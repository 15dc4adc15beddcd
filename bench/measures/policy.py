"""From a commit to the last client that has its new filter."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from bench.machine import Machine
from bench.results import Figure
from bench.site import Site
from bench.swarm import Hearing, Swarm
from bench.tailnet import WEB, tag_of

#: How long after the last client that was told anything the others are watched.
_WATCH_S = 0.5


@dataclass(slots=True)
class _Rounds:
    from_commit_s: list[float] = field(default_factory=list)
    from_fetch_s: list[float] = field(default_factory=list)
    told_bytes: list[float] = field(default_factory=list)
    untold_bytes: list[float] = field(default_factory=list)


async def one_rule(site: Site, swarm: Swarm, rounds: int) -> list[Figure]:
    """Commit a change of one rule that concerns every node, then one that concerns a tenth of them.

    All clients must be connected and quiet. The server polls the local repository four times a second, so
    from the commit there is up to a quarter of a second of waiting; from the fetch, half of the rounds are
    told by API to look at once, and the clock starts at that request.
    """
    everybody, few = _Rounds(), _Rounds()
    web = [machine for machine in swarm.machines if tag_of(machine.number) == WEB]
    for _ in range(rounds):
        await _from_commit(site, swarm, everybody)
        await _from_fetch(site, swarm, everybody)
        await _to_few(site, swarm, web, few)
    size = len(swarm)
    return [
        Figure("commit to last new filter", size, tuple(everybody.from_commit_s), "s", 1.0),
        Figure("fetch to last new filter", size, tuple(everybody.from_fetch_s), "s", 0.5),
        Figure(
            "commit to last new filter, 1 in 10 affected", size, tuple(few.from_commit_s), "s", 1.0
        ),
        Figure(
            "bytes for that, an affected client", size, tuple(few.told_bytes), "B", 1000,
            note="on the socket: Noise, HTTP/2 and all",
        ),
        Figure("bytes for that, an unaffected client", size, tuple(few.untold_bytes), "B", 0),
    ]  # fmt: skip


async def _from_commit(site: Site, swarm: Swarm, rounds: _Rounds) -> None:
    policy = site.policy.next_everywhere()
    hearing = Hearing(swarm.machines, b'"First":%d' % policy.everywhere)
    with swarm.listening(hearing):
        await asyncio.to_thread(site.commit, policy)
        start = time.monotonic()
        rounds.from_commit_s.append(await hearing.all() - start)
    await swarm.quiet()


async def _from_fetch(site: Site, swarm: Swarm, rounds: _Rounds) -> None:
    policy = site.policy.next_everywhere()
    hearing = Hearing(swarm.machines, b'"First":%d' % policy.everywhere)
    with swarm.listening(hearing):
        await asyncio.to_thread(site.commit, policy)
        start = time.monotonic()
        asked = asyncio.create_task(asyncio.to_thread(site.api.post, "/tailnet/-/gitops/sync"))
        rounds.from_fetch_s.append(await hearing.all() - start)
        (await asked).raise_for_status()
    await swarm.quiet()


async def _to_few(site: Site, swarm: Swarm, affected: Sequence[Machine], rounds: _Rounds) -> None:
    policy = site.policy.next_web()
    hearing = Hearing(affected, b'"First":%d' % policy.web)
    told = {machine.number for machine in affected}
    others = [machine for machine in swarm.machines if machine.number not in told]
    sockets = [machine.received_bytes for machine in affected]
    payloads = [machine.payload_bytes for machine in others]
    with swarm.listening(hearing, affected):
        await asyncio.to_thread(site.commit, policy)
        start = time.monotonic()
        rounds.from_commit_s.append(await hearing.all() - start)
    await asyncio.sleep(_WATCH_S)
    grown = [m.received_bytes - was for m, was in zip(affected, sockets, strict=True)]
    rounds.told_bytes.append(float(max(grown)))
    heard = [m.payload_bytes - was for m, was in zip(others, payloads, strict=True)]
    rounds.untold_bytes.append(float(max(heard)))
    await swarm.quiet()
