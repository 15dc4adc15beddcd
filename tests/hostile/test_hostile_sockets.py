"""Sockets that say nothing, drip or pour, at the edge: others have room, time and memory."""

from __future__ import annotations

import asyncio
import contextlib
import resource
from typing import Any

import pytest

from mergescale.control.limits import Limits
from mergescale.server import descriptors
from mergescale.server.takeover import MESSAGE_BYTES
from support.aio import aio, until
from support.bridged import Dripping, echo, read_body
from support.noise_server import Serving, serving, upgrade_request

pytestmark = pytest.mark.enable_socket

GET = b"GET /here HTTP/1.1\r\nHost: x\r\n\r\n"
POST = b"POST /here HTTP/1.1\r\nHost: x\r\n"


async def opened(at: Serving, said: bytes = b"") -> tuple[asyncio.StreamReader, Any]:
    reader, writer = await asyncio.open_connection("127.0.0.1", at.port)
    writer.write(said)
    return reader, writer


async def answered(at: Serving) -> None:
    """Do what a healthy client does."""
    reader, writer = await opened(at, GET)
    assert (await reader.readline()).startswith(b"HTTP/1.1 200 ")
    writer.close()


async def ended(reader: asyncio.StreamReader) -> bytes:
    """Return what came before the end, however it ended."""
    told = b""
    with contextlib.suppress(ConnectionError):
        while some := await reader.read(1 << 16):
            told += some
    return told


@pytest.mark.parametrize("said", [b"", b"GET / HT", b"\r\n", GET])
@aio
async def test_who_waits_longest_makes_room(said: bytes) -> None:
    """Of any number of idle sockets there are never more than the bound, and all others work.

    Silent, half-way in a head, or kept alive after an answer.
    """
    app = Dripping()
    async with serving(app, sockets=8) as at, at.client() as client:
        stream = await client.open("POST", "/machine/map", b"{}")
        await stream.started()
        idle = []
        for _ in range(64):
            idle.append(await opened(at, said))
            if said == GET:
                await idle[-1][0].readline()
            await until(lambda: len(at.edge.state.connections) <= 8)
        await answered(at)
        app.chunks.put_nowait(b"a delta")
        assert await stream.chunk() == b"a delta"
        for reader, _ in idle[:50]:
            await ended(reader)
        for _, writer in idle:
            writer.close()


@aio
async def test_who_is_being_served_keeps_its_place() -> None:
    """When everybody is busy it is the newcomer that has to go."""
    async with serving(echo, sockets=2) as at, at.client() as one, at.client() as other:
        reader, writer = await opened(at)
        assert await ended(reader) == b""
        writer.close()
        for client in (one, other):
            assert (await client.get("/big/3")).body == b"xxx"


@pytest.mark.parametrize(
    ("head", "drop"),
    [
        (b"Content-Length: 1000000\r\n\r\n", b"x"),
        (b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n"),
        (b"Transfer-Encoding: chunked\r\n\r\n0\r\nx-t: ", b"y"),
    ],
)
@aio
async def test_a_dripping_message_has_a_deadline(head: bytes, drop: bytes) -> None:
    """However steadily a body or a trailer drips, it ends at the deadline of the message."""
    async with serving(echo, message_s=0.05) as at:
        reader, writer = await opened(at, POST + head)
        gone = asyncio.create_task(ended(reader))
        while not gone.done():
            writer.write(drop)
            await asyncio.sleep(0)
        await answered(at)
        writer.close()


@aio
async def test_an_answer_has_no_deadline() -> None:
    """A request that came whole may be answered long after the deadline of messages."""
    late = asyncio.Event()

    async def outer(scope: Any, receive: Any, send: Any) -> None:
        await read_body(receive)
        asyncio.get_running_loop().call_later(0.05, late.set)
        await late.wait()
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    async with serving(echo, message_s=0.001) as at:
        at.outer._http = outer  # type: ignore[method-assign]
        reader, writer = await opened(at, POST + b"Content-Length: 1\r\n\r\nx")
        assert (await reader.readline()).startswith(b"HTTP/1.1 204 ")
        writer.close()


@pytest.mark.parametrize("piece", [b"x" * 65_536, b"x-t: " + b"y" * 1000 + b"\r\n"])
@aio
async def test_endless_trailers_are_cut(piece: bytes) -> None:
    """One trailer without an end, or trailers without an end, stop at MESSAGE_BYTES."""
    async with serving(echo) as at:
        head = b"Transfer-Encoding: chunked\r\n\r\n0\r\nx-t: 1\r\n"
        reader, writer = await opened(at, POST + head)
        gone = asyncio.create_task(ended(reader))
        sent = 0
        with contextlib.suppress(ConnectionError):
            while not gone.done():
                writer.write(piece)
                sent += len(piece)
                await writer.drain()
                await asyncio.sleep(0)
        await gone
        # What the kernel's buffers of both ends hold comes on top.
        assert sent < MESSAGE_BYTES + (12 << 20)
        await answered(at)
        writer.close()


@aio
async def test_trailers_are_no_headers() -> None:
    """What comes behind the body is not added to what the application sees."""
    seen: list[Any] = []

    async def outer(scope: Any, receive: Any, send: Any) -> None:
        await read_body(receive)
        seen.extend(scope["headers"])
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    async with serving(echo) as at:
        at.outer._http = outer  # type: ignore[method-assign]
        body = b"Transfer-Encoding: chunked\r\n\r\n0\r\nauthorization: Bearer x\r\n\r\n"
        reader, writer = await opened(at, POST + body)
        assert (await reader.readline()).startswith(b"HTTP/1.1 204 ")
        assert seen == [(b"host", b"x"), (b"transfer-encoding", b"chunked")]
        writer.close()


@aio
async def test_silent_handshakes_lock_nobody_out() -> None:
    """One initiation replayed over and over: what is silent is bounded, and clients get in."""
    app = Dripping()
    async with serving(app, limits=Limits(pending_handshakes=4)) as at:
        first = upgrade_request()
        silent = []
        for _ in range(40):
            silent.append(await opened(at, first))
            await silent[-1][0].readuntil(b"\r\n\r\n")
            assert at.door.pending <= 4
        async with at.client() as client:
            stream = await client.open("POST", "/machine/map", b"{}")
            assert await stream.started() == 200
        for _, writer in silent:
            writer.close()


@pytest.mark.parametrize(
    ("soft", "hard", "raised", "room"),
    [
        (1024, 4096, 4096, 4096 - 128),
        (256, 256, 256, 128),
        (100, 100, 100, 25),
        (1024, 1 << 20, (1 << 15) + 128, 1 << 15),
        (-1, -1, -1, 1 << 15),
    ],
)
def test_the_bound_leaves_descriptors_for_the_server(
    monkeypatch: pytest.MonkeyPatch, soft: int, hard: int, raised: int, room: int
) -> None:
    """The soft limit is raised as far as is of use; some are kept for database and git."""
    now = [(soft, hard)]
    monkeypatch.setattr(resource, "getrlimit", lambda _: now[-1])
    monkeypatch.setattr(resource, "setrlimit", lambda _, limit: now.append(limit))
    assert descriptors.room() == room
    assert now[-1] == (raised, hard)
