"""One connection of one client: upgrade, Noise, HTTP/2."""

from __future__ import annotations

import asyncio
import base64
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

from bench import http2
from mergescale.kernel.keys import MachineKey, PrivateKey
from mergescale.wire.noise import RESPONSE_BYTES, Initiator, Transport, initiate

#: What stands between the head of a response and what follows.
_BLANK_LINE = b"\r\n\r\n"


class LinkLost(Exception):
    """Raised when the connection ended, or never came to be."""


class Answer(NamedTuple):
    """A whole response."""

    status: int
    body: bytes


@dataclass(frozen=True, slots=True)
class Server:
    """Where clients connect to.

    Attributes:
        key: control's Noise key, from ``/key``.
        version: the capability version to announce.
        tls: the URL's scheme is https.
    """

    host: str
    port: int
    key: MachineKey
    version: int = 130
    tls: bool = False

    def head(self, path: str) -> bytes:
        """Return the header block of a POST to `path`."""
        return http2.request_head(f"{self.host}:{self.port}", path)


#: Told of each piece of a response as it arrives: the piece, when (monotonic), whether it is the last.
Listener = Callable[[bytes, float, bool], None]


class Link(asyncio.Protocol):
    """A connection; `opened` is done when requests may be made.

    Attributes:
        received_bytes: from the socket, everything included.
    """

    __slots__ = (
        "_h2",
        "_head",
        "_initiator",
        "_listeners",
        "_noise",
        "_server",
        "_statuses",
        "_transport",
        "lost",
        "opened",
        "received_bytes",
    )

    def __init__(self, server: Server, machine: PrivateKey) -> None:
        self._server = server
        self._initiator: Initiator = initiate(
            version=server.version,
            static=machine,
            ephemeral=PrivateKey(os.urandom(32)),
            server=server.key,
        )
        self._noise: Transport | None = None
        self._h2 = http2.Client()
        self._head = b""
        self._transport: Any = None
        self._listeners: dict[int, Listener] = {}
        self._statuses: dict[int, int] = {}
        self.opened: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.lost = False
        self.received_bytes = 0

    # ------------------------------------------------------------------ asyncio.Protocol

    def connection_made(self, transport: Any) -> None:
        """Ask for the upgrade."""
        self._transport = transport
        handshake = base64.b64encode(self._initiator.message).decode()
        transport.write(
            (
                f"POST /ts2021 HTTP/1.1\r\nHost: {self._server.host}\r\n"
                "Upgrade: tailscale-control-protocol\r\nConnection: upgrade\r\n"
                f"X-Tailscale-Handshake: {handshake}\r\nContent-Length: 0\r\n\r\n"
            ).encode()
        )

    def data_received(self, data: bytes) -> None:
        """Take what arrived."""
        at = time.monotonic()
        self.received_bytes += len(data)
        if self._noise is None:
            data = self._shake_hands(data)
        if data and self._noise is not None:
            self._hear(self._noise.receive(data), at)

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell everybody who waits."""
        self.lost = True
        if not self.opened.done():
            self.opened.set_exception(LinkLost(str(exc or "closed")))
            self.opened.exception()  # whoever gave up waiting need not hear of it
        for listener in list(self._listeners.values()):
            listener(b"", time.monotonic(), True)
        self._listeners.clear()

    # ------------------------------------------------------------------ requests

    def post(self, head: bytes, body: bytes, listener: Listener) -> int:
        """Send a request; its response goes to `listener` piece by piece. Returns the stream."""
        if self.lost or self._noise is None:
            raise LinkLost("not connected")
        stream_id = self._h2.post(head, body)
        self._listeners[stream_id] = listener
        self._flush()
        return stream_id

    def status(self, stream_id: int) -> int:
        """Return the status of a response that has begun, else 0."""
        return self._statuses.get(stream_id, 0)

    async def ask(self, head: bytes, body: bytes) -> Answer:
        """Send a request and wait for the whole response."""
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        pieces: list[bytes] = []

        def listen(data: bytes, _: float, ended: bool) -> None:  # noqa: FBT001 - a Listener
            pieces.append(data)
            if ended and not done.done():
                done.set_result(None)

        stream_id = self.post(head, body, listen)
        await done
        status = self._statuses.pop(stream_id, 0)
        if not status:
            raise LinkLost("the connection ended before the response")
        return Answer(status, b"".join(pieces))

    def close(self) -> None:
        """Close now."""
        if self._transport is not None:
            self._transport.abort()

    # ------------------------------------------------------------------ in

    def _shake_hands(self, data: bytes) -> bytes:
        """Read the 101 and the Noise response; return what follows them."""
        self._head += data
        at = self._head.find(_BLANK_LINE)
        start = at + len(_BLANK_LINE)
        if at < 0 or len(self._head) < start + RESPONSE_BYTES:
            if at >= 0 and not self._head.startswith(b"HTTP/1.1 101"):
                self.close()
            return b""
        rest, self._head = self._head[start:], b""
        self._noise = self._initiator.finish(rest[:RESPONSE_BYTES])
        self._flush()
        if not self.opened.done():
            self.opened.set_result(None)
        return rest[RESPONSE_BYTES:]

    def _hear(self, plaintext: bytes, at: float) -> None:
        for kind, stream_id, data, ended, status in self._h2.receive(plaintext):
            if kind == http2.HEADERS:
                self._statuses[stream_id] = status
            if kind == http2.GOAWAY:
                self.close()
                return
            listener = self._listeners.get(stream_id)
            if listener is not None and (data or ended):
                if ended:
                    del self._listeners[stream_id]
                listener(data, at, ended)
        self._flush()

    def _flush(self) -> None:
        out = self._h2.take()
        if out and self._noise is not None and not self.lost:
            self._transport.write(self._noise.seal(out))
