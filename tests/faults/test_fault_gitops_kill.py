"""Kill -9 of the real server at every step from a push to the devices.

What the server does with git is held up by a ``git`` in front of the real one; the transaction is
met in its system calls (strace injects); fan-out is met while it is slow. After each the next server
has the commit before or the one after, whole; goes on to the newest; and says what is true.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from support.aio import run
from support.faults import (
    harmed,
    needs,
    needs_tracing,
    new_key,
    one_server,
    register,
    start,
    started,
)
from support.real_clients import eventually
from support.replicas import Held, Replica, without_access
from support.server_process import PolicyRepository

pytestmark = [pytest.mark.enable_socket, pytest.mark.timeout(300)]

#: Stands before git; waits where it is told to for as long as it is told to.
_GIT = """\
#!/bin/sh
verb=other
for word in "$@"; do
    case "$word" in fetch|cat-file|update-ref) verb=$word; break ;; esac
done
hold() {{
    [ "$(cat {holds} 2>/dev/null)" = "$1 $verb" ] || return 0
    : > {holds}.reached
    while [ -e {holds} ]; do sleep 0.02; done
}}
hold before
{git} "$@"
code=$?
hold after
exit $code
"""
#: What the server does with git for a commit that is new, in order.
_STEPS = ("after fetch", "after cat-file", "before update-ref", "after update-ref")
#: System calls of the server as it puts a commit in force; the last one comes when it is written.
_CALLS = (("pwrite64", 1), ("fdatasync", 1))


@contextlib.contextmanager
def held_up(holds: Path, step: str) -> Iterator[Path]:
    """Let git wait at a step; yields the file that appears when it does."""
    reached = holds.with_name(f"{holds.name}.reached")
    reached.unlink(missing_ok=True)
    holds.write_text(step, "ascii")
    try:
        yield reached
    finally:
        holds.unlink()


def put_in_front(folder: Path) -> tuple[str, Path]:
    """Make the ``git`` that can be held up; return the folder to look in first, and its file."""
    real = shutil.which("git")
    assert real is not None
    place, holds = folder / "bin", folder / "holds"
    place.mkdir()
    script = place / "git"
    script.write_text(_GIT.format(git=real, holds=holds), "ascii")
    script.chmod(0o755)
    return str(place), holds


def status(server: Replica) -> dict[str, Any]:
    """Return where following stands, with the states of the conditions by name."""
    told = server.gitops()
    told["states"] = {one["name"]: one["state"] for one in told["conditions"]}
    return told


def in_force(server: Replica) -> str:
    return str(server.gitops()["current"]["commit"])


def history(server: Replica) -> list[str]:
    """Return what was in force, oldest first."""
    api = server.api()
    with contextlib.closing(api.http) as http:
        told = http.get("/tailnet/-/gitops/history").json()["deployments"]
    return [one["commit"] for one in reversed(told)]


def goes_on(server: Replica, repository: PolicyRepository, commit: str, before: str) -> None:
    """Start the next server: it has one or the other, then the newest, and all is well."""
    start(server)
    assert in_force(server) in {before, commit}
    eventually("the newest is in force", lambda: in_force(server) == commit, within_s=60)
    eventually("it says so", lambda: status(server)["states"]["Fetched"], within_s=60)
    told = status(server)
    assert told["target"]["commit"] == commit
    assert (told["problems"], told["states"]["Applied"], told["states"]["Stalled"]) == (
        [],
        True,
        False,
    )
    assert (told["states"]["Drifted"], told["states"]["Delivered"]) == (False, True)
    assert history(server).count(commit) == 1
    assert repository.git("rev-parse", "HEAD") == commit


def test_killed_at_any_step_the_next_server_finishes_it(tmp_path: Path) -> None:
    """What its git was doing goes on as an orphan for a while, and is in nobody's way."""
    needs("git", "strace")
    needs_tracing()
    place, holds = put_in_front(tmp_path)
    path = f"{place}:{os.environ['PATH']}"
    server, repository = one_server(
        tmp_path, settings={"lease_s": "3600"}, variables={"PATH": path}
    )
    with started(server):
        before = in_force(server)
        for step in _STEPS:
            process = server.process.process
            assert process is not None
            with held_up(holds, step) as reached:
                commit = repository.commit(step)
                eventually("git waits", reached.exists, within_s=60)
                assert in_force(server) == before
                server.process.stop(signal.SIGKILL)
            goes_on(server, repository, commit, before)
            before = commit
        for call, nth in _CALLS:
            process = server.process.process
            assert process is not None
            with harmed(process.pid, call, f"signal=KILL:when={nth}"):
                commit = repository.commit(f"{call} {nth}")
                assert process.wait(60) == -9, "the server did not reach the call"
            goes_on(server, repository, commit, before)
            before = commit


