"""One DERP connection, seen from the server.

::

    state       client sends          server does                            next state
    ----------  --------------------  -------------------------------------  ----------
    GREETED     ClientInfo            ClientInfoReceived, the caller decides  DECIDING
    DECIDING    anything              buffered                               DECIDING
                                      admit(): ServerInfo                    OPEN
                                      refuse()                               CLOSED
    OPEN        SendPacket            PacketsReceived                        OPEN
    OPEN        Ping                  PingReceived                           OPEN
    OPEN        NotePreferred         PreferenceReceived                     OPEN
    OPEN        mesh frames           refused: no mesh key was accepted      CLOSED
    OPEN        any other type        skipped                                OPEN
    any         out of place or size  RemoteProtocolError                    CLOSED

ServerKey is sent at once, before anything was received. Source: spec 7.3, tailscale
``derp/derpserver``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, auto

from mergescale.kernel.errors import LocalProtocolError, RemoteProtocolError
from mergescale.kernel.keys import KEY_BYTES, NodeKey, PrivateKey
from mergescale.wire.derp import frames
from mergescale.wire.derp.boxes import (
    MIN_CLIENT_INFO_BYTES,
    ClientInfo,
    ServerInfo,
    node_key,
    open_client_info,
    seal_server_info,
)
from mergescale.wire.derp.frames import FrameReader, FrameType, Limits

#: A client that has not sent its ClientInfo by then is dropped.
HANDSHAKE_TIMEOUT_S = 10.0
#: Send a KeepAlive so often, plus a random part of the jitter; clients give up after 120 s.
KEEPALIVE_S = 60.0
KEEPALIVE_JITTER_S = 5.0
#: A connection that takes nothing for so long is dropped.
WRITE_TIMEOUT_S = 2.0
#: LIMIT: what a client may send ahead while its admission is decided; Go sends nothing.
MAX_AHEAD_BYTES = frames.MAX_CLIENT_INFO_BYTES

_BEFORE_INFO: Limits = {
    # Any other type has no business here: it is refused at its header.
    **dict.fromkeys(range(256), (1, 0)),
    FrameType.CLIENT_INFO: (MIN_CLIENT_INFO_BYTES, frames.MAX_CLIENT_INFO_BYTES),
}
_AFTER_INFO: Limits = {
    FrameType.SEND_PACKET: (KEY_BYTES, KEY_BYTES + frames.MAX_PACKET_BYTES),
    FrameType.NOTE_PREFERRED: (1, 1),
    FrameType.PING: (frames.PING_BYTES, frames.MAX_PING_BYTES),
}


@dataclass(frozen=True, slots=True)
class ClientInfoReceived:
    """The client proved its key; `admit` or `refuse` it.

    Attributes:
        key: the node key that it holds.
        info: what else it said.
    """

    key: NodeKey
    info: ClientInfo


@dataclass(frozen=True, slots=True)
class PacketsReceived:
    """All packets of one chunk of input, in order, for `Relay.forward`.

    Attributes:
        payloads: each is a destination key of 32 bytes and a packet.
    """

    payloads: list[bytes]


@dataclass(frozen=True, slots=True)
class PingReceived:
    """The client wants a pong, for `Relay.ping`.

    Attributes:
        data: the 8 bytes to send back.
    """

    data: bytes


@dataclass(frozen=True, slots=True)
class PreferenceReceived:
    """The client said whether this region is its home; statistics only."""

    home: bool


ServerEvent = ClientInfoReceived | PacketsReceived | PingReceived | PreferenceReceived


class State(Enum):
    """Where a connection is in the table above."""

    GREETED = auto()
    DECIDING = auto()
    OPEN = auto()
    CLOSED = auto()


def _ping(payload: bytes) -> ServerEvent:
    return PingReceived(payload[: frames.PING_BYTES])


def _preference(payload: bytes) -> ServerEvent:
    return PreferenceReceived(payload == b"\x01")


def _mesh(_: bytes) -> ServerEvent:
    raise RemoteProtocolError("a mesh frame from a client without a mesh key")


# What an admitted client may send, but for SendPacket, which is gathered; the rest is skipped.
_HANDLERS: dict[int, Callable[[bytes], ServerEvent]] = {
    FrameType.PING: _ping,
    FrameType.NOTE_PREFERRED: _preference,
    FrameType.FORWARD_PACKET: _mesh,
    FrameType.WATCH_CONNS: _mesh,
    FrameType.CLOSE_PEER: _mesh,
}


class ServerSession:
    """The state machine of one connection: bytes in, events out, bytes out.

    Args:
        private: the relay's private key.
    """

    __slots__ = ("_client", "_output", "_private", "_reader", "_state")

    def __init__(self, private: PrivateKey) -> None:
        self._private = private
        self._client = NodeKey.zero()
        self._reader = FrameReader(_BEFORE_INFO)
        self._state = State.GREETED
        self._output = frames.server_key(node_key(private))

    @property
    def state(self) -> State:
        """Where the connection is."""
        return self._state

    def take(self) -> bytes:
        """Return the bytes to send now, and forget them."""
        output, self._output = self._output, b""
        return output

    def receive(self, data: bytes) -> list[ServerEvent]:
        """Take bytes as they arrived and return what they mean.

        Raises:
            RemoteProtocolError: the client broke the protocol; the session is closed.
            LocalProtocolError: the session was closed before.
        """
        self._require(State.GREETED, State.DECIDING, State.OPEN)
        self._reader.feed(data)
        try:
            return self._proceed()
        except RemoteProtocolError:
            self.close()
            raise

    def admit(self, nonce: bytes) -> list[ServerEvent]:
        """Let the client in: send ServerInfo, then process what it sent ahead.

        Args:
            nonce: 24 random bytes.

        Raises:
            LocalProtocolError: nobody asks for admission.
            RemoteProtocolError: what the client sent ahead breaks the protocol.
        """
        self._require(State.DECIDING)
        payload = seal_server_info(
            ServerInfo(), private=self._private, client=self._client, nonce=nonce
        )
        # INVARIANT(server info first): the client may not see another frame before this one, so
        # the caller registers with the relay after `admit` and writes `take` first.
        self._output += frames.encode(FrameType.SERVER_INFO, payload)
        self._state = State.OPEN
        self._reader.limits = _AFTER_INFO
        return self.receive(b"")

    def refuse(self) -> None:
        """Turn the client away; the protocol has no message for that, so just disconnect.

        Raises:
            LocalProtocolError: nobody asks for admission.
        """
        self._require(State.DECIDING)
        self.close()

    def close(self) -> None:
        """Forget everything and refuse input from now on."""
        self._state = State.CLOSED
        self._output = b""
        self._reader = FrameReader(_BEFORE_INFO)

    def _proceed(self) -> list[ServerEvent]:
        match self._state:
            case State.GREETED:
                return self._greeted()
            case State.DECIDING:
                return self._deciding()
            case _:
                return self._open()

    def _greeted(self) -> list[ServerEvent]:
        frame = self._reader.next()
        if frame is None:
            return []
        self._client, info = open_client_info(frame[1], private=self._private)
        self._state = State.DECIDING
        return [ClientInfoReceived(self._client, info), *self._deciding()]

    def _deciding(self) -> list[ServerEvent]:
        if self._reader.buffered_bytes > MAX_AHEAD_BYTES:
            raise RemoteProtocolError("a client sent too much before it was admitted")
        return []

    def _open(self) -> list[ServerEvent]:
        payloads: list[bytes] = []
        events: list[ServerEvent] = []
        for kind, payload in self._reader.drain():
            if kind == FrameType.SEND_PACKET:
                payloads.append(payload)
            elif handler := _HANDLERS.get(kind):
                events.append(handler(payload))
        if payloads:
            events.append(PacketsReceived(payloads))
        return events

    def _require(self, *states: State) -> None:
        if self._state not in states:
            raise LocalProtocolError("the derp session is not in a state for this")
