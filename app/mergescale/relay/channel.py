"""The socket of one relay client, from the upgrade to its end.

The same channel runs over a taken-over TCP or TLS transport and, behind ``relay.websocket``, over
binary messages; all it asks of either is a `Pipe`.

Nobody is ever slowed down for somebody else: reading goes on whatever the receivers do, and a
receiver whose socket is full is paused in the relay, which then drops its oldest packets.
"""

from __future__ import annotations

import asyncio
from typing import Any, Protocol, assert_never

import structlog

from mergescale.kernel.errors import RemoteProtocolError
from mergescale.kernel.keys import NodeKey
from mergescale.relay.service import DerpService
from mergescale.wire.derp import (
    ClientInfoReceived,
    Connection,
    PacketsReceived,
    PingReceived,
    PreferenceReceived,
    ServerEvent,
)

log = structlog.get_logger()


class Pipe(Protocol):
    """What carries the frames: an `asyncio.Transport`, or a WebSocket that looks like one."""

    def write(self, data: bytes) -> None:
        """Send `data`."""

    def close(self) -> None:
        """Close after what was written has left."""

    def abort(self) -> None:
        """Close now."""

    def get_write_buffer_size(self) -> int:
        """Return how many written bytes have not left yet."""

    def set_write_buffer_limits(self, high: int) -> None:
        """Ask for `pause_writing` when more than `high` bytes have not left."""


class Channel(asyncio.Protocol):
    """Owns the transport from the upgrade to its end."""

    def __init__(
        self,
        service: DerpService,
        open_channels: set[Any],
        *,
        stall_s: float,
        greeting: bytes = b"",
    ) -> None:
        """Wait for `connection_made`.

        Args:
            service: the relay.
            open_channels: where this channel is listed while its socket is open.
            stall_s: seconds in which a full socket may take nothing.
            greeting: sent before the first frame, in the same write: the 101, or nothing.
        """
        self._service = service
        self._open_channels = open_channels
        self._stall_s = stall_s
        self._greeting = greeting
        self._session = service.session()
        self._loop = asyncio.get_running_loop()
        self._pipe: Pipe | None = None
        self._connection: Connection | None = None
        self._full = self._over = False
        self._timer: asyncio.TimerHandle | None = None
        self._stall_timer: asyncio.TimerHandle | None = None

    # ------------------------------------------------------------------ asyncio.Protocol

    def connection_made(self, transport: Any) -> None:
        """Say who we are."""
        limits = self._service.limits
        self._pipe = transport
        self._open_channels.add(self)
        self._service.meet(self)
        self._timer = self._loop.call_later(limits.handshake_s, self._handshake_is_late)
        transport.set_write_buffer_limits(high=limits.high_water_bytes)
        transport.write(self._greeting + self._session.take())

    def data_received(self, data: bytes) -> None:
        """Take a chunk; pass on all its packets in one go."""
        if self._over:
            return
        try:
            self._handle(self._session.receive(data))
        except RemoteProtocolError as error:
            log.info("relay.dropped", client=self._name, why=error.message)
            self.abort()
        self._service.flush()

    def pause_writing(self) -> None:
        """Let packets wait in the relay, and the client show progress."""
        self._full = True
        if self._connection is not None and not self._over:
            self._service.relay.pause(self._connection)
        self._watch_progress()

    def resume_writing(self) -> None:
        """Send what waited."""
        self._full = False
        _cancel(self._stall_timer)
        if self._connection is not None and not self._over:
            self._service.relay.resume(self._connection)
            self._service.flush()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        """Forget everything."""
        self._end()
        self._open_channels.discard(self)
        _cancel(self._stall_timer)
        self._pipe = None

    # ------------------------------------------------------------------ how it ends

    def shutdown(self) -> None:
        """End in order; the server that stops calls it.

        DERP has no farewell that all clients survive (spec 7.3), so this is a close after what
        was written has left, or when that takes too long.
        """
        self._end()
        if self._pipe is not None:
            # In this order: a TLS transport that has lost its socket, and is about to tell us so,
            # cannot be asked anything once it was closed (asyncio's sslproto).
            self._watch_progress()
            self._pipe.close()

    def abort(self) -> None:
        """End now."""
        self._end()
        if self._pipe is not None:
            self._pipe.abort()

    def _end(self) -> None:
        """Leave the relay, once; what remains is to close the socket."""
        if self._over:
            return
        self._over = True
        self._session.close()
        _cancel(self._timer)
        if self._connection is not None:
            self._service.leave(self._connection)
        else:
            self._service.met(self)

    # ------------------------------------------------------------------ service.Member

    def write(self, data: bytes) -> None:
        """Send frames."""
        if self._pipe is not None:
            self._pipe.write(data)

    # ------------------------------------------------------------------ what clients send

    def _handle(self, events: list[ServerEvent]) -> None:
        connection, relay = self._connection, self._service.relay
        for event in events:
            match event:
                case ClientInfoReceived(key=key):
                    self._decide(key)
                case _ if connection is None:
                    return  # refused
                case PacketsReceived(payloads=payloads):
                    relay.forward(connection, payloads, self._loop.time())
                case PingReceived(data=data):
                    relay.ping(connection, data)
                case PreferenceReceived():
                    relay.touch(connection)
                case _:
                    assert_never(event)

    def _decide(self, key: NodeKey) -> None:
        """Let the client in, or close without a word, which is all that DERP has for a no."""
        if not self._service.admits(key):
            log.info("relay.refused", client=key.short)
            self._service.doors.refused += 1
            self._session.refuse()
            self.shutdown()
            return
        ahead = self._session.admit(self._service.nonce())
        # INVARIANT(server info first): written before the relay can have anything for it.
        self.write(self._session.take())
        self._connection = self._service.join(key, self)
        self._service.met(self)
        if self._full:
            self._service.relay.pause(self._connection)
        self._keep_alive_in(self._service.keepalive_every_s())
        self._handle(ahead)

    # ------------------------------------------------------------------ timers

    def _handshake_is_late(self) -> None:
        log.info("relay.dropped", client=self._name, why="it did not say who it is")
        self.abort()

    def _keep_alive_in(self, every_s: float) -> None:
        _cancel(self._timer)
        self._timer = self._loop.call_later(every_s, self._keep_alive, every_s)

    def _keep_alive(self, every_s: float) -> None:
        if self._connection is not None:
            self._service.relay.keep_alive(self._connection)
            self._service.flush()
            self._keep_alive_in(every_s)

    def _watch_progress(self) -> None:
        """Look again in `stall_s` whether the socket has taken anything."""
        if self._pipe is not None:
            waiting = self._pipe.get_write_buffer_size()
            _cancel(self._stall_timer)
            self._stall_timer = self._loop.call_later(self._stall_s, self._check_progress, waiting)

    def _check_progress(self, waiting_bytes: int) -> None:
        # Nothing is written to a paused or closing client, so less waits if it took anything.
        if self._pipe is not None and self._pipe.get_write_buffer_size() < waiting_bytes:
            self._watch_progress()
            return
        log.info("relay.dropped", client=self._name, why="it does not read")
        self.abort()

    @property
    def _name(self) -> str:
        """The client's key, shortened; before it proved one, a word."""
        return "(unknown)" if self._connection is None else self._connection.key.short


def _cancel(timer: asyncio.TimerHandle | None) -> None:
    if timer is not None:
        timer.cancel()
