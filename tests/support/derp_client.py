"""A DERP client for tests: native over TCP or TLS, fast start, or WebSocket.

::

    async with DerpClient.connect("127.0.0.1", port, private=key) as client:
        client.send(other.key, b"packet")
        event = await client.event()        # what wire.derp.client tells, in order

It is as strict as the Rust client. For hostile tests, ``client.link`` takes raw bytes,
``client.stop_reading`` makes it a suspended laptop, and ``gone`` is set when the relay hung up.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import ssl
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Any, Protocol

from websockets.asyncio.client import ClientConnection
from websockets.asyncio.client import connect as connect_websocket
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol

from mergescale.kernel.errors import RemoteProtocolError
from mergescale.kernel.keys import NodeKey, PrivateKey
from mergescale.wire.derp import ClientSession, frames, node_key
from mergescale.wire.derp.client import ClientEvent, Connected, PacketReceived


class NotConnected(Exception):
    """Raised when the relay hung up, or answered anything but an upgrade.

    Attributes:
        answer: the bytes of the HTTP answer, if that was it.
    """

    def __init__(self, answer: bytes = b"") -> None:
        super().__init__("not connected")
        self.answer = answer


class Link(Protocol):
    """What carries the frames."""

    async def read(self) -> bytes:
        """Return some bytes, none at the end."""

    async def write(self, data: bytes) -> None:
        """Send `data`."""

    async def close(self) -> None:
        """Close."""


@dataclass(frozen=True, slots=True)
class StreamLink:
    """A TCP or TLS socket."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def read(self) -> bytes:
        with contextlib.suppress(ConnectionError):
            return await self.reader.read(1 << 16)
        return b""

    async def write(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def close(self) -> None:
        self.writer.close()
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            await self.writer.wait_closed()


@dataclass(frozen=True, slots=True)
class MessageLink:
    """A WebSocket."""

    socket: ClientConnection

    async def read(self) -> bytes:
        with contextlib.suppress(ConnectionClosed):
            message = await self.socket.recv()
            assert isinstance(message, bytes)
            return message
        return b""

    async def write(self, data: bytes) -> None:
        await self.socket.send(data)

    async def close(self) -> None:
        await self.socket.close()


class DerpClient:
    """An admitted client, which reads all the time.

    Attributes:
        key: its public key.
        server: the relay's public key.
        link: raw access.
        gone: set when the relay hung up.
    """

    def __init__(self, link: Link, private: PrivateKey) -> None:
        self.key = node_key(private)
        self.link = link
        self.server = NodeKey.zero()
        self.gone = asyncio.Event()
        self._session = ClientSession(private, os.urandom(frames.NONCE_BYTES))
        self._events: asyncio.Queue[ClientEvent] = asyncio.Queue()
        self._reader: asyncio.Task[None] | None = None

    @classmethod
    @contextlib.asynccontextmanager
    async def connect(
        cls,
        host: str,
        port: int,
        *,
        private: PrivateKey,
        tls: ssl.SSLContext | None = None,
        websocket: bool = False,
        fast_start: NodeKey | None = None,
    ) -> AsyncGenerator[DerpClient, None]:
        """Connect and get past the handshake.

        Args:
            host: address.
            port: TCP port.
            private: the node's private key.
            tls: how to encrypt; None for not at all.
            websocket: use a WebSocket.
            fast_start: the relay's key, to begin without an HTTP response.

        Raises:
            NotConnected: the relay refused.
        """
        if websocket:
            link: Link = await open_websocket(host, port, tls)
        else:
            link = await open_link(host, port, tls)
        client = cls(link, private)
        try:
            if fast_start is not None:
                await client._begin_fast(fast_start)
            elif not websocket:
                await client._receive(await upgrade(link))
            await client._be_admitted()
            client._reader = asyncio.create_task(client._read())
            yield client
        finally:
            await client.stop_reading()
            await link.close()

    def send(self, destination: NodeKey, *packets: bytes) -> None:
        """Send packets in one write, without waiting for anything."""
        for packet in packets:
            self._session.send(destination, packet)
        self._write_soon()

    def ping(self, data: bytes) -> None:
        """Send a ping of 8 bytes."""
        self._session.ping(data)
        self._write_soon()

    def prefer(self, *, home: bool) -> None:
        """Say whether this region is home."""
        self._session.prefer(home=home)
        self._write_soon()

    async def event(self) -> ClientEvent:
        """Return the next event; raise `NotConnected` when there will be none."""
        gone = asyncio.ensure_future(self.gone.wait())
        event = asyncio.ensure_future(self._events.get())
        try:
            await asyncio.wait({gone, event}, return_when=asyncio.FIRST_COMPLETED)
            if not event.done():
                raise NotConnected
            return event.result()
        finally:
            gone.cancel()
            event.cancel()

    async def packet(self) -> tuple[NodeKey, bytes]:
        """Return source and packet of the next event, which must be a packet."""
        event = await self.event()
        assert isinstance(event, PacketReceived), event
        return event.source, event.packet

    async def stop_reading(self) -> None:
        """Leave what comes in the socket."""
        if self._reader is not None:
            self._reader.cancel()
            await asyncio.wait({self._reader})
            if not self._reader.cancelled() and (error := self._reader.exception()):
                raise error
            self._reader = None

    def resume_reading(self) -> None:
        """Read again."""
        self._reader = asyncio.create_task(self._read())

    async def _begin_fast(self, server: NodeKey) -> None:
        """Send the head and the first frame in one write, and read no HTTP."""
        greeting = frames.server_key(server)
        self._session.receive(greeting)
        await self.link.write(request_head("Derp-Fast-Start: 1") + self._session.take())
        told = b""
        while len(told) < len(greeting):
            told += await self._some()
        assert told.startswith(greeting)
        await self._receive(told[len(greeting) :])

    async def _be_admitted(self) -> None:
        while self._events.empty():
            await self._receive(await self._some())
        connected = self._events.get_nowait()
        assert isinstance(connected, Connected)
        self.server = connected.server

    async def _some(self) -> bytes:
        data = await self.link.read()
        if not data:
            raise NotConnected
        return data

    async def _read(self) -> None:
        while data := await self.link.read():
            await self._receive(data)
        self.gone.set()

    async def _receive(self, data: bytes) -> None:
        for event in self._session.receive(data):
            self._events.put_nowait(event)
        if out := self._session.take():
            await self.link.write(out)

    def _write_soon(self) -> None:
        """Write what the session has; as a task, since a WebSocket's write is a coroutine."""
        data = self._session.take()
        match self.link:
            case StreamLink(writer=writer):
                writer.write(data)
            case link:
                _keep(asyncio.create_task(link.write(data)))


_tasks: set[asyncio.Task[Any]] = set()


def _keep(task: asyncio.Task[Any]) -> None:
    """Keep a task alive until it is done, as the loop alone does not."""
    _tasks.add(task)
    task.add_done_callback(_tasks.discard)


def request_head(*headers: str, method: str = "GET", upgrade_to: str = "DERP") -> bytes:
    """Return the head of a request to upgrade."""
    lines = [f"{method} /derp HTTP/1.1", "Host: relay", "Connection: Upgrade"]
    return "\r\n".join([*lines, f"Upgrade: {upgrade_to}", *headers, "", ""]).encode()


async def open_link(host: str, port: int, tls: ssl.SSLContext | None = None) -> StreamLink:
    """Open a socket."""
    name = host if tls else None
    return StreamLink(*await asyncio.open_connection(host, port, ssl=tls, server_hostname=name))


async def open_websocket(host: str, port: int, tls: ssl.SSLContext | None = None) -> MessageLink:
    """Open a WebSocket as a browser would, from any origin and without compression."""
    socket = await connect_websocket(
        f"{'wss' if tls else 'ws'}://{host}:{port}/derp",
        ssl=tls,
        subprotocols=[Subprotocol("derp")],
        additional_headers={"Origin": "https://elsewhere.example"},
        compression=None,
        proxy=None,
        close_timeout=0.2,  # a client that stopped reading does not see the other side's close
    )
    assert socket.subprotocol == "derp"
    return MessageLink(socket)


async def upgrade(link: StreamLink | Link, head: bytes | None = None) -> bytes:
    """Ask for an upgrade; return the bytes behind the 101.

    Raises:
        NotConnected: the answer was another one.
    """
    await link.write(head or request_head())
    answer = b""
    while b"\r\n\r\n" not in answer:
        data = await link.read()
        if not data:
            raise NotConnected(answer)
        answer += data
    if not answer.startswith(b"HTTP/1.1 101 "):
        raise NotConnected(answer)
    return answer.partition(b"\r\n\r\n")[2]


def pinned(pin: str, peer: Any) -> None:
    """Check the certificate of a TLS connection against tailcfg.DERPNode.CertName, as clients do.

    Raises:
        RemoteProtocolError: it is another one.
    """
    der = peer.getpeercert(binary_form=True)
    if pin != "sha256-raw:" + hashlib.sha256(der).hexdigest():
        raise RemoteProtocolError("another certificate than the pinned one")


def unverified() -> ssl.SSLContext:
    """Return a TLS client that believes anybody; `pinned` looks afterwards."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context
