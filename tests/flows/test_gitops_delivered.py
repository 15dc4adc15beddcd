"""What is in force comes to the devices, and CI waits for it: one server process, and two."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import pytest

from support.aio import run
from support.command_line import CommandLine
from support.faults import new_key, one_server, register, staff_and_web, start, started
from support.postgres import PostgresServer
from support.real_clients import eventually
from support.replicas import Replica, replicas, without_access

# Server processes start for each test.
pytestmark = [pytest.mark.enable_socket, pytest.mark.timeout(120)]


def said(replica: Replica) -> tuple[Any, ...]:
    """Return what a replica says of the condition, and how many it counted."""
    status = replica.gitops()
    [told] = [one for one in status["conditions"] if one["name"] == "Delivered"]
    counted = status["delivered"]
    return told["state"], told["reason"], counted["n"], counted["m"], counted["offline"]


def test_ci_waits_until_the_devices_have_it(tmp_path: Path) -> None:
    """All that are connected; after a kill -9 none has it before it is back; a bad one is told."""
    # With the lease that the killed one leaves behind its devices stay shown as connected.
    server, repository = one_server(tmp_path, settings={"lease_s": "3600"})
    cli = CommandLine(("--state-dir", str(server.process.state_dir)))

    async def live() -> None:
        commit = repository.commit("close", policy=without_access(repository))
        # Before it can be there: whoever waits is told what is missing.
        async with server.connected("laptop") as laptop, server.connected("web") as web:
            await laptop.until(lambda held: held.node)
            await web.until(lambda held: held.node)
            waited = cli("gitops", "wait", commit[:12], "--delivered", "--timeout", "60")
            assert (waited.code, waited.out) == (
                0,
                f"{commit[:12]} is in force: 2/2 nodes, 1 offline\n",
            )
            assert said(server) == (True, "Delivered", 2, 2, 1)
            assert cli("gitops", "status").code == 0
            server.process.stop(signal.SIGKILL)
        start(server)
        assert said(server) == (False, "Delivering", 0, 2, 1)
        early = cli("gitops", "wait", commit, "--delivered", "--timeout", "0.1")
        assert (early.code, early.err) == (
            3,
            f"error: {commit[:12]} is in force and not delivered: {FAR} after 0.1 s\n",
        )
        # A device that is on its way is no trouble.
        assert cli("gitops", "status").code == 0
        async with server.connected("laptop") as laptop:
            await laptop.until(lambda held: held.node)
            eventually("one of them is back", lambda: said(server)[2:] == (1, 2, 1))
            async with server.connected("web") as web:
                await web.until(lambda held: held.node)
                assert cli("gitops", "wait", commit, "--delivered").code == 0
        bad = repository.commit("broken", policy="{")
        refused = cli("gitops", "wait", bad)
        assert refused.code == 3
        assert refused.err.startswith(f"error: {bad[:12]} is refused: policy.hujson:1:")
        assert cli("gitops", "wait", "main").code == 2

    with started(server):
        run(staff_and_web(server), deadline_s=60)
        run(_joins(server, "desk"), deadline_s=60)
        run(live(), deadline_s=100)


async def _joins(server: Replica, name: str) -> None:
    told = await register(server, name, new_key(server))
    assert told["Error"] == ""


def test_replicas_count_each_others_devices(postgres: PostgresServer, tmp_path: Path) -> None:
    """Both say 2/2 though each wrote to one; after one died its device counts no more."""
    with replicas(postgres, tmp_path) as pair:

        async def live() -> None:
            await staff_and_web(pair.one)
            commit = pair.repository.commit("close", policy=without_access(pair.repository))
            async with pair.one.connected("laptop") as laptop:
                await laptop.until(lambda held: held.node)
                async with pair.two.connected("web") as web:
                    await web.until(lambda held: held.node)
                    for replica in (pair.one, pair.two):
                        eventually("it is in force", lambda at=replica: holds(at, commit))  # type: ignore[misc]
                        eventually("all have it", lambda at=replica: said(at)[:4] == DONE)  # type: ignore[misc]
                    pair.two.process.stop(signal.SIGKILL)
                eventually("one is gone", lambda: said(pair.one)[2:] == (1, 1, 1), within_s=30)

        run(live(), deadline_s=100)


#: What is said of two devices that were connected to a process that died.
FAR = "0/2 nodes, 1 offline"
DONE = (True, "Delivered", 2, 2)


def holds(replica: Replica, commit: str) -> bool:
    """Say whether the commit is in force there."""
    return bool(replica.gitops()["current"]["commit"] == commit)
