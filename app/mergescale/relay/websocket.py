"""``/derp`` as a WebSocket, for clients in browsers and behind proxies (spec 7.1).

The same channel as on a socket: binary messages are its byte stream, their boundaries mean
nothing. Any ``Origin`` is welcome: the node key authenticates, no cookie does. Compression is off
in the server's configuration, as sealed packets do not compress.

``control.websocket`` carries its channel in the same way. The two are apart because neither
package may know the other and nothing below them does I/O; and they differ in what they promise:
there nothing is lost, here what is late is worthless.
"""

from __future__ import annotations

import asyncio
import contextlib
from http import HTTPStatus
from typing import Any

from mergescale.relay.channel import Channel
from mergescale.relay.service import DerpService
from mergescale.relay.upgrade import PROTOCOL
from mergescale.wire.httphead import Rejection

SUBPROTOCOL = "derp"
#: LIMIT: progress of a slow client is seen once per message.
MESSAGE_BYTES = 64 << 10


class WebSocketDoor:
    """ASGI application for ``/derp``, WebSocket and plain HTTP.

    A plain HTTP request is one that asked for no upgrade: 426.

    A WebSocket without the subprotocol is refused. Clients of 2020 meant the native protocol by
    it (spec 7.1), but none of those speaks a capability version that this server serves.
    """

    def __init__(self, service: DerpService) -> None:
        self._service = service

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Serve one connection to its end."""
        if scope["type"] != "websocket":
            await _refuse(send, Rejection(426, "DERP requires connection upgrade"), prefix="http")
            return
        await receive()  # websocket.connect
        if SUBPROTOCOL not in scope["subprotocols"]:
            refusal = Rejection(400, f"the subprotocol {SUBPROTOCOL} was expected")
            await _refuse(send, refusal, prefix="websocket.http")
        else:
            await send({"type": "websocket.accept", "subprotocol": SUBPROTOCOL})
            # uvicorn itself lists the WebSocket and tells it when the server stops.
            await _carry(
                Channel(self._service, set(), stall_s=self._service.limits.message_stall_s),
                receive,
                send,
            )


async def _carry(channel: Channel, receive: Any, send: Any) -> None:
    """Run a channel on an accepted WebSocket until either of them ends."""
    pipe = _MessagePipe(channel)
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


class _MessagePipe:
    """A `relay.channel.Pipe`: collects what is written and sends it once per turn of the loop.

    Attributes:
        over: set when either direction has ended.
    """

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._out = bytearray()
        self._in_flight = 0
        self._high = MESSAGE_BYTES
        self._changed = asyncio.Event()
        self._closing = self._paused = False
        self.over = asyncio.Event()

    def write(self, data: bytes) -> None:
        self._out += data
        self._changed.set()
        if not self._paused and self.get_write_buffer_size() > self._high:
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

    def set_write_buffer_limits(self, high: int) -> None:
        self._high = high

    async def pump(self, send: Any) -> None:
        """Send until closed; `send` itself waits while the socket is full."""
        with contextlib.suppress(OSError):  # the client is gone; the reader hears it too
            while self._out or not self._closing:
                await self._changed.wait()
                self._changed.clear()
                while self._out:
                    await self._send_one(send)
            await send({"type": "websocket.close", "code": 1000})

    async def _send_one(self, send: Any) -> None:
        message = bytes(self._out[:MESSAGE_BYTES])
        del self._out[: len(message)]
        self._in_flight = len(message)
        await send({"type": "websocket.send", "bytes": message})
        self._in_flight = 0
        if self._paused and len(self._out) <= self._high // 4:
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
    body = rejection.text.encode()
    headers = [
        (b"content-type", b"text/plain; charset=utf-8"),
        (b"content-length", b"%d" % len(body)),
    ]
    if rejection.status == HTTPStatus.UPGRADE_REQUIRED:
        headers.append((b"upgrade", PROTOCOL.encode()))  # RFC 9110 15.5.22 asks for it
    await send({"type": f"{prefix}.response.start", "status": rejection.status, "headers": headers})
    await send({"type": f"{prefix}.response.body", "body": body})
