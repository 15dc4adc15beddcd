"""One client: who it is, and the conversation a real one has (spec 9.2)."""

from __future__ import annotations

import asyncio
import contextlib
import os
import ssl
from collections.abc import Callable
from typing import Any, Final

import msgspec

from bench.link import Answer, Link, LinkLost, Server
from bench.messages import Splitter, is_keepalive
from mergescale.kernel.keys import DiscoKey, NodeKey, PrivateKey
from mergescale.wire.derp import node_key

#: LIMIT: how often a connection is tried; more clients than the kernel's backlog need a second try.
_TRIES: Final = 5
_PAUSE_S: Final = 0.5
#: LIMIT: one request that is not a map poll.
_ANSWER_S: Final = 120.0

#: Told of each map message but keepalives: the payload, when its last byte arrived.
Heard = Callable[["Machine", bytes, float], None]


class Refused(Exception):
    """Raised when the server answers, but not as it should."""


class Machine:
    """A client with one node.

    Attributes:
        number: from 0; its name and endpoints follow from it.
        private: of the node key; the relay's handshake needs it.
        server: where it connects to.
        heard: who listens to its map stream; None for nobody.
        payload_bytes: of map messages, keepalives not counted.
        messages: the same, their number.
        tries: connections that failed.
    """

    __slots__ = (
        "_disco",
        "_endpoints",
        "_machine",
        "_splitter",
        "heard",
        "link",
        "messages",
        "node",
        "number",
        "payload_bytes",
        "private",
        "server",
        "tries",
    )

    def __init__(self, number: int, server: Server) -> None:
        self.number = number
        self.private = PrivateKey(os.urandom(32))
        self.node: NodeKey = node_key(self.private)
        self.link: Link | None = None
        self.heard: Heard | None = None
        self.payload_bytes = 0
        self.messages = 0
        self.tries = 0
        self._machine = PrivateKey(os.urandom(32))
        self._disco = DiscoKey(os.urandom(32))
        self.server = server
        self._endpoints = endpoints_of(number, 41641)
        self._splitter = Splitter()

    @property
    def received_bytes(self) -> int:
        """What the connection of now has received from its socket."""
        return 0 if self.link is None else self.link.received_bytes

    async def connect(self) -> None:
        """Open a connection; tries again when it is refused, as a client does.

        Raises:
            LinkLost: five times in vain.
        """
        for attempt in range(_TRIES):
            with contextlib.suppress(OSError, LinkLost):
                self.link = await dial(self.server, self._machine)
                return
            self.tries += 1
            await asyncio.sleep(_PAUSE_S * (attempt + 1))
        raise LinkLost("the server cannot be reached")

    def disconnect(self) -> None:
        """Break the connection, as a network does."""
        link, self.link = self.link, None
        if link is not None:
            link.close()

    async def register(self, auth_key: str) -> None:
        """Register with a pre-auth key.

        Raises:
            Refused: the server does not let it in.
        """
        said = {
            "Version": self.server.version,
            "NodeKey": str(self.node),
            "Auth": {"AuthKey": auth_key},
            "Hostinfo": hostinfo(self.number),
        }
        answer = await self._ask("/machine/register", said)
        if not msgspec.json.decode(answer.body).get("MachineAuthorized"):
            raise Refused("the server did not admit a client")

    async def update(self, port: int | None = None) -> None:
        """Send a lite update: Hostinfo, disco key, and endpoints, on another port if one is given."""
        if port is not None:
            self._endpoints = endpoints_of(self.number, port)
        said = {**self._map_request(), "OmitPeers": True, "Hostinfo": hostinfo(self.number)}
        await self._ask("/machine/map", said)

    async def read_map(self) -> bytes:
        """Ask for one full map outside of a stream; return its frame."""
        return (await self._ask("/machine/map", {**self._map_request(), "ReadOnly": True})).body

    def poll(self) -> None:
        """Open the map stream; what arrives goes to `heard`."""
        self._splitter = Splitter()
        body = {**self._map_request(), "Stream": True, "Hostinfo": hostinfo(self.number)}
        link = self._linked()
        link.post(self.server.head("/machine/map"), msgspec.json.encode(body), self._take)

    def _take(self, data: bytes, at: float, ended: bool) -> None:  # noqa: ARG002, FBT001 - a Listener
        for payload in self._splitter.feed(data):
            if is_keepalive(payload):
                continue
            self.messages += 1
            self.payload_bytes += len(payload)
            if self.heard is not None:
                self.heard(self, payload, at)

    async def _ask(self, path: str, said: dict[str, Any]) -> Answer:
        async with asyncio.timeout(_ANSWER_S):
            answer = await self._linked().ask(self.server.head(path), msgspec.json.encode(said))
        if answer.status != 200:
            raise Refused(f"{path} answered {answer.status}: {answer.body[:200].decode()}")
        return answer

    def _linked(self) -> Link:
        if self.link is None:
            raise LinkLost("not connected")
        return self.link

    def _map_request(self) -> dict[str, Any]:
        return {
            "Version": self.server.version,
            "Compress": "zstd",
            "KeepAlive": True,
            "NodeKey": str(self.node),
            "DiscoKey": str(self._disco),
            "Endpoints": self._endpoints,
        }


async def dial(server: Server, machine: PrivateKey) -> Link:
    """Open a connection; done when requests may be made.

    Raises:
        LinkLost, OSError: it did not come to be.
    """
    loop = asyncio.get_running_loop()
    context = ssl.create_default_context() if server.tls else None
    _, link = await loop.create_connection(
        lambda: Link(server, machine), server.host, server.port, ssl=context
    )
    await link.opened
    return link


def hostinfo(number: int) -> dict[str, Any]:
    """Return a Hostinfo such as a Linux client sends (spec 3.6)."""
    return {
        "IPNVersion": "1.90.9-t0123456789",
        "BackendLogID": f"{number:064x}",
        "OS": "linux",
        "OSVersion": "6.12.57",
        "Distro": "debian",
        "DistroVersion": "13",
        "Hostname": f"host-{number:05}",
        "Machine": "x86_64",
        "GoArch": "amd64",
        "GoVersion": "go1.25.4",
        "Services": [{"Proto": "peerapi4", "Port": 40_000 + number % 10_000}],
        "NetInfo": {
            "MappingVariesByDestIP": False,
            "WorkingIPv6": True,
            "WorkingUDP": True,
            "PreferredDERP": 999,
            "DERPLatency": {"999-v4": 0.004},
        },
    }


def endpoints_of(number: int, port: int) -> list[str]:
    """Return a public and a private endpoint of a client (documentation and private ranges)."""
    high, low = number >> 8 & 0xFF, number & 0xFF
    return [f"198.18.{high}.{low}:{port}", f"10.{number >> 16}.{high}.{low}:{port}"]
