"""The disk under the database is full: a tmpfs of its own in a mount namespace, and filled."""

from __future__ import annotations

import asyncio
import contextlib
import json
from pathlib import Path

import pytest

from support.aio import run
from support.faults import needs_namespaces, new_key, one_server, register, staff_and_web, started
from support.replicas import Replica

pytestmark = [pytest.mark.enable_socket, pytest.mark.timeout(300)]

MOUNT = 'mount -t tmpfs -o size=2m none "$0" && exec "$@"'


def fill(file: Path) -> None:
    """Leave no byte free."""
    with file.open("wb", buffering=0) as out, contextlib.suppress(OSError):
        while True:
            out.write(bytes(4096))


def test_a_full_disk_refuses_writes_and_nothing_else(tmp_path: Path) -> None:
    """Maps are served, whoever writes is told 503, and with room all goes on without a restart."""
    needs_namespaces("--mount")
    disk = tmp_path / "disk"
    disk.mkdir()
    server, _ = one_server(
        tmp_path,
        settings={"database_url": f"sqlite+aiosqlite:///{disk / 'mergescale.db'}"},
        within=("unshare", "--mount", "sh", "-c", MOUNT, str(disk)),
    )
    with started(server):
        process = server.process.process
        assert process is not None
        filler = Path(f"/proc/{process.pid}/root{disk}") / "filler"
        run(full(server, filler), deadline_s=60)


async def full(server: Replica, filler: Path) -> None:
    """Fill the disk under a server with clients, look, and make room again."""
    await staff_and_web(server)
    key = new_key(server, reusable=True)
    async with server.connected("web") as web:
        await web.sees("laptop", online=False)
        fill(filler)
        async with server.device("late") as late:
            request = late.register_request(auth=key)
            refused = await late.post("/machine/register", request)
            assert (refused.status, bool(refused.body)) == (503, True)
        api = server.api()
        with contextlib.closing(api.http):
            body = {"loginName": "zoe@example.com", "displayName": "Zoe"}
            problem = api.http.post("/tailnet/-/users", json=body)
            assert problem.status_code == 503, problem.text
            assert api.http.get("/tailnet/-/devices").status_code == 200
        async with server.device("laptop") as laptop, laptop.polling() as stream:
            told = json.loads(await stream.text())
            assert [peer["Name"].split(".")[0] for peer in told["Peers"]] == ["web"]
        await asyncio.to_thread(filler.unlink)
        assert (await register(server, "late", key))["Error"] == ""
        await web.sees("late", online=False)
