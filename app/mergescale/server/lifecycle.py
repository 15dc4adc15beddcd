"""From start to stop of one server process.

Start: database, engines, listeners, repositories; what the last process left behind a lease later.
Stop (SIGTERM, SIGINT): no new connections, every stream ends in order, then what was decided is
committed, then the database closes. A second signal ends at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Callable
from contextlib import AsyncExitStack

import structlog
import uvloop

from mergescale.kernel.errors import MergescaleError
from mergescale.server.first_start import ensure_administrator, greeting
from mergescale.server.listeners import CannotListen
from mergescale.server.memory import calm_collector, give_back
from mergescale.server.settings import Settings
from mergescale.server.tailnet import Parts
from mergescale.server.wiring import Server, wire
from mergescale.state.ports import StoreUnavailable

log = structlog.get_logger()

#: LIMIT: how long clients get to leave in order; the whole stop takes under 5 s.
STOP_S = 3.0
#: LIMIT: how long the first start waits for the first commit.
FIRST_LOOK_S = 5.0


def run(settings: Settings, say: Callable[[str], object]) -> None:
    """Serve until SIGTERM or SIGINT; `say` gets the greeting once the server is up.

    Raises:
        MergescaleError: the server cannot start; says why.
    """
    uvloop.run(serve(settings, say))


async def serve(settings: Settings, say: Callable[[str], object]) -> None:
    """Serve on the running loop; see `run`."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, _asked_to_stop, loop, number, stop)
    async with AsyncExitStack() as resources:
        server = await wire(settings, resources)
        try:
            await _live(server, stop, say)
        except* MergescaleError as failed:
            raise _first(failed) from None
    log.info("server.stopped")


async def _live(server: Server, stop: asyncio.Event, say: Callable[[str], object]) -> None:
    """Start, serve until `stop`, stop; a part that breaks takes the whole process with it."""
    async with asyncio.TaskGroup() as group:
        engines = [group.create_task(engine.run()) for engine in server.tailnets]
        others: list[asyncio.Task[None]] = []
        try:
            first = await _start(server, group, others)
            say(greeting(server.settings, server.settings.url, first=first))
            calm_collector()
            log.info("server.started", url=server.settings.url)
            await stop.wait()
            log.info("server.stopping")
        finally:
            await _stop(server, others)
        await asyncio.wait(engines)


def _first(failed: BaseExceptionGroup[MergescaleError]) -> MergescaleError:
    error = failed.exceptions[0]
    return _first(error) if isinstance(error, BaseExceptionGroup) else error


async def _start(
    server: Server, group: asyncio.TaskGroup, others: list[asyncio.Task[None]]
) -> bool:
    """Open for business; return whether this was the first start ever."""
    others.append(group.create_task(server.replica.run(server.tailnets)))
    others.extend(group.create_task(follow()) for follow in server.endless)
    others.append(group.create_task(give_back()))
    first = await ensure_administrator(server.tailnets.default, server.settings, server.entropy)
    for part in server.parts:
        others.append(group.create_task(part.presence.run()))
        others.append(group.create_task(part.maintain()))
        others.append(group.create_task(part.tell()))
        others.append(group.create_task(part.delivery.run()))
        others.append(group.create_task(part.overrides.run(lambda: server.replica.duties)))
        if part.watcher is not None:
            await _first_look(part)
            others.append(group.create_task(part.watch()))
    if server.stun is not None:
        try:
            await server.stun.start()
        except OSError as error:
            raise CannotListen(server.settings.stun_listen, "stun_listen", error) from error
    if server.metrics is not None:
        await server.metrics.start()
    await server.edge.start()
    return first


async def _first_look(part: Parts) -> None:
    """Let a tailnet that never had a policy have one before its first client comes.

    Bounded, because a remote may be slow; one that has a policy does not wait for a newer one.
    """
    if part.watcher is None or part.engine.snapshot.deployment is not None:
        return
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(FIRST_LOOK_S):
            await part.watcher.sync()


async def _stop(server: Server, others: list[asyncio.Task[None]]) -> None:
    """Close in the reverse order of the start."""
    for part in server.parts:
        part.hub.close()
    await server.edge.stop(STOP_S)
    if server.metrics is not None:
        await server.metrics.stop(0)
    if server.stun is not None:
        server.stun.stop()
    for part in server.parts:
        part.presence.stop()
        part.proving.close()
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)
    with contextlib.suppress(StoreUnavailable):
        await server.replica.resign()
    for engine in server.tailnets:
        engine.stop()


def _asked_to_stop(
    loop: asyncio.AbstractEventLoop, number: signal.Signals, stop: asyncio.Event
) -> None:
    """Stop in order; the next signal of the kind ends the process as if nobody listened."""
    loop.remove_signal_handler(number)
    stop.set()
