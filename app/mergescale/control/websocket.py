"""``GET /ts2021`` as a WebSocket, for clients in browsers (spec 2.2).

The same channel as on a socket: binary messages are its byte stream, their boundaries mean nothing.
The handshake comes in the query, as a browser cannot set headers on a WebSocket. Any ``Origin``
is welcome: the machine key authenticates, no cookie does. Compression is off in the server's
configuration, as sealed bytes do not compress.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any
from urllib.parse import unquote_to_bytes

from mergescale.control.channel import Channel, Pipe
from mergescale.control.upgrade import PROTOCOL, Door, Outdated
from mergescale.wire.httphead import Rejection
from mergescale.wire.noise import Accepted

PARAMETER = b"x-tailscale-handshake"
#: LIMIT: the high-water mark of asyncio's own transports.
HIGH_WATER_BYTES = 64 << 10


class WebSocketDoor:
    """ASGI application for ``/ts2021``, WebSocket and plain HTTP.

    A plain HTTP request is one that asked for no upgrade, or in a way no client does: 400.
    """

    def __init__(self, door: Door) -> None:
        self._door = door

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Serve one connection to its end."""
        if scope["type"] != "websocket":
            refusal = Rejection(400, f"an upgrade to {PROTOCOL} was expected")
            await _refuse(send, refusal, prefix="http")
            return
        await receive()  # websocket.connect
        match self._answer(scope):
            case Accepted() as accepted:
                await send({"type": "websocket.accept", "subprotocol": PROTOCOL})
                await self._carry(accepted, scope, receive, send)
            case Outdated(frame):
                await send({"type": "websocket.accept", "subprotocol": PROTOCOL})
                await send({"type": "websocket.send", "bytes": frame})
                await send({"type": "websocket.close", "code": 1000})
            case Rejection() as rejection:
                await _refuse(send, rejection, prefix="websocket.http")

    def _answer(self, scope: Any) -> Accepted | Outdated | Rejection:
        if PROTOCOL not in scope["subprotocols"]:
            return Rejection(400, f"the subprotocol {PROTOCOL} was expected")
        return self._door.answer(handshake_in(scope["query_string"]))

    async def _carry(self, accepted: Accepted, scope: Any, receive: Any, send: Any) -> None:
        handlers = _Handlers()
        channel = self._door.channel(accepted, handlers, client=scope.get("client"))
        pipe = _MessagePipe(scope, channel)
        channel.connection_made(pipe)
        try:
            async with asyncio.TaskGroup() as group:
                sides = [
                    group.create_task(_read(receive, channel)),
                    group.create_task(pipe.pump(send)),
                ]
                for side in sides:
                    side.add_done_callback(lambda _: pipe.over.set())
                await pipe.over.wait()
                for side in sides:
                    side.cancel()
        finally:
            channel.connection_lost(None)
            await handlers.end()


def handshake_in(query: bytes) -> bytes | None:
    """Return the initiation in a query string, percent escapes removed.

    A plus sign stays one: it belongs to base64, and form decoding would make it a space.
    """
    for pair in query.split(b"&"):
        name, _, value = pair.partition(b"=")
        if unquote_to_bytes(name).lower() == PARAMETER:
            return unquote_to_bytes(value)
    return None


class _Handlers:
    """A registry of one connection: uvicorn itself knows the WebSocket and its task."""

    def __init__(self) -> None:
        self.connections: set[Any] = set()
        self.tasks: set[asyncio.Task[None]] = set()

    async def end(self) -> None:
        """Wait for the handlers, which know; cut them when the server itself is cut."""
        try:
            if self.tasks:
                await asyncio.wait(list(self.tasks))
        except asyncio.CancelledError:
            for task in self.tasks:
                task.cancel()
            raise


class _MessagePipe(Pipe):
    """Collects what the channel writes and sends it as messages, one per turn of the loop.

    Attributes:
        over: set when either direction has ended.
    """

    def __init__(self, scope: Any, channel: Channel) -> None:
        self._names = {"peername": scope.get("client"), "sockname": scope.get("server")}
        self._channel = channel
        self._out = bytearray()
        self._in_flight = 0
        self._changed = asyncio.Event()
        self._closing = self._paused = False
        self.over = asyncio.Event()

    def write(self, data: bytes) -> None:
        self._out += data
        self._changed.set()
        if not self._paused and len(self._out) > HIGH_WATER_BYTES:
            self._paused = True
            self._channel.pause_writing()

    def close(self) -> None:
        self._closing = True
        self._changed.set()

    def abort(self) -> None:
        self._out.clear()
        self.over.set()

    def get_write_buffer_size(self) -> int:
        return len(self._out) + self._in_flight

    def get_extra_info(self, name: str) -> Any:
        return self._names.get(name)

    async def pump(self, send: Any) -> None:
        """Send until closed; `send` itself waits while the socket is full."""
        with contextlib.suppress(OSError):  # the client is gone; the reader hears it too
            while self._out or not self._closing:
                await self._changed.wait()
                self._changed.clear()
                if self._out:
                    await self._send_all(send)
            await send({"type": "websocket.close", "code": 1000})

    async def _send_all(self, send: Any) -> None:
        message, self._out = bytes(self._out), bytearray()
        self._in_flight = len(message)
        await send({"type": "websocket.send", "bytes": message})
        self._in_flight = 0
        if self._paused and not self._out:
            self._paused = False
            self._channel.resume_writing()


async def _read(receive: Any, channel: Channel) -> None:
    """Feed the channel until the WebSocket ends."""
    while True:
        message = await receive()
        if message["type"] == "websocket.disconnect":
            return
        if data := message.get("bytes"):
            channel.data_received(data)
        elif message.get("text"):
            channel.abort()  # a text message is no part of the protocol


async def _refuse(send: Any, rejection: Rejection, *, prefix: str) -> None:
    headers = [(b"content-type", b"text/plain; charset=utf-8")]
    await send({"type": f"{prefix}.response.start", "status": rejection.status, "headers": headers})
    await send({"type": f"{prefix}.response.body", "body": rejection.text.encode()})
