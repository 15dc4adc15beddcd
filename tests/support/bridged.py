"""A bridge in memory with a hyper-h2 client at its other end, and small ASGI applications."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import DataReceived, Event, ResponseReceived, StreamReset

from mergescale.control.bridge import ASGIApp, Bridge
from mergescale.control.limits import Limits
from mergescale.control.scope import Peer
from mergescale.kernel.keys import MachineKey
from support.aio import turns

MACHINE = MachineKey(bytes(range(32)))
GET = [(":method", "GET"), (":scheme", "https"), (":authority", "unused"), (":path", "/")]


@dataclass
class MemoryWire:
    """Where a bridge writes; a test decides when it is full."""

    out: bytearray = field(default_factory=bytearray)
    writes: int = 0
    closed: bool = False
    aborted: bool = False
    waiting: int = 0
    on_write: Callable[[], None] | None = None

    def write(self, plaintext: bytes) -> None:
        self.writes += 1
        self.out += plaintext
        if self.on_write is not None:
            self.on_write()

    def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.closed = self.aborted = True

    def waiting_bytes(self) -> int:
        return self.waiting


class Bridged:
    """A started bridge and its client; make it inside a running loop."""

    def __init__(
        self, app: ASGIApp, limits: Limits | None = None, *, settings: dict[int, int] | None = None
    ) -> None:
        self.wire = MemoryWire()
        self.tasks: set[asyncio.Task[None]] = set()
        peer = Peer(MACHINE, 130, ("127.0.0.1", 4321), ("127.0.0.1", 80))
        self.bridge = Bridge(app, peer, self.wire, tasks=self.tasks, limits=limits or Limits())
        self.bridge.start()
        self.client = H2Connection(H2Configuration(client_side=True, header_encoding="utf-8"))
        self.client.initiate_connection()
        if settings:
            self.client.update_settings(settings)
        self.events: list[Event] = []

    async def exchange(self, *, deliver: bool = True) -> list[Event]:
        """Carry bytes both ways until nothing moves; return what the client saw meanwhile."""
        seen: list[Event] = []
        while True:
            if out := self.client.data_to_send():
                self.bridge.receive(out)
            await turns()
            if not deliver or not self.wire.out:
                break
            arrived = bytes(self.wire.out)
            self.wire.out.clear()
            seen += self.client.receive_data(arrived)
        self.events += seen
        return seen

    def request(self, method: str = "GET", path: str = "/", *, end: bool = True) -> int:
        """Queue request headers and return the stream's id."""
        stream_id = self.client.get_next_available_stream_id()
        fields = [(":method", method), (":scheme", "https"), (":authority", "unused")]
        self.client.send_headers(stream_id, [*fields, (":path", path)], end_stream=end)
        return stream_id

    def status(self, stream_id: int) -> int | None:
        """Return the status seen on a stream."""
        for event in self.events:
            if isinstance(event, ResponseReceived) and event.stream_id == stream_id:
                return int(dict(event.headers)[":status"])  # type: ignore[index]
        return None

    def body(self, stream_id: int) -> bytes:
        """Return the response body seen on a stream so far."""
        return b"".join(
            event.data or b""
            for event in self.events
            if isinstance(event, DataReceived) and event.stream_id == stream_id
        )

    def resets(self) -> list[tuple[int, int]]:
        """Return stream and code of each RST_STREAM seen."""
        return [
            (event.stream_id, int(event.error_code or 0))
            for event in self.events
            if isinstance(event, StreamReset)
        ]


async def read_body(receive: Any) -> bytes:
    """Return the whole request body, or what came before the client went."""
    body, more = b"", True
    while more:
        message = await receive()
        if message["type"] != "http.request":
            break
        body += message["body"]
        more = message["more_body"]
    return body


async def answer(send: Any, body: bytes, status: int = 200) -> None:
    """Send a whole response."""
    await send({"type": "http.response.start", "status": status, "headers": []})
    await send({"type": "http.response.body", "body": body})


async def echo(scope: Any, receive: Any, send: Any) -> None:
    """Answer with the request body; ``/big/<n>`` answers n bytes, ``/scope`` what it was told."""
    body = await read_body(receive)
    path = scope["path"]
    if path.startswith("/big/"):
        body = b"x" * int(path.removeprefix("/big/"))
    elif path == "/scope":
        body = json.dumps(
            {
                "method": scope["method"],
                "version": scope["http_version"],
                "query": scope["query_string"].decode(),
                "headers": [[k.decode(), v.decode()] for k, v in scope["headers"]],
                "state": {key: str(value) for key, value in scope["state"].items()},
                "client": scope["client"][0] if scope["client"] else None,
            }
        ).encode()
    await answer(send, body)


class Dripping:
    """Answers with whatever the test puts into `chunks`, and tells when its client went."""

    def __init__(self) -> None:
        self.chunks: asyncio.Queue[bytes] = asyncio.Queue()
        self.ended = asyncio.Event()
        self.sent = 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await read_body(receive)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        drip = asyncio.create_task(self._drip(send))
        try:
            while (await receive())["type"] != "http.disconnect":
                pass
        finally:
            drip.cancel()
            self.ended.set()

    async def _drip(self, send: Any) -> None:
        while True:
            body = await self.chunks.get()
            await send({"type": "http.response.body", "body": body, "more_body": True})
            self.sent += 1
