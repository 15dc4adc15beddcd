"""Who asks over plain HTTP and does not read the answer: its socket and its memory have an end."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from mergescale.server.listeners import TcpListener
from mergescale.server.tls import CertificateFiles
from mergescale.server.unread import PIECE_BYTES, Unread
from support.aio import aio, until
from support.bridged import echo, read_body
from support.certificates import write
from support.noise_server import Serving, serving

pytestmark = pytest.mark.enable_socket

GET = b"GET /here HTTP/1.1\r\nHost: x\r\n\r\n"
MIB = 1 << 20
#: A look so late that no test sees it.
NEVER = 1e6


def answers(size_bytes: int) -> Any:
    """Return an outer application whose answers are as long."""

    async def outer(scope: Any, receive: Any, send: Any) -> None:
        await read_body(receive)
        headers = [(b"content-length", b"%d" % size_bytes)]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"x" * size_bytes})

    return outer


@contextlib.asynccontextmanager
async def answering(size_bytes: int, unread: Unread, **more: Any) -> AsyncIterator[Serving]:
    async with serving(echo, unread=unread, **more) as at:
        at.outer._http = answers(size_bytes)  # type: ignore[method-assign]
        yield at


async def asking(at: Serving, said: bytes = GET) -> socket.socket:
    """Connect with a small window, ask, and read nothing."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    sock.setblocking(False)
    loop = asyncio.get_running_loop()
    await loop.sock_connect(sock, ("127.0.0.1", at.port))
    await loop.sock_sendall(sock, said)
    return sock


async def healthy(at: Serving, size_bytes: int) -> None:
    """Do what anybody else does, on a connection of its own."""
    reader, writer = await asyncio.open_connection("127.0.0.1", at.port)
    writer.write(GET)
    await reader.readuntil(b"\r\n\r\n")
    assert await reader.readexactly(size_bytes) == b"x" * size_bytes
    writer.close()


@pytest.mark.parametrize("said", [GET, GET.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")])
@aio
async def test_an_answer_that_is_not_read_is_thrown_away(said: bytes) -> None:
    """Also where the connection was to be closed behind it; others get theirs."""
    unread = Unread(look_s=0.05)
    async with answering(8 * MIB, unread) as at:
        with await asking(at, said):
            await until(lambda: unread.held)
            await healthy(at, 8 * MIB)
            await until(lambda: not at.edge.state.connections)
            assert unread.held == {}


@aio
async def test_a_byte_at_a_time_in_both_directions_is_no_progress() -> None:
    """Bytes that are read, and bytes of a next request, keep an answer for two looks at most."""
    unread = Unread(look_s=0.05)
    async with answering(8 * MIB, unread) as at:
        with await asking(at) as sock:
            await until(lambda: unread.held)
            drip = iter(GET * 1000)
            while at.edge.state.connections:
                with contextlib.suppress(OSError):
                    sock.recv(1)
                    sock.send(bytes([next(drip)]))
                await asyncio.sleep(0.01)
            assert unread.held == {}


@aio
async def test_requests_without_end_whose_answers_nobody_reads() -> None:
    """Short answers stop at a buffer's size, and reading further requests stops with them."""
    unread, sent = Unread(look_s=0.2), 0
    async with answering(1000, unread) as at:
        with await asking(at) as sock:
            while at.edge.state.connections:
                with contextlib.suppress(OSError):
                    sent += sock.send(GET * 100)
                assert sum(unread.held.values()) < MIB
                await asyncio.sleep(0)
        # What the kernel's buffers of both ends hold comes on top.
        assert sent < 16 * MIB


@aio
async def test_unread_answers_have_a_bound_in_all() -> None:
    """Twenty of them where a few fit: the last ones are kept, and somebody who reads is served."""
    unread = Unread(look_s=NEVER, room_bytes=33 * MIB)
    async with answering(8 * MIB, unread) as at:
        with contextlib.ExitStack() as sockets:
            for _ in range(20):
                before = set(unread.held)
                sockets.enter_context(await asking(at))
                await until(lambda seen=before: set(unread.held) - seen)  # type: ignore[misc]
                assert sum(unread.held.values()) <= 33 * MIB
            await until(lambda: len(at.edge.state.connections) == len(unread.held))
            assert 4 <= len(unread.held) < 20
            await healthy(at, 8 * MIB)


@aio
async def test_who_does_not_read_makes_room() -> None:
    """Where all sockets there may be are taken by them, newcomers are served all the same."""
    unread = Unread(look_s=NEVER)
    async with answering(8 * MIB, unread, sockets=3) as at:
        with contextlib.ExitStack() as sockets:
            for _ in range(3):
                # The second request keeps the connection busy for as long as the first is unread.
                sockets.enter_context(await asking(at, GET * 2))
            await until(lambda: len(unread.held) == 3)
            for _ in range(2):
                await healthy(at, 8 * MIB)
            assert 1 <= len(unread.held) < 3


@aio
async def test_over_tls_too(tmp_path: Path) -> None:
    """Where TLS keeps what is written in buffers of its own."""
    files = CertificateFiles(tmp_path / "cert.pem", tmp_path / "key.pem")
    write(files)
    unread = Unread(look_s=0.05)
    listener = TcpListener("127.0.0.1", 0, files.context())
    async with answering(16 * MIB, unread, listeners=[listener]) as at:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        sock = await asking(at, b"")
        _, writer = await asyncio.open_connection(
            sock=sock, ssl=context, server_hostname="127.0.0.1", limit=1024
        )
        try:
            writer.write(GET)
            await until(lambda: unread.held)
            await until(lambda: not at.edge.state.connections)
            assert unread.held == {}
        finally:
            writer.transport.abort()
            await asyncio.sleep(0)


@aio
async def test_a_long_answer_arrives_whole_over_tls(tmp_path: Path) -> None:
    """In pieces that make what was sent, neither more nor less."""
    files = CertificateFiles(tmp_path / "cert.pem", tmp_path / "key.pem")
    write(files)
    listener = TcpListener("127.0.0.1", 0, files.context())
    for size_bytes in (0, 1, PIECE_BYTES, PIECE_BYTES + 1, 8 * MIB):
        async with answering(size_bytes, Unread(), listeners=[listener]) as at:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            reader, writer = await asyncio.open_connection("127.0.0.1", at.port, ssl=context)
            writer.write(GET.replace(b"Host", b"Connection: close\r\nHost"))
            assert (await reader.read()).partition(b"\r\n\r\n")[2] == b"x" * size_bytes
            writer.close()
