"""What a restart of the server process must not change for those who come back after it."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from support.aio import aio
from support.replicas import Replica
from support.server_process import PolicyRepository, ServerProcess

# Several processes start one after another.
pytestmark = [pytest.mark.enable_socket, pytest.mark.timeout(120)]

NET = "10.0.0.0/24"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Replica]:
    """A server with a policy."""
    repository = PolicyRepository.from_example(tmp_path / "policy", "01-start-up")
    running = Replica(ServerProcess(tmp_path / "state", repository.folder))
    running.process.start()
    running.token = (running.process.state_dir / "admin-token").read_text("ascii").strip()
    try:
        yield running
    finally:
        running.process.stop(signal.SIGKILL)


def offering(name: str) -> dict[str, Any]:
    """Return what a subnet router says of itself."""
    return {"Hostinfo": {"Hostname": name, "OS": "linux", "RoutableIPs": [NET]}}


@contextlib.asynccontextmanager
async def routing(server: Replica, name: str) -> AsyncIterator[bool]:
    """Connect a router; yield whether its first map says that it carries the route."""
    async with server.device(name) as device, device.polling(**offering(name)) as stream:
        yield NET in ((await stream.next())["Node"].get("PrimaryRoutes") or ())


@aio
async def _keeps_its_route(server: Replica, how: signal.Signals) -> None:
    api = server.api()
    for name in ("elder", "younger"):
        async with server.device(name) as device:
            key = await asyncio.to_thread(api.auth_key, tags=("tag:web",))
            await device.join(key, **offering(name))
    devices = await asyncio.to_thread(api.devices)
    async with routing(server, "elder"), routing(server, "younger"):
        for name in ("younger", "elder"):
            path = f"/device/{devices[name]['id']}/routes"
            approved = await asyncio.to_thread(api.http.post, path, json={"routes": [NET]})
            assert approved.status_code == 200, approved.text
        async with routing(server, "younger") as carries:
            assert carries
        await asyncio.to_thread(server.process.stop, how)
    await asyncio.to_thread(server.process.start)
    async with routing(server, "elder") as elder:
        assert not elder
        async with routing(server, "younger") as younger:
            assert younger
    api.http.close()


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL], ids=["stopped", "killed"])
def test_a_router_keeps_its_route(server: Replica, how: signal.Signals) -> None:
    """Though the older of two routers is back first: the one that carried the route does."""
    _keeps_its_route(server, how)
