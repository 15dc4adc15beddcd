"""Many at once: registrations, first connections, and everybody coming back."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from pathlib import Path

from bench.messages import text
from bench.prober import latencies
from bench.results import Figure
from bench.site import Spent, Target
from bench.swarm import Swarm

#: One in so many full maps is decoded, after the clock has stopped.
_LOOK_AT_EVERY = 50
AT_ONCE = 50


class WrongMap(Exception):
    """Raised when a client was given a map without all of its peers."""


async def registration(target: Target, swarm: Swarm) -> list[Figure]:
    """Register everybody by pre-auth key, 50 at a time, each over a connection of its own."""
    before, start = target.spent(), time.monotonic()
    await swarm.register(target.auth_key, AT_ONCE)
    rate = len(swarm) / (time.monotonic() - start)
    note = target.spent().since(before).say(len(swarm))
    return [Figure("registrations, 50 at a time", len(swarm), (rate,), "/s", 300, True, note)]


async def first_connection(swarm: Swarm) -> list[Figure]:
    """Let everybody open a map stream at once; all come online, so all are told of all."""
    start = time.monotonic()
    hearing = await swarm.poll(keep_every=_LOOK_AT_EVERY)
    took_s = max(hearing.at.values()) - start
    _check(hearing.payloads.values(), len(swarm))
    await swarm.quiet()
    settled_s = time.monotonic() - start - swarm.quiet_s
    return [
        Figure("first connection, all at once", len(swarm), (took_s,), "s"),
        Figure("the same until nobody has news", len(swarm), (settled_s,), "s"),
    ]


async def reconnection(
    target: Target, swarm: Swarm, probes: Sequence[Path], rounds: int
) -> list[Figure]:
    """Break all connections and let everybody come back at once, within the grace period.

    The clock starts before the first client dials and ends when the last has its full map.

    Args:
        target: what they connect to.
        swarm: the clients.
        probes: where probers write, one for each server; empty for none.
        rounds: how often.
    """
    took_s: list[float] = []
    slowest_s: list[float] = []
    spent: list[Spent] = []
    for _ in range(rounds):
        swarm.disconnect()
        before, start = target.spent(), time.monotonic()
        hearing = await swarm.poll(keep_every=_LOOK_AT_EVERY)
        end = max(hearing.at.values())
        took_s.append(end - start)
        spent.append(target.spent().since(before))
        _check(hearing.payloads.values(), len(swarm))
        await swarm.quiet()
        if probes:
            waits_s = [one for path in probes for one in latencies(path, start, end)]
            slowest_s.append(max(waits_s, default=0.0))
    note = min(spent, key=lambda one: one.servers_s).say(len(swarm))
    if swarm.tries:
        note += f"; {swarm.tries} connections tried again"
    figures = [
        Figure("all reconnect at once, full maps", len(swarm), tuple(took_s), "s", 8, note=note)
    ]
    if slowest_s:
        slowest_ms = tuple(1000 * one for one in slowest_s)
        name = "slowest API answer meanwhile"
        figures.append(Figure(name, len(swarm), slowest_ms, "ms", 250))
    return figures


def _check(payloads: Iterable[bytes], size: int) -> None:
    """Look at what was kept: a full map names everybody once, the viewer included."""
    for payload in payloads:
        if text(payload).count(b'"StableID":') != size:
            raise WrongMap("a full map does not name every node")
