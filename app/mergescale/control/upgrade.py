"""From the text of a handshake to a channel: the door of ``/ts2021``.

Three answers to an initiation:

* not an initiation, or not for this server's key: HTTP 400 with a text;
* from a client that is too old: 101 and, in place of the Noise response, an error frame that names
  the oldest version served. The client shows it to its user, where a closed connection would be
  shown as a network problem;
* anything else: a `Channel`. Any machine key is let in; handlers authorise (spec 2.9).

No early payload is sent on either path: see ``control.channel``.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
from dataclasses import dataclass
from typing import Any

import structlog

from mergescale.control.channel import Channel, Registry, Service
from mergescale.control.crowd import Crowd
from mergescale.kernel.clock import Entropy
from mergescale.kernel.errors import RemoteProtocolError
from mergescale.kernel.keys import KEY_BYTES, PrivateKey
from mergescale.wire.httphead import Rejection, RequestHead, switching_protocols
from mergescale.wire.noise import Accepted, KeyPair, error_frame, respond
from mergescale.wire.tailcfg import capver

log = structlog.get_logger()

PATH = "/ts2021"
PROTOCOL = "tailscale-control-protocol"
HEADER = b"x-tailscale-handshake"


@dataclass(frozen=True, slots=True)
class Outdated:
    """A client that is too old.

    Attributes:
        frame: the error frame to send in place of the Noise response.
    """

    frame: bytes


class Door:
    """Answers handshakes with the server's key and counts who has no standing yet.

    That is two crowds: channels that did not prove their machine key, and strangers, whose machine
    has no node. A machine that registers is a stranger no more, and is found to be none when
    somebody would have to leave.

    The static key must survive restarts: a running client keeps the key it once read from
    ``/key`` and fails until it is restarted (spec 1.2).
    """

    def __init__(self, static: PrivateKey, entropy: Entropy, service: Service) -> None:
        self._static = KeyPair.of(static)
        self._entropy = entropy
        self._service = service
        limits = service.limits
        self._pending: Crowd[Channel] = Crowd(limits.pending_per_place, limits.pending_handshakes)
        self._strangers: Crowd[Channel] = Crowd(limits.strangers_per_place, limits.strangers)

    @property
    def pending(self) -> int:
        """How many channels wait for the first record of their peer."""
        return len(self._pending)

    @property
    def strangers(self) -> int:
        """How many channels were of machines without a node when they proved their key."""
        return len(self._strangers)

    def answer(self, initiation: bytes | None) -> Accepted | Outdated | Rejection:
        """Answer an initiation in standard base64, 136 characters; None when it is missing."""
        if not initiation:
            return Rejection(400, "the tailscale handshake is missing")
        try:
            message = base64.b64decode(initiation, validate=True)
        except (binascii.Error, ValueError):
            return Rejection(400, "the tailscale handshake is not base64")
        try:
            ephemeral = PrivateKey(self._entropy.bytes(KEY_BYTES))
            accepted = respond(message, static=self._static, ephemeral=ephemeral)
        except RemoteProtocolError as error:
            return Rejection(400, error.message)
        if not capver.is_supported(accepted.version):
            return Outdated(error_frame(capver.refuse_text(accepted.version)))
        return accepted

    def channel(
        self,
        accepted: Accepted,
        registry: Registry,
        *,
        greeting: bytes = b"",
        client: tuple[str, int] | None = None,
    ) -> Channel:
        """Return the channel of an accepted peer, which counts as pending until it is proved.

        Beyond ``pending_handshakes`` the oldest pending one is cut. A client proves itself one
        round trip after its handshake, so whoever fills the room with silence (an initiation can
        be replayed) drives out itself first, where refusing newcomers would let it lock the door.
        """
        channel = Channel(
            accepted, self._service, registry, greeting=greeting, keeper=self, client=client
        )
        for oldest in self._pending.surplus(channel.place):
            self._pending.leave(oldest)
            oldest.abort()
            break
        self._pending.enter(channel, channel.place)
        return channel

    def proved(self, channel: Channel) -> None:
        """Note that the peer holds its machine key; a stranger may drive out another one."""
        self._pending.leave(channel)
        if channel.known:
            return
        crowd = self._strangers.surplus(channel.place)
        for stranger in crowd:
            if stranger.known:
                self._strangers.leave(stranger)
                break
        else:
            if crowd:
                self._dismiss(next((one for one in crowd if one.idle), crowd[0]))
        self._strangers.enter(channel, channel.place)

    def left(self, channel: Channel) -> None:
        """Forget a channel."""
        self._pending.leave(channel)
        self._strangers.leave(channel)

    def _dismiss(self, stranger: Channel) -> None:
        # Not in order: who does not read would keep its socket until the stall deadline.
        log.info("control.dropped", why="too many strangers from one place")
        self._strangers.leave(stranger)
        stranger.abort()


class Ts2021:
    """Takes ``POST /ts2021`` over from the edge; see ``server.takeover.Takeover``."""

    def __init__(self, door: Door) -> None:
        self._door = door

    def __call__(self, request: RequestHead, registry: Registry) -> asyncio.Protocol | Rejection:
        """Answer the handshake in the request's header."""
        switching = switching_protocols(PROTOCOL)
        match self._door.answer(request.header(HEADER)):
            case Accepted() as accepted:
                return self._door.channel(
                    accepted, registry, greeting=switching, client=request.client
                )
            case Outdated(frame):
                return Farewell(switching + frame)
            case Rejection() as rejection:
                return rejection


class Farewell(asyncio.Protocol):
    """Says one thing and closes."""

    def __init__(self, words: bytes) -> None:
        self._words = words

    def connection_made(self, transport: Any) -> None:
        """Say it."""
        transport.write(self._words)
        transport.close()

    def shutdown(self) -> None:
        """Do nothing: the transport is closing."""

    def abort(self) -> None:
        """Do nothing: the transport is closing."""
