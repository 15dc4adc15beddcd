"""One DERP connection, seen from a client; for tests and load, so no more than they need."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, auto

from mergescale.kernel.errors import LocalProtocolError, RemoteProtocolError
from mergescale.kernel.keys import KEY_BYTES, NodeKey, PrivateKey
from mergescale.wire.derp import frames
from mergescale.wire.derp.boxes import ClientInfo, ServerInfo, open_server_info, seal_client_info
from mergescale.wire.derp.frames import FrameReader, FrameType, Limits, PeerGoneReason

_LIMITS: Limits = {
    FrameType.SERVER_KEY: (len(frames.SERVER_KEY_MAGIC) + KEY_BYTES, frames.MAX_FRAME_BYTES),
    FrameType.RECV_PACKET: (KEY_BYTES, KEY_BYTES + frames.MAX_PACKET_BYTES),
    FrameType.PEER_GONE: (KEY_BYTES + 1, KEY_BYTES + 1),
    FrameType.PING: (frames.PING_BYTES, frames.MAX_PING_BYTES),
    FrameType.PONG: (frames.PING_BYTES, frames.PING_BYTES),
}


#: What our clients say of themselves.
OUR_INFO = ClientInfo(can_ack_pings=True)


@dataclass(frozen=True, slots=True)
class Connected:
    """The server let us in."""

    server: NodeKey
    info: ServerInfo


@dataclass(frozen=True, slots=True)
class PacketReceived:
    """Somebody sent us a packet."""

    source: NodeKey
    packet: bytes


@dataclass(frozen=True, slots=True)
class PeerGone:
    """Packets to this peer do not arrive over this server any more."""

    key: NodeKey
    reason: PeerGoneReason


@dataclass(frozen=True, slots=True)
class PongReceived:
    """The server answered our ping."""

    data: bytes


@dataclass(frozen=True, slots=True)
class KeepAliveReceived:
    """The server is still there."""


ClientEvent = Connected | PacketReceived | PeerGone | PongReceived | KeepAliveReceived


class State(Enum):
    """What the client waits for."""

    SERVER_KEY = auto()
    SERVER_INFO = auto()
    OPEN = auto()
    CLOSED = auto()


class ClientSession:
    """The client's state machine: bytes in, events out, bytes out.

    It is as strict as the Rust client: ServerInfo directly after our ClientInfo, version 2, and
    no frame type it does not know.

    Args:
        private: our node's private key.
        nonce: 24 random bytes, for the one box that we send.
    """

    __slots__ = ("_info", "_nonce", "_output", "_private", "_reader", "_server", "_state")

    def __init__(self, private: PrivateKey, nonce: bytes, info: ClientInfo = OUR_INFO) -> None:
        self._private = private
        self._nonce = nonce
        self._info = info
        self._server = NodeKey.zero()
        self._reader = FrameReader(_LIMITS)
        self._state = State.SERVER_KEY
        self._output: list[bytes] = []

    @property
    def state(self) -> State:
        """What the session waits for."""
        return self._state

    def take(self) -> bytes:
        """Return the bytes to send now, and forget them."""
        output = b"".join(self._output)
        self._output.clear()
        return output

    def send(self, destination: NodeKey, packet: bytes) -> None:
        """Queue a packet of at most 64 KiB."""
        self._require_open()
        self._output.append(frames.send_packet(destination, packet))

    def ping(self, data: bytes) -> None:
        """Queue a ping with 8 bytes."""
        self._require_open()
        self._output.append(frames.ping(data))

    def prefer(self, *, home: bool) -> None:
        """Queue a note whether this region is our home."""
        self._require_open()
        self._output.append(frames.note_preferred(home=home))

    def receive(self, data: bytes) -> list[ClientEvent]:
        """Take bytes as they arrived and return what they mean.

        Raises:
            RemoteProtocolError: the server broke the protocol; the session is closed.
            LocalProtocolError: the session was closed before.
        """
        if self._state is State.CLOSED:
            raise LocalProtocolError("the derp session is closed")
        self._reader.feed(data)
        try:
            events = [self._handle(kind, payload) for kind, payload in self._reader.drain()]
        except RemoteProtocolError:
            self._state = State.CLOSED
            self._reader = FrameReader(_LIMITS)
            raise
        return [event for event in events if event is not None]

    def _handle(self, kind: int, payload: bytes) -> ClientEvent | None:
        match self._state, kind:
            case State.SERVER_KEY, FrameType.SERVER_KEY:
                self._introduce(payload)
                return None
            case State.SERVER_INFO, FrameType.SERVER_INFO:
                return self._connected(payload)
            case State.OPEN, FrameType.PING:
                self._output.append(frames.pong(payload[: frames.PING_BYTES]))
                return None
            case State.OPEN, _ if event := _EVENTS.get(kind):
                return event(payload)
            case _:
                raise RemoteProtocolError("a derp frame out of place")

    def _introduce(self, payload: bytes) -> None:
        magic = len(frames.SERVER_KEY_MAGIC)
        if payload[:magic] != frames.SERVER_KEY_MAGIC:
            raise RemoteProtocolError("not a derp server")
        self._server = NodeKey(payload[magic : magic + KEY_BYTES])
        box = seal_client_info(
            self._info, private=self._private, server=self._server, nonce=self._nonce
        )
        self._output.append(frames.encode(FrameType.CLIENT_INFO, box))
        self._state = State.SERVER_INFO

    def _connected(self, payload: bytes) -> ClientEvent:
        info = open_server_info(payload, private=self._private, server=self._server)
        if info.version != frames.PROTOCOL_VERSION:
            raise RemoteProtocolError("a derp server of another version")
        self._state = State.OPEN
        return Connected(self._server, info)

    def _require_open(self) -> None:
        if self._state is not State.OPEN:
            raise LocalProtocolError("the derp session is not open")


def _received(payload: bytes) -> ClientEvent:
    return PacketReceived(NodeKey(payload[:KEY_BYTES]), payload[KEY_BYTES:])


def _gone(payload: bytes) -> ClientEvent:
    try:
        reason = PeerGoneReason(payload[KEY_BYTES])
    except ValueError:
        raise RemoteProtocolError("a peer is gone for no known reason") from None
    return PeerGone(NodeKey(payload[:KEY_BYTES]), reason)


# What an admitted client may receive, but for Ping, which it answers by itself.
_EVENTS: dict[int, Callable[[bytes], ClientEvent]] = {
    FrameType.RECV_PACKET: _received,
    FrameType.PEER_GONE: _gone,
    FrameType.PONG: PongReceived,
    FrameType.KEEP_ALIVE: lambda _: KeepAliveReceived(),
}
