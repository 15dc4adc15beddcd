"""HTTP/2 server half: streams become ASGI calls of an inner application, one task each.

Sans socket: plaintext comes in by `receive`, leaves by ``wire.write``. Frames written during one
turn of the loop leave together, so a flush is one seal and one write however many streams spoke.

What must hold:

* INVARIANT(windows): every flow-controlled byte received is acknowledged exactly once: when the
  application takes it, or when its exchange ends. Otherwise the *connection's* window runs dry
  and lite updates stall while the map stream stays up (spec 2.7).
* INVARIANT(bounded): towards a client that does not read, at most one message per stream waits in
  its handler, and ``held_bytes`` here; after ``stall_s`` without progress the connection is dropped.
* INVARIANT(told): when a stream or the connection ends, its handler gets ``http.disconnect`` in the
  same turn of the loop, and is cancelled ``orphan_s`` later if it still runs.

LIMIT(length): one state machine, each part of which reads the flags of the others.
"""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

import structlog
from h2.errors import ErrorCodes
from h2.events import (
    ConnectionTerminated,
    DataReceived,
    Event,
    RemoteSettingsChanged,
    RequestReceived,
    StreamEnded,
    StreamReset,
    WindowUpdated,
)
from h2.exceptions import H2Error, StreamClosedError
from structlog.contextvars import bind_contextvars

from mergescale.control.exchange import Exchange
from mergescale.control.http2 import (
    CONNECTION_WINDOW_BYTES,
    STREAM_WINDOW_BYTES,
    data_frame_head,
    server_connection,
)
from mergescale.control.limits import Limits, OverheadBudget
from mergescale.control.scope import Peer, request_scope
from mergescale.kernel.errors import RemoteProtocolError

log = structlog.get_logger()

ASGIApp = Callable[[Any, Any, Any], Awaitable[None]]

#: LIMIT: hyper-h2 handles this much between two looks at the flood budget: 1,800 smallest frames.
SLICE_BYTES = 16 << 10
#: LIMIT: a body longer than this lets the other connections of the loop have a turn: a millisecond's
#: work, and most maps in one write. With a quarter of it a full map costs a quarter more.
FLUSH_BYTES = 256 << 10


class Wire(Protocol):
    """Where plaintext goes."""

    def write(self, plaintext: bytes) -> None:
        """Send `plaintext`; may call `Bridge.pause` before it returns."""

    def close(self) -> None:
        """Close after what was written has left."""

    def abort(self) -> None:
        """Close now."""

    def waiting_bytes(self) -> int:
        """Return how much written data has not left yet."""


