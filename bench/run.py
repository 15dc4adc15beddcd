"""A whole run: which measures at which sizes, in which order."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from bench.measures import joining, maps, policy, relay, replicas, resources
from bench.postgres import Cluster
from bench.prober import probing
from bench.process import waited_s
from bench.profile import profiling
from bench.results import Figure, percentile
from bench.site import Site, Stranger, running, sharing
from bench.swarm import Swarm

#: What the prober asks for.
_PROBED: Final = "/api/v2/tailnet/-/gitops"
#: How many servers on one PostgreSQL are compared.
_REPLICAS: Final = (1, 2)


@dataclass(frozen=True, slots=True)
class Plan:
    """What to do.

    Attributes:
        base: clients of the table.
        small: clients whose memory is measured for the growth; 0 for no such run.
        large: clients of the second table; 0 for none.
        rounds: how often what can be repeated is.
        idle_s: how long idle clients are watched.
        profile: where to write a profile of each measure; None for none.
    """

    base: int = 1000
    small: int = 250
    large: int = 5000
    rounds: int = 5
    idle_s: float = resources.IDLE_S
    profile: Path | None = None


Told = Callable[[Sequence[Figure]], None]
Step = Callable[[], Awaitable[list[Figure]]]


async def whole(plan: Plan, folder: Path, tell: Told) -> list[Figure]:
    """Measure a server of our own at each size; `tell` gets the figures as they come."""
    figures: list[Figure] = []
    for size in sorted({plan.small, plan.base, plan.large} - {0}):
        figures += await _at(size, plan, folder / str(size), tell, only_memory=size == plan.small)
    return figures


async def shared(plan: Plan, folder: Path, tell: Told) -> list[Figure]:
    """Measure one replica on PostgreSQL, then two between which the clients are divided.

    Returns nothing where PostgreSQL is not installed.
    """
    figures: list[Figure] = []
    with Cluster.running() as cluster:
        if cluster is None:
            return []
        for count in _REPLICAS:

            def telling(found: Sequence[Figure], count: int = count) -> None:
                tell([replace(one, replicas=count) for one in found])

            site = sharing(folder / f"replicas-{count}", cluster, count)
            found = await _through(site, plan.base, plan, telling, _shared_steps)
            figures += [replace(one, replicas=count) for one in found]
    return figures


async def stranger(target: Stranger, plan: Plan, tell: Told) -> list[Figure]:
    """Measure what can be measured from outside, at one size."""
    swarm = Swarm([target.server], plan.base)
    figures = _telling(tell, await joining.registration(target, swarm))
    await swarm.introduce()
    figures += _telling(tell, await joining.first_connection(swarm))
    figures += _telling(tell, await maps.endpoint_change(target, swarm, plan.rounds))
    figures += _telling(tell, await joining.reconnection(target, swarm, (), min(3, plan.rounds)))
    swarm.disconnect()
    return figures


async def _at(
    size: int, plan: Plan, folder: Path, tell: Told, *, only_memory: bool
) -> list[Figure]:
    if not only_memory:
        return await _through(running(folder), size, plan, tell, _all_steps)
    found = await _through(running(folder), size, plan, tell, _first_steps)
    return [one for one in found if one.name == resources.MEMORY]


async def _through(
    sites: AbstractContextManager[Site],
    size: int,
    plan: Plan,
    tell: Told,
    steps: Callable[[Site, Swarm, Plan], dict[str, Step]],
) -> list[Figure]:
    """Take so many clients through the steps at a fresh site, and watch the servers' loops."""
    with sites as site:
        site.make_keys(size)
        swarm = Swarm(site.servers, size)
        figures: list[Figure] = []
        lag_ms: dict[str, list[float]] = {}
        waited, since = _waited_s(site), time.monotonic()
        try:
            for name, step in steps(site, swarm, plan).items():
                start = time.monotonic()
                out = plan.profile and plan.profile / f"{site.folder.name}-{name}.txt"
                with profiling(site.pids[0], out):
                    found = await step()
                lag_ms[name] = [1000 * one for one in site.lag(start, time.monotonic())]
                figures += _telling(tell, found)
        finally:
            swarm.disconnect()
        coreless = (_waited_s(site) - waited) / (time.monotonic() - since)
        return figures + _telling(tell, [_lag(size, lag_ms, coreless)])


