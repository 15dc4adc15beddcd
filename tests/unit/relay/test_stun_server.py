from __future__ import annotations

import asyncio
import contextlib
import socket
import sys
from collections.abc import AsyncGenerator, Iterator
from ipaddress import ip_address

import pytest

from mergescale.relay.stun import StunCounters, StunServer
from mergescale.wire import stun
from support.aio import aio

pytestmark = pytest.mark.enable_socket

ANY = "0.0.0.0"  # noqa: S104 - the wildcard is what is tested
TRANSACTION = b"transaction!"
QUESTION = stun.request(TRANSACTION)


@contextlib.asynccontextmanager
async def answering(host: str) -> AsyncGenerator[StunServer, None]:
    server = StunServer(host, 0)
    await server.start()
    try:
        yield server
    finally:
        server.stop()


@contextlib.contextmanager
def asking(server: StunServer, host: str) -> Iterator[socket.socket]:
    """A connected socket: it hears only answers from the address that it asked."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as sock:
        sock.setblocking(False)
        sock.connect((host, server.addresses[0][1]))
        yield sock


async def ask(sock: socket.socket, *datagrams: bytes) -> bytes:
    """Send datagrams and return the first answer."""
    loop = asyncio.get_running_loop()
    for datagram in datagrams:
        await loop.sock_sendall(sock, datagram)
    return await loop.sock_recv(sock, 1500)


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
@aio
async def test_a_client_learns_its_address(host: str) -> None:
    """The answer holds transaction, address and port of the question, over both families."""
    async with answering(host) as server:
        with asking(server, host) as sock:
            answer = await ask(sock, QUESTION)
            port = sock.getsockname()[1]
        assert stun.parse_response(answer) == stun.Mapped(TRANSACTION, ip_address(host), port)
        assert server.counters == StunCounters(answered=1)


@aio
async def test_the_wildcard_serves_both_families_on_one_port() -> None:
    """Bound to everything, the same port answers IPv4 and IPv6, each with its own address."""
    async with answering("::") as server:
        assert [host for host, _ in server.addresses] == ["::", ANY]
        assert len({port for _, port in server.addresses}) == 1
        for host in ("127.0.0.1", "::1"):
            with asking(server, host) as sock:
                answer = stun.parse_response(await ask(sock, QUESTION))
            assert answer.address == ip_address(host)


@pytest.mark.skipif(sys.platform != "linux", reason="other systems choose the source themselves")
@aio
async def test_the_answer_comes_from_the_address_that_was_asked() -> None:
    """On a host with many addresses, a client that asked 127.0.0.2 is answered from there."""
    async with answering(ANY) as server:
        with asking(server, "127.0.0.2") as sock:
            sock_port = sock.getsockname()[1]
            assert stun.parse_response(await ask(sock, QUESTION)).port == sock_port


@aio
async def test_anything_else_is_ignored() -> None:
    """Garbage, a bare binding request, a wrong fingerprint and an answer get no answer."""
    bare = b"\x00\x01\x00\x00" + stun.COOKIE + TRANSACTION
    forged = QUESTION[:-1] + bytes([QUESTION[-1] ^ 1])
    reflected = stun.response(TRANSACTION, ip_address("127.0.0.1"), 1)
    garbage = [b"", b"x", b"\xff" * 40, bare, forged, reflected, b"\0" * 9000, QUESTION + b"x"]
    async with answering("127.0.0.1") as server:
        with asking(server, "127.0.0.1") as sock:
            # Datagrams of one socket keep their order on loopback: the one answer is the last's.
            answer = await ask(sock, *garbage, stun.request(b"another one!"))
            assert stun.parse_response(answer).transaction == b"another one!"
            with pytest.raises(BlockingIOError):
                sock.recv(1500)
        assert server.counters == StunCounters(answered=1, ignored=len(garbage))


@aio
async def test_an_ipv4_answer_is_shorter_than_its_question() -> None:
    """40 bytes in, 32 out: nobody gains by forging a source."""
    async with answering("127.0.0.1") as server:
        with asking(server, "127.0.0.1") as sock:
            assert (len(QUESTION), len(await ask(sock, QUESTION))) == (40, 32)


@aio
async def test_many_questions_are_all_answered() -> None:
    """More questions than a batch, all waiting at once, are answered in turns of the loop."""
    async with answering("127.0.0.1") as server:
        with asking(server, "127.0.0.1") as sock:
            asked = [b"%012d" % number for number in range(100)]
            for transaction in asked:
                sock.send(stun.request(transaction))
            loop = asyncio.get_running_loop()
            answers = [await loop.sock_recv(sock, 1500) for _ in asked]
        assert [stun.parse_response(answer).transaction for answer in answers] == asked
        assert server.counters.answered == 100


@aio
async def test_a_client_that_went_away_disturbs_nobody() -> None:
    """The port-unreachable of an answer to a closed socket leaves the server answering."""
    async with answering("127.0.0.1") as server:
        for _ in range(3):
            with asking(server, "127.0.0.1") as gone:
                gone.send(QUESTION)
        with asking(server, "127.0.0.1") as sock:
            assert stun.parse_response(await ask(sock, QUESTION)).transaction == TRANSACTION


@aio
async def test_an_address_in_use_is_an_error_and_leaves_nothing_open() -> None:
    """A server that cannot bind says so; after stop the port is free again."""
    async with answering("127.0.0.1") as server:
        port = server.addresses[0][1]
        second = StunServer("127.0.0.1", port)
        with pytest.raises(OSError, match="in use"):
            await second.start()
        assert second.addresses == []
    server.stop()
    third = StunServer("127.0.0.1", port)
    await third.start()
    assert third.addresses == [("127.0.0.1", port)]
    third.stop()


@aio
async def test_a_name_is_bound_at_its_addresses() -> None:
    """``localhost`` is as good as 127.0.0.1."""
    async with answering("localhost") as server:
        with asking(server, "127.0.0.1") as sock:
            assert stun.parse_response(await ask(sock, QUESTION)).address == ip_address("127.0.0.1")