class Bridge:
    """One HTTP/2 connection.

    Attributes:
        loop: the event loop that everything runs on.
        limits: bounds of this connection.
        paused: the socket is full; handlers wait.
        closed: no more frames in either direction.
    """

    def __init__(
        self,
        app: ASGIApp,
        peer: Peer,
        wire: Wire,
        *,
        tasks: set[asyncio.Task[None]],
        limits: Limits,
    ) -> None:
        """`tasks` holds the running handlers; whoever stops the server waits for them."""
        self.loop = asyncio.get_running_loop()
        self.limits = limits
        self.paused = False
        self.closed = False
        self._app = app
        self._peer = peer
        self._wire = wire
        self._tasks = tasks
        self._exchanges: dict[int, Exchange] = {}
        self._budget = OverheadBudget(self.loop.time())
        self._flush_due = False
        self._unflushed_bytes = 0
        self._held = b""
        self._queued: list[bytes | memoryview] = []
        self._stall: asyncio.TimerHandle | None = None
        self._connection = server_connection(limits)

    # ------------------------------------------------------------------ from the channel

    @property
    def idle(self) -> bool:
        """Whether no request is open."""
        return not self._exchanges

    def start(self) -> None:
        """Send SETTINGS: they must be the first thing inside Noise (spec 2.7)."""
        self._connection.initiate_connection()
        self._connection.increment_flow_control_window(
            CONNECTION_WINDOW_BYTES - STREAM_WINDOW_BYTES
        )
        self.flush()

    def receive(self, plaintext: bytes) -> None:
        """Take plaintext in any chunking; a violation answers GOAWAY and closes."""
        try:
            for start in range(0, len(plaintext), SLICE_BYTES):
                if self.closed:
                    return
                self._receive_slice(plaintext[start : start + SLICE_BYTES])
        except (H2Error, RemoteProtocolError):
            # hyper-h2 has put GOAWAY with the reason into its buffer.
            self._end()
        else:
            self.flush()

    def pause(self) -> None:
        """Stop handlers from writing: the socket is full."""
        if not self.paused and not self.closed:
            self.paused = True
            self._watch(self._wire.waiting_bytes())

    def resume(self) -> None:
        """Let handlers write again."""
        if self.paused:
            self.paused = False
            self._unwatch()
            self.flush()
            self._wake_senders()

    def shutdown(self) -> None:
        """Say GOAWAY, end every exchange, close. Handlers have a moment, not ``orphan_s``."""
        if not self.closed:
            self._connection.close_connection()
            self._end(orphan_s=min(0.2, self.limits.orphan_s))

    def lost(self) -> None:
        """Note that the socket is gone."""
        self._forget(self.limits.orphan_s)

    # ------------------------------------------------------------------ from the exchanges

    def room(self, stream_id: int) -> int:
        """Return how many bytes `send_data` takes of the stream now; maybe 0."""
        return max(0, min(self._connection.local_flow_control_window(stream_id), FLUSH_BYTES))

    def send_headers(self, stream_id: int, fields: list[tuple[bytes, bytes]]) -> None:
        """Queue response headers (lower-case names, ``:status`` first)."""
        self._connection.send_headers(stream_id, fields)
        self._flush_soon()

    def send_data(self, stream_id: int, body: bytes | memoryview, *, end: bool) -> None:
        """Queue at most `room` bytes as DATA frames."""
        self._unflushed_bytes += len(body)
        if len(body) > self._connection.max_outbound_frame_size:
            body = self._send_whole_frames(stream_id, memoryview(body))
        self._connection.send_data(stream_id, body, end_stream=end)
        self._flush_soon()

    def _send_whole_frames(self, stream_id: int, body: memoryview) -> memoryview:
        """Queue whole frames and return the rest, never empty.

        A map is dozens of frames, and hyper-h2 takes 20 microseconds and three copies for each. So
        it does the first one, with all its checks, and the others differ in nothing but their bytes.
        """
        connection = self._connection
        size = connection.max_outbound_frame_size
        end = (len(body) - 1) // size * size
        connection.send_data(stream_id, body[:size])
        connection.outbound_flow_control_window -= end - size
        connection.streams[stream_id].outbound_flow_control_window -= end - size
        head = data_frame_head(stream_id, size)
        self._queued.append(connection.data_to_send())
        for at in range(size, end, size):
            self._queued += (head, body[at : at + size])
        return body[end:]

    async def breathe(self) -> None:
        """Flush a long body as it is made, and give the loop a turn now and then."""
        if self._unflushed_bytes >= FLUSH_BYTES:
            self.flush()
            await asyncio.sleep(0)

    def acknowledge(self, stream_id: int, flow_controlled_bytes: int) -> None:
        """Give the client its window back. INVARIANT(windows)."""
        if flow_controlled_bytes and not self.closed:
            self._connection.acknowledge_received_data(flow_controlled_bytes, stream_id)
            self._flush_soon()

    def reset(self, stream_id: int, code: ErrorCodes = ErrorCodes.CANCEL) -> None:
        """End one stream by RST_STREAM; its handler is told."""
        exchange = self._exchanges.get(stream_id)
        if exchange is None or exchange.lost or self.closed:
            return
        self._reset_unless_closed(stream_id, code)
        self._orphan(exchange, self.limits.orphan_s)
        self._flush_soon()

    def give_up(self) -> None:
        """Drop a client that has not read for ``stall_s``; GOAWAY would wait behind the rest."""
        if not self.closed:
            log.info("control.dropped", machine=self._peer.machine.short, why="it does not read")
            self._forget(self.limits.orphan_s)
            self._wire.abort()

    # ------------------------------------------------------------------ out

    def flush(self) -> None:
        """Hand what is queued to the wire, unless the socket is full."""
        self._flush_due = False
        if self.closed:
            return
        out = self._connection.data_to_send()
        if self._queued:
            out, self._queued = b"".join((*self._queued, out)), []
        if self.paused:
            self._held += out
            if len(self._held) > self.limits.held_bytes:
                self.give_up()
            return
        if self._held:
            out, self._held = self._held + out, b""
        self._unflushed_bytes = 0
        if out:
            self._budget.earn(len(out))
            self._wire.write(out)

    def _flush_soon(self) -> None:
        if not self._flush_due:
            self._flush_due = True
            self.loop.call_soon(self.flush)

    def _wake_senders(self) -> None:
        for exchange in self._exchanges.values():
            exchange.wake_sender()

    def _watch(self, waiting_bytes: int) -> None:
        self._stall = self.loop.call_later(self.limits.stall_s, self._look, waiting_bytes)

    def _look(self, before_bytes: int) -> None:
        """Drop the client if its socket took nothing since the last look."""
        waiting_bytes = self._wire.waiting_bytes()
        if waiting_bytes < before_bytes:
            self._watch(waiting_bytes)
        else:
            self.give_up()

    def _unwatch(self) -> None:
        if self._stall is not None:
            self._stall.cancel()
            self._stall = None

    # ------------------------------------------------------------------ in

    def _receive_slice(self, plaintext: bytes) -> None:
        events = self._connection.receive_data(plaintext)
        cost = len(plaintext)
        for event in events:
            match event:
                case DataReceived(data=data):
                    cost -= len(data or b"")
                case StreamReset():
                    cost += OverheadBudget.RESET_COST
                case _:
                    pass
            self._handle(event)
            if self.closed:
                return
        if not self.closed and not self._budget.spend(cost, self.loop.time()):
            self._connection.close_connection(ErrorCodes.ENHANCE_YOUR_CALM)
            raise RemoteProtocolError("more control frames than any client needs")

    def _handle(self, event: Event) -> None:
        match event:
            case RequestReceived():
                self._open(event)
            case DataReceived():
                self._take_body(event)
            case StreamEnded() | StreamReset() | WindowUpdated() if event.stream_id:
                if exchange := self._exchanges.get(event.stream_id):
                    self._tell(exchange, event)
            case WindowUpdated() | RemoteSettingsChanged():
                self._wake_senders()
            case ConnectionTerminated():
                # SPEC(RFC 9113 6.8) would let open streams finish, but hyper-h2 refuses to send
                # after GOAWAY. Go sends it when it closes the connection anyway.
                self._end()
            case _:
                pass  # PING and SETTINGS are answered by hyper-h2; the rest asks for nothing

    def _tell(self, exchange: Exchange, event: StreamEnded | StreamReset | WindowUpdated) -> None:
        match event:
            case StreamEnded():
                exchange.end()
            case WindowUpdated():
                exchange.wake_sender()
            case StreamReset() if not exchange.lost:
                self._orphan(exchange, self.limits.orphan_s)

    def _open(self, event: RequestReceived) -> None:
        stream_id = event.stream_id
        # LIMIT: a reset frees the stream at once but its handler may run on for a while. Twice
        # the announced streams is room for both.
        if len(self._exchanges) >= 2 * self.limits.streams:
            self._reset_unless_closed(stream_id, ErrorCodes.REFUSED_STREAM)
            return
        try:
            scope = request_scope(event.headers, self._peer)
        except RemoteProtocolError:
            self._reset_unless_closed(stream_id, ErrorCodes.PROTOCOL_ERROR)
            return
        exchange = self._exchanges[stream_id] = Exchange(self, stream_id, scope)
        exchange.task = task = self.loop.create_task(self._run(stream_id, exchange))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _take_body(self, event: DataReceived) -> None:
        stream_id, size_bytes = event.stream_id, event.flow_controlled_length or 0
        exchange = self._exchanges.get(stream_id)
        if exchange is None or exchange.lost or exchange.done:
            self.acknowledge(stream_id, size_bytes)
            return
        exchange.data(event.data or b"", size_bytes)
        if exchange.body_bytes > self.limits.request_body_bytes or self._bodies_are_too_long():
            self._refuse_body(stream_id, exchange)

    def _bodies_are_too_long(self) -> bool:
        total = sum(exchange.body_bytes for exchange in self._exchanges.values())
        return total > self.limits.bodies_bytes

    def _refuse_body(self, stream_id: int, exchange: Exchange) -> None:
        """Answer 413 if nothing was answered yet, and stop the upload."""
        if not exchange.started:
            fields = [(b":status", b"413"), (b"content-length", b"0")]
            with contextlib.suppress(StreamClosedError):
                self._connection.send_headers(stream_id, fields, end_stream=True)
        # SPEC(RFC 9113 8.1): a complete response may stop the upload by NO_ERROR.
        code = ErrorCodes.CANCEL if exchange.started else ErrorCodes.NO_ERROR
        self.reset(stream_id, code)

    def _reset_unless_closed(self, stream_id: int, code: ErrorCodes) -> None:
        """Send RST_STREAM. The client may have been faster, by a later frame of the same slice."""
        with contextlib.suppress(StreamClosedError):
            self._connection.reset_stream(stream_id, code)

    # ------------------------------------------------------------------ life of an exchange

    async def _run(self, stream_id: int, exchange: Exchange) -> None:
        if exchange.lost:  # reset before its turn came: a flood does not get to the handlers
            self._settle(stream_id, exchange)
            return
        # The task is of this request alone, and its context with it.
        bind_contextvars(request=uuid.uuid4().hex[:16], machine=self._peer.machine.short)
        try:
            await self._app(exchange.scope, exchange.receive, exchange.send)
        except Exception:
            if not exchange.lost:
                log.exception("control.handler-failed")
        finally:
            self._settle(stream_id, exchange)

    def _settle(self, stream_id: int, exchange: Exchange) -> None:
        """Leave no stream half answered, then forget it."""
        if not exchange.lost and not self.closed:
            self._complete(stream_id, exchange)
        self.acknowledge(stream_id, exchange.take_unacknowledged())
        self._exchanges.pop(stream_id, None)
        exchange.lost = True
        # A cancelled task keeps its traceback, whose frames keep the exchange.
        exchange.task = None

    def _complete(self, stream_id: int, exchange: Exchange) -> None:
        connection = self._connection
        try:
            if not exchange.started:
                fields = [(b":status", b"500"), (b"content-length", b"0")]
                connection.send_headers(stream_id, fields, end_stream=True)
            elif not exchange.done:
                connection.reset_stream(stream_id, ErrorCodes.INTERNAL_ERROR)
                exchange.ended = True
            if not exchange.ended:
                connection.reset_stream(stream_id, ErrorCodes.NO_ERROR)
        except H2Error:
            # The handler's own headers broke the stream's state; the client sees it end all the
            # same, and the traceback is in the log.
            self._reset_unless_closed(stream_id, ErrorCodes.INTERNAL_ERROR)
        self._flush_soon()

    def _orphan(self, exchange: Exchange, orphan_s: float) -> None:
        """Tell a handler that its client is gone. INVARIANT(told)."""
        exchange.gone()
        if exchange.task is not None and not exchange.task.done():
            self.loop.call_later(orphan_s, exchange.task.cancel)

    def _end(self, *, orphan_s: float | None = None) -> None:
        """Send what is queued, GOAWAY last, and close."""
        self.paused = False
        self.flush()
        if not self.closed:
            self._forget(self.limits.orphan_s if orphan_s is None else orphan_s)
            self._wire.close()

    def _forget(self, orphan_s: float) -> None:
        if self.closed:
            return
        self.closed = True
        self._unwatch()
        self._held, self._queued = b"", []
        self._connection.release()
        for exchange in list(self._exchanges.values()):
            if not exchange.lost:
                self._orphan(exchange, orphan_s)
