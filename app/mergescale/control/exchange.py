"""One HTTP/2 stream as one ASGI call.

The bridge feeds it (`data`, `end`, `gone`), the application pulls from it (`receive`, `send`).
Futures and timers exist only while somebody waits, as most exchanges of most clients are a small
request and a stream that sleeps for minutes.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterable
from typing import Any, Protocol

from mergescale.control.limits import Limits

#: SPEC(RFC 9113 8.2.2): fields that belong to one HTTP/1.1 hop and are malformed here.
HOP_BY_HOP = frozenset(
    {b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade"}
)
#: SPEC(RFC 9113 8.2.1): what a field value must not contain.
FORBIDDEN = re.compile(rb"[\0\r\n]")
DISCONNECT: dict[str, Any] = {"type": "http.disconnect"}


class Carrier(Protocol):
    """What an exchange needs of the connection it belongs to; see `bridge.Bridge`."""

    loop: asyncio.AbstractEventLoop
    limits: Limits
    paused: bool

    def room(self, stream_id: int) -> int: ...  # noqa: D102 - told at Bridge, as all here
    def send_headers(self, stream_id: int, fields: list[tuple[bytes, bytes]]) -> None: ...  # noqa: D102
    def send_data(self, stream_id: int, body: bytes | memoryview, *, end: bool) -> None: ...  # noqa: D102
    async def breathe(self) -> None: ...  # noqa: D102
    def acknowledge(self, stream_id: int, flow_controlled_bytes: int) -> None: ...  # noqa: D102
    def reset(self, stream_id: int) -> None: ...  # noqa: D102
    def give_up(self) -> None: ...  # noqa: D102


class Exchange:
    """The state of one request and its response.

    Attributes:
        scope: the ASGI scope of the call.
        body_bytes: request body received so far.
        started: response headers were sent.
        done: the response is complete.
        ended: the request is complete.
        lost: the client reset the stream or the connection is gone; nothing can be sent.
        task: the application's task.
    """

    __slots__ = (
        "_body",
        "_bridge",
        "_delivered",
        "_receiving",
        "_sending",
        "_stream_id",
        "_unacknowledged",
        "body_bytes",
        "done",
        "ended",
        "lost",
        "scope",
        "started",
        "task",
    )

    def __init__(self, bridge: Carrier, stream_id: int, scope: dict[str, Any]) -> None:
        self.scope = scope
        self.task: asyncio.Task[None] | None = None
        self.body_bytes = 0
        self.started = self.done = self.ended = self.lost = False
        self._bridge = bridge
        self._stream_id = stream_id
        self._body = bytearray()
        self._unacknowledged = 0
        self._delivered = False
        self._receiving: asyncio.Future[None] | None = None
        self._sending: asyncio.Future[None] | None = None

    # ------------------------------------------------------------------ fed by the bridge

    def data(self, body: bytes, flow_controlled_bytes: int) -> None:
        """Take a piece of the request body; it is acknowledged when the application takes it."""
        self.body_bytes += len(body)
        self._body += body
        self._unacknowledged += flow_controlled_bytes
        self._wake_receiver()

    def end(self) -> None:
        """Note that the request is complete."""
        self.ended = True
        self._wake_receiver()

    def gone(self) -> None:
        """Tell the application that nobody listens any more."""
        self.lost = True
        self._body.clear()
        self._wake_receiver()
        self.wake_sender()

    def wake_sender(self) -> None:
        """Let a blocked `send` look at the windows again."""
        if self._sending is not None and not self._sending.done():
            self._sending.set_result(None)

    def take_unacknowledged(self) -> int:
        """Return how many flow-controlled bytes are to be acknowledged, and forget them."""
        count, self._unacknowledged = self._unacknowledged, 0
        return count

    # ------------------------------------------------------------------ pulled by the application

    async def receive(self) -> dict[str, Any]:
        """ASGI receive: the body in pieces, then ``http.disconnect`` once it is true."""
        while not (self.lost or self.done):
            if not self._delivered and (self._body or self.ended):
                return self._next_piece()
            await self._wait_for_client()
        return DISCONNECT

    def _next_piece(self) -> dict[str, Any]:
        body = bytes(self._body)
        self._body.clear()
        self._delivered = self.ended
        self._bridge.acknowledge(self._stream_id, self.take_unacknowledged())
        return {"type": "http.request", "body": body, "more_body": not self.ended}

    async def _wait_for_client(self) -> None:
        """Wait for more body, which has a deadline, or for the end, which has none."""
        if self._receiving is None or self._receiving.done():
            self._receiving = self._bridge.loop.create_future()
        if self.ended:
            await self._receiving
            return
        try:
            async with asyncio.timeout(self._bridge.limits.body_s):
                await self._receiving
        except TimeoutError:
            self._bridge.reset(self._stream_id)

    async def send(self, message: dict[str, Any]) -> None:
        """ASGI send; returns when the bytes are on their way or no longer wanted."""
        if self.lost:
            # Dropped, as uvicorn does, and never without a turn of the loop: a generator that
            # does not look must not starve the cancellation that is on its way.
            await asyncio.sleep(0)
            return
        match message["type"]:
            case "http.response.start":
                await self._send_start(message["status"], message.get("headers", ()))
            case "http.response.body":
                body = b"" if self.scope["method"] == "HEAD" else message.get("body", b"")
                await self._send_body(body, end=not message.get("more_body", False))
            case unknown:
                raise RuntimeError(f"unexpected ASGI message {unknown!r}")

    async def _send_start(self, status: int, headers: Iterable[tuple[bytes, bytes]]) -> None:
        if self.started:
            raise RuntimeError("the response was started before")
        await self._until_writable()
        if self.lost:
            return
        fields = response_fields(status, headers)
        self.started = True
        self._bridge.send_headers(self._stream_id, fields)

    async def _send_body(self, body: bytes, *, end: bool) -> None:
        if not self.started or self.done:
            raise RuntimeError("a body belongs between the start and the end of a response")
        await self._until_writable()
        if self.lost:
            return
        if len(body) > self._bridge.room(self._stream_id):
            rest = await self._send_pieces(memoryview(body))
            if self.lost:
                return
        else:
            rest = memoryview(body)
        if rest or end:
            self._bridge.send_data(self._stream_id, rest, end=end)
        if end:
            self.done = True
            self._wake_receiver()

    async def _send_pieces(self, body: memoryview) -> memoryview:
        """Send as windows and socket allow; return the last piece, for which there is room."""
        while not self.lost and len(body) > (room := self._bridge.room(self._stream_id)):
            if room > 0:
                self._bridge.send_data(self._stream_id, body[:room], end=False)
                body = body[room:]
                await self._bridge.breathe()
            else:
                await self._until_window()
            await self._until_writable()
        return body

    async def _until_writable(self) -> None:
        """Wait while the socket is full; the bridge watches how long that may take."""
        while self._bridge.paused and not self.lost:
            await self._wait_for_room()

    async def _until_window(self) -> None:
        """Wait for the client's WINDOW_UPDATE or SETTINGS, but not for ever."""
        try:
            async with asyncio.timeout(self._bridge.limits.stall_s):
                await self._wait_for_room()
        except TimeoutError:
            self._bridge.give_up()

    async def _wait_for_room(self) -> None:
        self._sending = self._bridge.loop.create_future()
        try:
            await self._sending
        finally:
            self._sending = None

    def _wake_receiver(self) -> None:
        if self._receiving is not None and not self._receiving.done():
            self._receiving.set_result(None)


def response_fields(
    status: int, headers: Iterable[tuple[bytes, bytes]]
) -> list[tuple[bytes, bytes]]:
    """Return the HTTP/2 header list of a response.

    Raises:
        ValueError: a value with a line break or NUL, which hyper-h2 would send as it is.
    """
    fields = [(b":status", b"%d" % status)]
    for name, value in headers:
        lower = bytes(name).lower()
        if FORBIDDEN.search(value):
            raise ValueError("a header value with a line break or NUL")
        if lower not in HOP_BY_HOP:
            fields.append((lower, bytes(value)))
    return fields
