"""The socket of one client after the upgrade: Noise records on one side, the bridge on the other.

The same channel runs over a taken-over TCP or TLS transport and, behind ``control.websocket``,
over binary messages; all it asks of either is a `Pipe`.

What must hold: nothing but HTTP/2 is sent after the Noise response (error texts would be fatal for
the client, spec 2.4); no early payload goes out, as no client uses the challenge in it and one
kind of client refuses a long one (spec 2.6); a record that does not decrypt ends the connection.

Peers that vanish without a FIN are found by the kernel (``server.listeners`` sets that up), so there
are no PINGs and one timer per connection.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

import structlog

from mergescale.control.bridge import ASGIApp, Bridge
from mergescale.control.limits import Limits
from mergescale.control.scope import Peer
from mergescale.kernel.errors import ProtocolError
from mergescale.kernel.keys import MachineKey
from mergescale.state.throttle import place
from mergescale.wire.noise import Accepted

log = structlog.get_logger()


class Pipe(Protocol):
    """What carries the records: an `asyncio.Transport`, or a WebSocket that looks like one."""

    def write(self, data: bytes) -> None:
        """Send `data`."""

    def close(self) -> None:
        """Close after what was written has left."""

    def abort(self) -> None:
        """Close now."""

    def get_write_buffer_size(self) -> int:
        """Return how many written bytes have not left yet."""

    def get_extra_info(self, name: str) -> Any:
        """Return ``peername`` or ``sockname``; None when unknown."""


class Registry(Protocol):
    """What is open in this process, for an orderly stop; uvicorn's ``ServerState`` is one.

    Attributes:
        connections: protocols with a ``shutdown`` method.
        tasks: running handlers.
    """

    connections: set[Any]
    tasks: set[asyncio.Task[None]]


class Doorkeeper(Protocol):
    """Who counts the channels of a process; `upgrade.Door` is it."""

    def proved(self, channel: Channel, /) -> None:
        """Note, once, that the peer holds its machine key; may abort this channel or others."""

    def left(self, channel: Channel, /) -> None:
        """Note, once, that the channel is gone, proved or not."""


def _nobody(_: MachineKey) -> bool:
    return False


@dataclass(frozen=True, slots=True)
class Service:
    """What all channels of a process share.

    Attributes:
        app: the inner ASGI application; sees `scope.PEER` in the state of each request.
        limits: bounds of each connection.
        knows: says whether a machine has a node here; from memory, as it is asked on the loop.
    """

    app: ASGIApp
    limits: Limits = field(default_factory=Limits)
    knows: Callable[[MachineKey], bool] = _nobody


class Channel(asyncio.Protocol):
    """Owns the transport from the upgrade to its end.

    Attributes:
        place: where it comes from, see `throttle.place`; empty when nobody knows.
    """

    def __init__(
        self,
        accepted: Accepted,
        service: Service,
        registry: Registry,
        *,
        greeting: bytes,
        keeper: Doorkeeper,
        client: tuple[str, int] | None = None,
    ) -> None:
        """Wait for `connection_made`.

        Args:
            accepted: the finished handshake.
            service: application and limits.
            registry: where this channel and its handlers are listed while they live.
            greeting: sent before the Noise response, in the same write: the 101, or nothing.
            keeper: told when the peer has proved its key, and when it is gone.
            client: who a trusted proxy says it is; None: whoever the socket's other end is.
        """
        self.place = place(client[0]) if client is not None else ""
        self._accepted = accepted
        self._service = service
        self._limits = service.limits
        self._registry = registry
        self._greeting = greeting + accepted.response
        self._client = client
        self._keeper = keeper
        self._proved = False
        self._noise = accepted.transport
        self._pipe: Pipe | None = None
        self._bridge: Bridge | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._heard_at = 0.0

    @property
    def known(self) -> bool:
        """Whether the machine has a node here, by now."""
        return self._service.knows(self._accepted.peer)

    @property
    def idle(self) -> bool:
        """Whether no request is open."""
        return self._bridge is None or self._bridge.idle

    # ------------------------------------------------------------------ asyncio.Protocol

    def connection_made(self, transport: Any) -> None:
        """Greet: 101, Noise response and HTTP/2 SETTINGS in one write."""
        self._pipe = transport
        self._registry.connections.add(self)
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(self._limits.proof_s, self._proof_is_due)
        self._bridge = Bridge(
            self._service.app,
            _peer(self._accepted, transport, self._client),
            self,
            tasks=self._registry.tasks,
            limits=self._limits,
        )
        self._bridge.start()

    def data_received(self, data: bytes) -> None:
        """Decrypt what arrived, in any chunking, and pass it on."""
        bridge = self._bridge
        if bridge is None or bridge.closed:
            return
        try:
            plaintext = self._noise.receive(data)
        except ProtocolError as error:
            log.info("control.dropped", machine=self._accepted.peer.short, why=error.message)
            bridge.lost()  # nothing can be sealed any more, so nothing may try
            self.abort()
            return
        if plaintext:
            self._heard_at = bridge.loop.time()
            if not self._proved:
                self._prove()
            bridge.receive(plaintext)

    def pause_writing(self) -> None:
        """Pass back-pressure on to the handlers."""
        if self._bridge is not None:
            self._bridge.pause()

    def resume_writing(self) -> None:
        """Let the handlers go on."""
        if self._bridge is not None:
            self._bridge.resume()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        """Tell every handler, forget everything."""
        self._registry.connections.discard(self)
        self._cancel_timer()
        self._keeper.left(self)
        # Forgets both: what refers to each other waits for a collection that stops the whole loop.
        bridge, self._bridge, self._pipe = self._bridge, None, None
        if bridge is not None:
            bridge.lost()

    def shutdown(self) -> None:
        """End in order: GOAWAY, then close. The server that stops calls it."""
        if self._bridge is not None:
            self._bridge.shutdown()

    # ------------------------------------------------------------------ bridge.Wire

    def write(self, plaintext: bytes) -> None:
        """Seal and send."""
        if self._pipe is None:
            return
        sealed = self._noise.seal(plaintext)
        if self._greeting:
            sealed, self._greeting = self._greeting + sealed, b""
        self._pipe.write(sealed)

    def close(self) -> None:
        """Close after what was written has left, or at the stall deadline."""
        if self._pipe is not None:
            self._pipe.close()
            self._cancel_timer()
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(self._limits.stall_s, self._pipe.abort)

    def abort(self) -> None:
        """Close now."""
        if self._pipe is not None:
            self._pipe.abort()

    def waiting_bytes(self) -> int:
        """Return how many sealed bytes have not left yet."""
        return 0 if self._pipe is None else self._pipe.get_write_buffer_size()

    # ------------------------------------------------------------------ timers

    def _prove(self) -> None:
        """The first record decrypted: the peer holds the key it claims."""
        self._proved = True
        self._keeper.proved(self)
        self._cancel_timer()
        self._check_idle_in(self._idle_s)

    def _proof_is_due(self) -> None:
        log.info("control.dropped", why="it answered the handshake with silence")
        self.abort()

    @property
    def _idle_s(self) -> float:
        limits = self._limits
        return limits.idle_s if self.known else min(limits.idle_s, limits.stranger_idle_s)

    def _check_idle_in(self, delay_s: float) -> None:
        self._timer = asyncio.get_running_loop().call_later(delay_s, self._check_idle)

    def _check_idle(self) -> None:
        """Close when nothing is open and nothing came for long; one timer per connection."""
        bridge = self._bridge
        if bridge is None or bridge.closed:
            return
        left_s = self._heard_at + self._idle_s - bridge.loop.time()
        if not bridge.idle:
            self._check_idle_in(self._idle_s)
        elif left_s > 0:
            self._check_idle_in(left_s)
        else:
            bridge.shutdown()

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def _peer(accepted: Accepted, pipe: Pipe, client: tuple[str, int] | None) -> Peer:
    return Peer(
        machine=accepted.peer,
        version=accepted.version,
        client=client or _address(pipe.get_extra_info("peername")),
        server=_address(pipe.get_extra_info("sockname")),
    )


def _address(name: Any) -> tuple[str, int] | None:
    """Return host and port of a socket name; None for a unix socket."""
    if isinstance(name, (tuple, list)) and len(name) >= 2:  # IPv6 names have four parts
        return str(name[0]), int(name[1])
    return None