def _waited_s(site: Site) -> float:
    """Return how long a server could have run but had no core, on average."""
    return sum(map(waited_s, site.pids)) / len(site.pids)


def _first_steps(site: Site, swarm: Swarm, plan: Plan) -> dict[str, Step]:
    """Return the measures up to the memory; each leaves the clients as the next one needs them."""

    async def introduction() -> list[Figure]:
        await swarm.introduce()
        return []

    return {
        "registration": lambda: joining.registration(site, swarm),
        "introduction": introduction,
        "connection": lambda: joining.first_connection(swarm),
        "idle": lambda: resources.idle(site, swarm, plan.idle_s),
        "memory": lambda: resources.memory(site, swarm),
    }


def _all_steps(site: Site, swarm: Swarm, plan: Plan) -> dict[str, Step]:
    """Return all measures of one server."""
    few = _few(swarm, plan)
    one, other = swarm.machines[:2]
    return _first_steps(site, swarm, plan) | {
        "policy": lambda: policy.one_rule(site, swarm, plan.rounds),
        "endpoints": lambda: maps.endpoint_change(site, swarm, plan.rounds),
        "maps": lambda: maps.full_map(site, swarm, plan.rounds),
        "reconnection": lambda: _reconnection(site, swarm, few),
        "relay": lambda: relay.throughput(site, one, other, len(swarm), few),
    }


def _shared_steps(site: Site, swarm: Swarm, plan: Plan) -> dict[str, Step]:
    """Return the measures that another replica, or another database, can change."""
    return _first_steps(site, swarm, plan) | {
        "policy": lambda: policy.one_rule(site, swarm, plan.rounds),
        "decision": lambda: replicas.decision(site, swarm, plan.rounds),
        "endpoints": lambda: maps.endpoint_change(site, swarm, plan.rounds),
        "reconnection": lambda: _reconnection(site, swarm, _few(swarm, plan)),
    }


def _few(swarm: Swarm, plan: Plan) -> int:
    """Return how often what takes long is done; beyond the base, once shows how it grows."""
    return min(3, plan.rounds) if len(swarm) <= plan.base else 1


async def _reconnection(site: Site, swarm: Swarm, rounds: int) -> list[Figure]:
    """Let everybody reconnect while the API of every server is asked."""
    probes = {replica.socket: replica.folder / "probes" for replica in site.replicas}
    with probing(probes, _PROBED):
        return await joining.reconnection(site, swarm, [*probes.values()], rounds)


def _lag(size: int, lag_ms: Mapping[str, Sequence[float]], coreless: float) -> Figure:
    """Return how late the server's loop was, over all measures; the note says where and why.

    Args:
        size: clients.
        lag_ms: of each measure.
        coreless: share of the time that the server could have run but had no core.
    """
    everything = [one for some in lag_ms.values() for one in some]
    late = {name: percentile(some, 0.99) for name, some in lag_ms.items()}
    worst = sorted(late, key=lambda name: -late[name])[:3]
    note = f"{coreless:.0%} of the time no core was free; "
    note += ", ".join(f"{late[name]:.0f} ms at {name}" for name in worst)
    note += f"; longest {max(everything, default=0):.0f} ms"
    name = "loop lag, 99th percentile of all of it"
    return Figure(name, size, (percentile(everything, 0.99),), "ms", 50, note=note)


def _telling(tell: Told, figures: list[Figure]) -> list[Figure]:
    tell(figures)
    return figures
