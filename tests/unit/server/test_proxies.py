"""Who is believed about the client: the socket, and the proxies that an operator named."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from pydantic import ValidationError
from uvicorn.server import ServerState

from mergescale.server.edge import Edge
from mergescale.server.listeners import TcpListener
from mergescale.server.proxies import Address, Proxies
from mergescale.server.settings import Settings
from mergescale.server.takeover import Claim
from mergescale.wire.httphead import Rejection, RequestHead
from support.aio import aio

OURS = Proxies(["127.0.0.1", "10.0.0.0/8", "2001:db8::/32"])


@pytest.mark.parametrize(
    ("peer", "said", "client"),
    [
        # Nobody else may say anything.
        ("192.0.2.9", ["198.51.100.1"], "192.0.2.9"),
        # A proxy's last word counts, whatever its client made up before it.
        ("127.0.0.1", ["198.51.100.1"], "198.51.100.1"),
        ("127.0.0.1", ["127.0.0.1, 10.9.9.9, 198.51.100.1"], "198.51.100.1"),
        ("127.0.0.1", ["6.6.6.6, 198.51.100.1"], "198.51.100.1"),
        ("127.0.0.1", ["6.6.6.6", "198.51.100.1"], "198.51.100.1"),
        # Several proxies in a row.
        ("127.0.0.1", ["6.6.6.6, 198.51.100.1, 10.1.1.1"], "198.51.100.1"),
        ("2001:db8::1", ["[2001:4860::7]:4711"], "2001:4860::7"),
        ("127.0.0.1", ["198.51.100.1:4711"], "198.51.100.1"),
        # Everybody is a proxy: the one farthest away asks.
        ("127.0.0.1", ["10.1.1.1, 10.2.2.2"], "10.1.1.1"),
        # Nothing, or nothing that makes sense: the last one we know.
        ("127.0.0.1", [], "127.0.0.1"),
        ("127.0.0.1", [""], "127.0.0.1"),
        ("127.0.0.1", ["unknown"], "127.0.0.1"),
        ("127.0.0.1", ["198.51.100.1, _hidden, 10.1.1.1"], "10.1.1.1"),
    ],
)
def test_the_client_is_the_last_address_not_trusted(
    peer: str, said: list[str], client: str
) -> None:
    """Read from the right; what stands left of it may be made up."""
    headers = [(b"x-forwarded-for", value.encode()) for value in said]
    found = OURS.client((peer, 5), headers)
    assert found is not None
    assert found[0] == client


def test_a_unix_socket_has_no_client() -> None:
    """Its requests come from this machine whatever they say."""
    assert OURS.client(None, [(b"x-forwarded-for", b"198.51.100.1")]) is None


@pytest.mark.parametrize("everybody", ["0.0.0.0/0", "::/0"])
def test_nobody_trusts_everybody(everybody: str) -> None:
    """With it, any client could say who it is."""
    with pytest.raises(ValidationError, match="is everybody"):
        Settings(trusted_proxies=("127.0.0.1", everybody))
    with pytest.raises(ValidationError, match="is no address"):
        Settings(trusted_proxies=("proxy.example.com",))
    with pytest.raises(ValidationError, match="is no address"):
        Settings(trusted_proxies=("10.0.0.1/8",))


def test_proxies_stand_between_commas(monkeypatch: pytest.MonkeyPatch) -> None:
    """An environment variable is written by hand."""
    monkeypatch.setenv("MERGESCALE_TRUSTED_PROXIES", "127.0.0.1, 10.0.0.0/8")
    assert Settings().trusted_proxies == ("127.0.0.1", "10.0.0.0/8")


async def who(scope: Any, receive: Any, send: Any) -> None:
    """An application that says who asks, and how."""
    if scope["type"] == "lifespan":
        for step in ("startup", "shutdown"):
            await receive()
            await send({"type": f"lifespan.{step}.complete"})
        return
    told = json.dumps([scope["client"][0], scope["scheme"]]).encode()
    headers = [(b"content-length", str(len(told)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": told})


@pytest.mark.enable_socket
@pytest.mark.parametrize(
    ("trusted", "client", "tls"), [((), "127.0.0.1", False), (("127.0.0.0/8",), "7.7.7.7", True)]
)
@aio
async def test_requests_and_upgrades_agree(
    trusted: tuple[str, ...], client: str, tls: bool
) -> None:
    """The application and what takes a socket over see the same client; forged headers do nothing."""
    heads: list[RequestHead] = []

    def takeover(request: RequestHead, registry: ServerState) -> Rejection:
        heads.append(request)
        return Rejection(503, "seen")

    listeners = [TcpListener("127.0.0.1", 0)]
    edge = Edge(who, listeners, {Claim("/up", "odd"): takeover}, trusted_proxies=trusted)
    await edge.start()
    address: Address = edge.addresses[0]
    forged = (
        b"Host: h\r\nX-Forwarded-For: 6.6.6.6, 7.7.7.7\r\nX-Forwarded-Proto: https\r\n"
        b"Forwarded: for=6.6.6.6\r\nX-Real-IP: 6.6.6.6\r\n"
    )
    for request in (
        b"GET / HTTP/1.1\r\nConnection: close\r\n" + forged + b"\r\n",
        b"GET /up HTTP/1.1\r\nConnection: upgrade\r\nUpgrade: odd\r\n" + forged + b"\r\n",
    ):
        reader, writer = await asyncio.open_connection(*address)
        writer.write(request)
        answer = await reader.read()
        writer.close()
        if b" 200 " in answer:
            assert json.loads(answer.partition(b"\r\n\r\n")[2]) == [
                client,
                "https" if tls else "http",
            ]
    [head] = heads
    assert head.client is not None
    assert (head.client[0], head.tls) == (client, tls)
    await edge.stop(1)
