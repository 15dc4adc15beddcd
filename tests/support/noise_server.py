"""A real edge on loopback with ts2021 and a given inner application.

::

    async with serving(app) as at:
        async with at.client() as client: ...
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import os
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any

from mergescale.control.channel import Service
from mergescale.control.limits import Limits
from mergescale.control.upgrade import PROTOCOL, Door, Ts2021
from mergescale.control.websocket import WebSocketDoor
from mergescale.kernel.keys import MachineKey, PrivateKey
from mergescale.server.edge import Edge
from mergescale.server.listeners import Listener, TcpListener
from mergescale.server.takeover import Claim, Takeover
from mergescale.wire.noise import initiate, public_key
from support.noise_client import NoiseClient

SERVER = PrivateKey(b"\x01" * 32)
MACHINE = PrivateKey(b"\x02" * 32)


def upgrade_request(forwarded_for: str = "") -> bytes:
    """Return a request to ``/ts2021`` with an initiation that is as good as any."""
    ephemeral = PrivateKey(b"\x05" * 32)
    started = initiate(version=130, static=MACHINE, ephemeral=ephemeral, server=public_key(SERVER))
    lines = [
        b"POST /ts2021 HTTP/1.1\r\nHost: x\r\nConnection: upgrade",
        b"Upgrade: tailscale-control-protocol",
        b"X-Tailscale-Handshake: " + base64.b64encode(started.message),
    ]
    if forwarded_for:
        lines.append(b"X-Forwarded-For: " + forwarded_for.encode())
    return b"\r\n".join([*lines, b"", b""])


class RandomEntropy:
    """The system's randomness."""

    def bytes(self, count: int) -> bytes:
        return os.urandom(count)


@dataclass
class Outer:
    """An outer application: lifespan, ``/ts2021`` as WebSocket, otherwise what it saw."""

    websocket: WebSocketDoor
    started: int = 0
    stopped: int = 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        match scope:
            case {"type": "lifespan"}:
                await self._lifespan(scope, receive, send)
            case {"path": "/ts2021"}:
                await self.websocket(scope, receive, send)
            case {"type": "http"}:
                await self._http(scope, receive, send)

    async def _lifespan(self, scope: Any, receive: Any, send: Any) -> None:
        scope["state"]["local"] = "what an application says"
        while True:
            match (await receive())["type"]:
                case "lifespan.startup":
                    self.started += 1
                    await send({"type": "lifespan.startup.complete"})
                case _:
                    self.stopped += 1
                    await send({"type": "lifespan.shutdown.complete"})
                    return

    async def _http(self, scope: Any, receive: Any, send: Any) -> None:
        body = b""
        more = True
        while more:
            message = await receive()
            body += message.get("body", b"")
            more = message.get("more_body", False)
        host = dict(scope["headers"]).get(b"host", b"").decode()
        told = [scope["method"], scope["path"], scope["query_string"].decode(), host]
        text = " ".join([*told, str(scope["state"]["local"]), body.decode()]).strip().encode()
        headers = [(b"content-length", b"%d" % len(text))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": text})


@dataclass
class Serving:
    """A running edge.

    Attributes:
        edge: the edge.
        door: counts pending handshakes.
        outer: the outer application.
    """

    edge: Edge
    door: Door
    outer: Outer

    @property
    def port(self) -> int:
        """Port of the first listener."""
        port: int = self.edge.addresses[0][1]
        return port

    @property
    def key(self) -> MachineKey:
        """The server's public key."""
        return public_key(SERVER)

    def client(
        self, machine: PrivateKey = MACHINE, **more: Any
    ) -> AbstractAsyncContextManager[NoiseClient]:
        """Return a client to connect."""
        return NoiseClient.connect("127.0.0.1", self.port, machine=machine, server=self.key, **more)

    async def raw(self, data: bytes, *, until_closed: bool = True) -> bytes:
        """Send bytes to the first listener and return what came back."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            writer.write(data)
            return await (reader.read() if until_closed else reader.read(1 << 16))
        finally:
            writer.close()


@contextlib.asynccontextmanager
async def serving(
    inner: Any,
    *,
    limits: Limits | None = None,
    listeners: Sequence[Listener] = (),
    takeovers: Mapping[Claim, Takeover] | None = None,
    knows: Callable[[MachineKey], bool] = lambda _: False,
    **edge_options: Any,
) -> AsyncGenerator[Serving, None]:
    """Serve until the block ends, then stop with one second of grace; see `Edge` for options."""
    door = Door(SERVER, RandomEntropy(), Service(inner, limits or Limits(), knows))
    outer = Outer(WebSocketDoor(door))
    claims = {Claim("/ts2021", PROTOCOL, "POST"): Ts2021(door), **(takeovers or {})}
    edge = Edge(outer, listeners or [TcpListener("127.0.0.1", 0)], claims, **edge_options)
    await edge.start()
    try:
        yield Serving(edge, door, outer)
    finally:
        await edge.stop(1)
