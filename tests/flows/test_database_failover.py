"""PostgreSQL fails over to a streaming standby while a server runs."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from support.aio import run
from support.faults import devices, new_key, one_server, staff_and_web, started
from support.postgres import MISSING, PostgresServer
from support.real_clients import eventually
from support.replicas import Replica, without_access
from support.stores import loaded, opened

pytestmark = [pytest.mark.enable_socket, pytest.mark.timeout(180)]

WITHIN_S = 30
#: What a standby writes down about whoever asks it anything.
ASKED = re.compile(r"LOG:  (?:statement|execute [^:]*): (.*)")


@pytest.fixture
def primary() -> Iterator[PostgresServer]:
    """Run a server for one test, which may end it."""
    with PostgresServer.running() as server:
        if server is None:
            pytest.skip(MISSING)
        yield server


def read_from(standby: PostgresServer) -> list[str]:
    """Return what the standby was asked; whoever only looks whether it takes writes asks nothing."""
    return ASKED.findall((standby.folder / "log").read_text("utf-8", "replace"))


async def waited(claim: str, holds: Callable[[], bool]) -> None:
    """Wait beside the loop."""
    await asyncio.to_thread(eventually, claim, holds, within_s=WITHIN_S)


async def joins(server: Replica, name: str, key: str) -> bool:
    """Register as a client that comes again while the database is away; say whether it is in."""
    async with server.device(name) as device:
        answer = await device.post("/machine/register", device.register_request(auth=key))
    assert answer.status in {200, 503}, answer.body
    return answer.status == 200


async def comes_again(server: Replica, name: str, key: str) -> None:
    """Register as often as it takes."""
    while not await joins(server, name, key):  # noqa: ASYNC110 - what is waited for is elsewhere
        await asyncio.sleep(0.1)


def test_a_server_goes_on_with_the_standby_that_was_promoted(
    primary: PostgresServer, tmp_path: Path
) -> None:
    """Its URL names both. Nothing was read from the standby before, and nothing is lost by it.

    Meanwhile streams stay and writes are refused; then devices join and policies come into force.
    """
    url = primary.new_database()
    asking = {"log_statement": "all", "log_connections": "on"}
    with primary.standby(**asking) as standby, contextlib.ExitStack() as stack:
        # What the server was told is committed is at the standby too.
        primary.set(synchronous_standby_names="*")
        # The standby is the first that is asked, each time.
        both = url.replace("?host=", f"?host={standby.folder},")
        server, repository = one_server(
            tmp_path, settings={"database_url": both, "database_answer_s": "2"}
        )
        # Whoever runs it stops it in the end.
        stack.callback(primary.control, "restart", "-w", "-m", "immediate")
        stack.enter_context(started(server))

        async def fail_over() -> None:
            await staff_and_web(server)
            key = new_key(server, reusable=True)
            async with server.connected("laptop") as laptop, server.connected("web") as web:
                await laptop.sees("web")
                await web.sees("laptop")
                primary.control("stop", "-m", "immediate")
                assert not await joins(server, "late", key)
                assert devices(server).keys() == {"laptop", "web"}
                log = (standby.folder / "log").read_text("utf-8", "replace")
                assert "connection authorized" in log
                assert read_from(standby) == []
                standby.promote()
                async with asyncio.timeout(WITHIN_S):
                    await comes_again(server, "late", key)
                await web.sees("late", online=False)
                closed = without_access(repository)
                await asyncio.to_thread(repository.commit, "close", policy=closed)
                await laptop.loses("web")
                await web.loses("laptop")

        run(fail_over(), deadline_s=90)

        async def stored() -> None:
            async with opened(standby.url(url.rpartition("?")[0].rpartition("/")[2])) as direct:
                held = (await loaded(direct.journal)).nodes.values()
            assert {node.name: sorted(map(str, (node.ipv4, node.ipv6))) for node in held} == {
                name: sorted(device["addresses"]) for name, device in devices(server).items()
            }

        run(stored())
