"""A whole run: which measures at which sizes, in which order."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bench.measures import joining, maps, policy, relay, resources
from bench.prober import probing
from bench.process import waited_s
from bench.profile import profiling
from bench.results import Figure, percentile
from bench.site import Site, Stranger, running
from bench.swarm import Swarm

#: What the prober asks for.
_PROBED: Final = "/api/v2/tailnet/-/gitops"


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


async def stranger(target: Stranger, plan: Plan, tell: Told) -> list[Figure]:
    """Measure what can be measured from outside, at one size."""
    swarm = Swarm(target.server, plan.base)
    figures = _telling(tell, await joining.registration(target, swarm))
    await swarm.introduce()
    figures += _telling(tell, await joining.first_connection(swarm))
    figures += _telling(tell, await maps.endpoint_change(None, swarm, plan.rounds))
    figures += _telling(tell, await joining.reconnection(target, swarm, None, min(3, plan.rounds)))
    swarm.disconnect()
    return figures


async def _at(
    size: int, plan: Plan, folder: Path, tell: Told, *, only_memory: bool
) -> list[Figure]:
    with ExitStack() as resources_:
        site = resources_.enter_context(running(folder))
        site.make_keys(size)
        swarm = Swarm(site.server, size)
        resources_.callback(swarm.disconnect)
        figures: list[Figure] = []
        lag_ms: dict[str, list[float]] = {}
        waited, since = waited_s(site.pid), time.monotonic()
        for name, step in _steps(site, swarm, plan, only_memory=only_memory).items():
            start = time.monotonic()
            with profiling(site.pid, plan.profile and plan.profile / f"{size}-{name}.txt"):
                found = await step()
            lag_ms[name] = [1000 * one for one in site.lag(start, time.monotonic())]
            figures += _telling(tell, found)
        if only_memory:
            return [one for one in figures if one.name == resources.MEMORY]
        coreless = (waited_s(site.pid) - waited) / (time.monotonic() - since)
        return figures + _telling(tell, [_lag(size, lag_ms, coreless)])


def _steps(site: Site, swarm: Swarm, plan: Plan, *, only_memory: bool) -> dict[str, Step]:
    """Return the measures in their order; each leaves the clients as the next one needs them."""
    # Beyond the base everything takes long, and once is enough to see how it grows.
    few = min(3, plan.rounds) if len(swarm) <= plan.base else 1

    async def introduction() -> list[Figure]:
        await swarm.introduce()
        return []

    async def reconnection() -> list[Figure]:
        probes = site.folder / "probes"
        with probing(site.socket, _PROBED, probes):
            return await joining.reconnection(site, swarm, probes, few)

    one, other = swarm.machines[:2]
    first: dict[str, Step] = {
        "registration": lambda: joining.registration(site, swarm),
        "introduction": introduction,
        "connection": lambda: joining.first_connection(swarm),
        "idle": lambda: resources.idle(site, swarm, plan.idle_s),
        "memory": lambda: resources.memory(site, swarm),
    }
    if only_memory:
        return first
    return first | {
        "policy": lambda: policy.one_rule(site, swarm, plan.rounds),
        "endpoints": lambda: maps.endpoint_change(site, swarm, plan.rounds),
        "maps": lambda: maps.full_map(site, swarm, plan.rounds),
        "reconnection": reconnection,
        "relay": lambda: relay.throughput(site, one, other, len(swarm), few),
    }


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