_LAPTOPS = 8


def test_killed_in_fan_out_delivered_was_not_overstated(tmp_path: Path) -> None:
    """Who was counted had it; the next server counts nobody before they are back."""
    needs_tracing()
    server, repository = one_server(tmp_path, settings={"lease_s": "3600"})
    names = [f"laptop-{number}" for number in range(_LAPTOPS)]

    async def live() -> None:
        for name in names:
            assert (await register(server, name, new_key(server)))["Error"] == ""
        web = await register(server, "web", new_key(server, tags=("tag:web",)))
        assert web["Error"] == ""
        async with connected(server, names) as laptops:
            process = server.process.process
            assert process is not None
            eventually("all are there", lambda: counted(server) == (_LAPTOPS, _LAPTOPS))
            with harmed(process.pid, "write,writev,sendmsg,sendto", "delay_enter=20000"):
                commit = repository.commit("close", policy=without_access(repository))
                claimed = await asyncio.to_thread(claims, server, commit)
                server.process.stop(signal.SIGKILL)
            had = [await has_lost(laptop, "web") for laptop in laptops]
            assert claimed <= sum(had), (claimed, had)
        start(server)
        assert in_force(server) == commit
        assert counted(server) == (0, _LAPTOPS)
        async with connected(server, names[:3]):
            eventually("some are back", lambda: counted(server) == (3, _LAPTOPS))
            assert status(server)["states"]["Delivered"] is False

    with started(server):
        run(live(), deadline_s=200)


@contextlib.asynccontextmanager
async def connected(server: Replica, names: list[str]) -> AsyncIterator[list[Held]]:
    """Open a map stream of each device and take its first map."""
    stack = AsyncExitStack()
    try:
        held = [await stack.enter_async_context(server.connected(name)) for name in names]
        for one in held:
            await one.until(lambda client: client.node)
        yield held
    finally:
        # Whoever is connected to a dead server cannot leave in order.
        with contextlib.suppress(OSError, EOFError, ExceptionGroup):
            await stack.aclose()


def counted(server: Replica) -> tuple[int, int]:
    """Return n and m of what was delivered."""
    told = server.gitops()["delivered"]
    return told["n"], told["m"]


def claims(server: Replica, commit: str) -> int:
    """Return how many devices the server says have the commit, as soon as it says any."""
    api = server.api()
    until_s = time.monotonic() + 25
    with contextlib.closing(api.http) as http:
        while time.monotonic() < until_s:
            told = http.get("/tailnet/-/gitops", timeout=30).json()
            if told["current"]["commit"] == commit and told["delivered"]["n"]:
                return int(told["delivered"]["n"])
    raise AssertionError(told)


async def has_lost(laptop: Held, peer: str) -> bool:
    """Take what the dead server still sent; say whether the peer is gone by it.

    Nothing is acknowledged: there is nobody to write to any more.
    """
    chunks = laptop.stream.call._chunks
    while isinstance(chunk := await chunks.get(), tuple):
        for message in laptop.stream.decoder.feed(chunk[0]):
            laptop.map.receive(message)
    return peer not in laptop.peers
