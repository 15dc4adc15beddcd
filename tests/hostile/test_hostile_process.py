"""A server process under attack: a client's stream goes on, memory and log stay bounded.

The file limit is low on purpose: 256 descriptors, half of which are for clients; 1,024 where ten
thousand sockets are opened.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import socket
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from mergescale.kernel.keys import MachineKey, PrivateKey
from mergescale.wire.noise import public_key
from support.aio import aio
from support.control_world import Device
from support.machines import CAPABILITY_VERSION
from support.noise_client import NoiseClient
from support.plain import PLAIN
from support.server_process import Api, ServerProcess, serving
from support.worlds import key_bytes

pytestmark = pytest.mark.enable_socket

DESCRIPTORS = 256
#: What most systems give to a process that does not ask for more, and who comes all the same.
USUAL_DESCRIPTORS = 1024
CROWD = 10_000
#: What an attack may leave behind in memory; and the lines of each event in a minute.
RSS_BYTES = 32 << 20
LINES = 60
MACHINE = PrivateKey(key_bytes("machine witness"))

Attack = Callable[[ServerProcess, MachineKey], Coroutine[Any, Any, None]]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[ServerProcess, Api]]:
    """A server with few descriptors, and its API."""
    with limited(tmp_path_factory.mktemp("hostile") / "state", DESCRIPTORS) as served:
        yield served


@contextlib.contextmanager
def limited(state_dir: Path, descriptors: int) -> Iterator[tuple[ServerProcess, Api]]:
    """Run a server that may have so many descriptors; yield it, and its API."""
    server = ServerProcess(
        state_dir,
        settings={"log_level": "info"},
        within=("prlimit", f"--nofile={descriptors}:{descriptors}"),
    )
    with serving(server) as api:
        done = server.cli("users", "create", "alice@example.com")
        assert done.returncode == 0, done.stderr
        yield server, api


def resident_bytes(server: ServerProcess) -> int:
    assert server.process is not None
    pages = Path(f"/proc/{server.process.pid}/statm").read_text("ascii").split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


def descriptors_of(server: ServerProcess) -> int:
    assert server.process is not None
    return len(list(Path(f"/proc/{server.process.pid}/fd").iterdir()))


def lines(server: ServerProcess) -> int:
    return server.log.read_bytes().count(b"\n")


def stranger(
    server: ServerProcess, key: MachineKey
) -> contextlib.AbstractAsyncContextManager[NoiseClient]:
    machine = PrivateKey(os.urandom(32))
    return NoiseClient.connect("127.0.0.1", server.port, machine=machine, server=key)


@contextlib.contextmanager
def descriptors_for(sockets: int) -> Iterator[None]:
    """Let this process have so many sockets."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = max(before[0], sockets + 500)
    # Where the hard limit is lower than that, only a privileged user can raise it: then it fails.
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, max(before[1], wanted)))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (before[0], max(before[1], wanted)))


async def idle_sockets(server: ServerProcess, key: MachineKey) -> None:
    """10,000 sockets that say nothing or half of something, from eight addresses, all kept open."""
    loop, halves = asyncio.get_running_loop(), (b"", b"GET / HT", b"GET /key?v=130 HTTP/1.1\r\n")
    opened: list[socket.socket] = []
    with descriptors_for(CROWD), contextlib.ExitStack() as all_of_them:
        for number in range(CROWD):
            one = all_of_them.enter_context(socket.socket())
            one.setblocking(False)
            one.bind((f"127.0.0.{2 + number % 8}", 0))
            with contextlib.suppress(ConnectionError):
                await loop.sock_connect(one, ("127.0.0.1", server.port))
                await loop.sock_sendall(one, halves[number % len(halves)])
            opened.append(one)
        async with httpx.AsyncClient(base_url=server.url, verify=PLAIN, trust_env=False) as healthy:
            assert (await healthy.get("/health")).status_code == 200
        assert descriptors_of(server) < USUAL_DESCRIPTORS
        assert sum(map(ended, opened)) >= CROWD - USUAL_DESCRIPTORS


def ended(sock: socket.socket) -> bool:
    """Say whether the other side has closed it."""
    try:
        return sock.recv(1) == b""
    except BlockingIOError:
        return False
    except ConnectionError:
        return True


async def garbage(server: ServerProcess, key: MachineKey) -> None:
    """2,000 requests that are none: to HTTP, to the doors and behind them."""
    upgrade = b"\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: "
    heads = [
        b"\x16\x03\x01" + os.urandom(200),
        b"POST /ts2021 HTTP/1.1" + upgrade + b"tailscale-control-protocol\r\n\r\n",
        b"GET /derp HTTP/1.1" + upgrade + b"DERP\r\n\r\n" + os.urandom(500),
        b"GET /" + b"x" * 40_000 + b" HTTP/1.1\r\n\r\n",
    ]
    for number in range(2000):
        with contextlib.suppress(ConnectionError):
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
            writer.write(heads[number % len(heads)])
            await reader.read(1 << 16)
            writer.close()


async def floods(server: ServerProcess, key: MachineKey) -> None:
    """Frames without end from strangers who do not read, each kind until it is hung up on."""
    reset = b"\0\0\x04\x03\0\0\0\0\x01\0\0\0\x08"
    head = b"\0\0\x05\x01\x05\0\0\0\x01\x82\x84\x87\x41\x00"
    frames = [
        b"\0\0\x08\x06\0\0\0\0\0" + b"12345678",  # PING
        b"\0\0\0\x04\0\0\0\0\0",  # SETTINGS
        head + reset,
        b"\0\0\x01\x01\0\0\0\0\x01\x82" + b"\0\0\x01\x09\0\0\0\0\x01\x84" * 100,  # CONTINUATION
        b"\0\0\x04\x08\0\0\0\0\0\0\0\0\0",  # WINDOW_UPDATE of nothing
        os.urandom(100),
    ]
    for frame in frames:
        async with stranger(server, key) as client:
            await client.stop_reading()
            client.writer.transport.resume_reading()  # type: ignore[attr-defined] # to see the end
            with contextlib.suppress(ConnectionError):
                while not client.writer.is_closing() and not client.reader.at_eof():
                    await client.send_plaintext(frame * (60_000 // len(frame)))
                    await asyncio.sleep(0)


async def oversize(server: ServerProcess, key: MachineKey) -> None:
    """Bodies of 8 MiB, inside Noise and outside of it."""
    body = b"x" * (8 << 20)
    for _ in range(8):
        async with stranger(server, key) as client:
            for path in ("/machine/register", "/machine/map", "/machine/nothing"):
                call = await client.open("POST", path, None)
                with contextlib.suppress(Exception):
                    await client.upload(call, body)
                assert await call.started() in {404, 413}
        async with httpx.AsyncClient(base_url=server.url, verify=PLAIN, trust_env=False) as outside:
            for path in ("/verify", "/api/v2/device/1/name"):
                with contextlib.suppress(httpx.TransportError):
                    answer = await outside.post(path, content=body)
                    assert answer.status_code in {401, 413}


async def unread_answers(server: ServerProcess, key: MachineKey) -> None:
    """200 sockets, more than there may be, that ask for long documents and read none of them."""
    ask = b"GET /api/openapi.json HTTP/1.1\r\nHost: x\r\n\r\n" * 4
    with contextlib.ExitStack() as all_of_them:
        for _ in range(200):
            one = all_of_them.enter_context(socket.socket())
            one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            one.setblocking(False)
            with contextlib.suppress(ConnectionError):
                await asyncio.get_running_loop().sock_connect(one, ("127.0.0.1", server.port))
                await asyncio.get_running_loop().sock_sendall(one, ask)
        async with httpx.AsyncClient(base_url=server.url, verify=PLAIN, trust_env=False) as healthy:
            assert (await healthy.get("/health")).status_code == 200


async def datagrams(server: ServerProcess, key: MachineKey) -> None:
    """20,000 datagrams to STUN that ask for nothing."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        for number in range(20_000):
            sender.sendto(os.urandom(1 + number % 600), ("127.0.0.1", server.stun_port))
            if number % 100 == 0:
                await asyncio.sleep(0)


def test_ten_thousand_idle_sockets(tmp_path: Path) -> None:
    """Where 1,024 descriptors are all there is, strangers make room for each other, not nodes."""
    with limited(tmp_path / "state", USUAL_DESCRIPTORS) as (server, api):
        withstand(server, api, idle_sockets)


@pytest.mark.parametrize("attack", [garbage, floods, oversize, unread_answers, datagrams])
def test_others_do_not_notice(site: tuple[ServerProcess, Api], attack: Attack) -> None:
    """While it lasts and after it a client's stream gets its deltas; what stays is bounded."""
    withstand(*site, attack)


def withstand(server: ServerProcess, api: Api, attack: Attack) -> None:
    """Attack while a client polls and an operator works."""

    @aio
    async def besieged() -> None:
        key = MachineKey.parse(
            (await asyncio.to_thread(httpx.get, f"{server.url}/key?v=130")).json()["publicKey"]
        )
        auth = await asyncio.to_thread(api.auth_key, user="alice@example.com", reusable=True)
        async with NoiseClient.connect(
            "127.0.0.1", server.port, machine=MACHINE, server=key
        ) as noise:
            witness = Device("witness", noise, public_key(MACHINE), CAPABILITY_VERSION)
            await witness.join(auth)
            async with witness.polling() as stream:
                node = (await stream.next())["Node"]["StableID"]
                before, said = resident_bytes(server), lines(server)
                under_way = asyncio.create_task(attack(server, key))
                for turn in range(6):
                    name = f"{attack.__name__.replace('_', '-')}-{turn}"
                    renamed = await asyncio.to_thread(
                        api.http.post, f"/device/{node}/name", json={"name": name}
                    )
                    assert renamed.status_code == 200, renamed.text
                    while name not in str(await stream.next()):
                        pass
                    if turn == 4:
                        await under_way
                assert resident_bytes(server) - before < RSS_BYTES
                assert lines(server) - said < 3 * LINES

    besieged()
