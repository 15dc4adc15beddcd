"""DERP's frames: ``type u8 | length u32 big-endian (payload only) | payload``.

====  =============  ====  ======================================================
type  name           dir   payload
====  =============  ====  ======================================================
0x01  ServerKey      s->c  magic 8, server public key 32 (more is ignored)
0x02  ClientInfo     c->s  client node key 32, nonce 24, box(JSON)
0x03  ServerInfo     s->c  nonce 24, box(JSON)
0x04  SendPacket     c->s  destination key 32, packet
0x05  RecvPacket     s->c  source key 32, packet
0x06  KeepAlive      s->c  empty
0x07  NotePreferred  c->s  1 byte: 1 = this is my home
0x08  PeerGone       s->c  key 32, reason 1
0x0a  ForwardPacket  mesh  source 32, destination 32, packet
0x10  WatchConns     mesh  empty
0x11  ClosePeer      mesh  key 32
0x12  Ping           both  8 bytes (a server takes 8 to 1000)
0x13  Pong           both  the 8 bytes
====  =============  ====  ======================================================

Other types are skipped by servers and Go clients. Source: tailscale ``derp/derp.go``.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from enum import IntEnum

from mergescale.kernel.errors import LocalProtocolError, RemoteProtocolError
from mergescale.kernel.keys import KEY_BYTES, NodeKey

PROTOCOL_VERSION = 2
SERVER_KEY_MAGIC = b"DERP\xf0\x9f\x94\x91"
NONCE_BYTES = 24
PING_BYTES = 8

#: LIMIT: tailscale ``derp.MaxPacketSize``.
MAX_PACKET_BYTES = 64 * 1024
#: LIMIT: tailscale ``maxInfoLen`` of the server.
MAX_CLIENT_INFO_BYTES = 256 * 1024
#: LIMIT: a Go client drops the connection at any frame over 1 MiB.
MAX_FRAME_BYTES = 1024 * 1024
#: LIMIT: tailscale's server refuses longer pings.
MAX_PING_BYTES = 1000

_HEADER = struct.Struct(">BI")
HEADER_BYTES = _HEADER.size

# A disco packet: magic 6, sender's disco key 32, nonce 24, box.
_DISCO_MAGIC = b"TS\xf0\x9f\x92\xac"
_DISCO_MIN_BYTES = 6 + 32 + 24


class FrameType(IntEnum):
    """The types of the table above."""

    SERVER_KEY = 0x01
    CLIENT_INFO = 0x02
    SERVER_INFO = 0x03
    SEND_PACKET = 0x04
    RECV_PACKET = 0x05
    KEEP_ALIVE = 0x06
    NOTE_PREFERRED = 0x07
    PEER_GONE = 0x08
    FORWARD_PACKET = 0x0A
    WATCH_CONNS = 0x10
    CLOSE_PEER = 0x11
    PING = 0x12
    PONG = 0x13


class PeerGoneReason(IntEnum):
    """Why a PeerGone was sent; the Rust client knows no others."""

    DISCONNECTED = 0
    NOT_HERE = 1


#: Least and most payload bytes per frame type.
Limits = Mapping[int, tuple[int, int]]

_OTHER_LIMITS = (0, MAX_FRAME_BYTES)


def is_disco(packet: bytes) -> bool:
    """Whether a packet is path discovery rather than WireGuard."""
    return len(packet) >= _DISCO_MIN_BYTES and packet.startswith(_DISCO_MAGIC)


def encode(kind: FrameType, *parts: bytes) -> bytes:
    """Return one frame whose payload is the joined `parts`."""
    return b"".join((_HEADER.pack(kind, sum(map(len, parts))), *parts))


KEEP_ALIVE = encode(FrameType.KEEP_ALIVE)


def server_key(key: NodeKey) -> bytes:
    """Return the frame by which a server says who it is; the first on every connection."""
    return encode(FrameType.SERVER_KEY, SERVER_KEY_MAGIC, key.raw)


def send_packet(destination: NodeKey, packet: bytes) -> bytes:
    """Return the frame by which a client sends `packet`, at most 64 KiB."""
    if len(packet) > MAX_PACKET_BYTES:
        raise LocalProtocolError("a derp packet has at most 65536 bytes")
    return encode(FrameType.SEND_PACKET, destination.raw, packet)


def recv_packet(source: bytes, sent: bytes) -> bytes:
    """Turn the payload of a SendPacket into the RecvPacket that its receiver gets.

    Args:
        source: the sender's key, 32 bytes.
        sent: destination key 32, packet. Its length is the new one too, as a key is exchanged
            for a key.
    """
    header = _HEADER.pack(FrameType.RECV_PACKET, len(sent))
    return b"".join((header, source, sent[KEY_BYTES:]))


def note_preferred(*, home: bool) -> bytes:
    """Return the frame by which a client says whether this is its home region."""
    return encode(FrameType.NOTE_PREFERRED, bytes([home]))


def peer_gone(key: bytes, reason: PeerGoneReason) -> bytes:
    """Return the frame that tells a client to forget its route to `key` (32 bytes).

    WIRE(rust): always with the reason; 33 bytes, a shorter payload crashes its reader.
    """
    return encode(FrameType.PEER_GONE, key, bytes([reason]))


def ping(data: bytes) -> bytes:
    """Return a ping with 8 bytes of the sender's choice."""
    return encode(FrameType.PING, data)


def pong(data: bytes) -> bytes:
    """Return the answer to a ping, with its 8 bytes."""
    return encode(FrameType.PONG, data)


class FrameReader:
    """Cuts a stream of bytes into frames.

    Attributes:
        limits: checked as soon as a header is there, so that an oversized frame is refused
            rather than buffered. Types without an entry may have up to 1 MiB.
    """

    __slots__ = ("_needed", "_pending", "limits")

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self._pending = bytearray()
        # Size of `_pending` below which no frame can be whole: a large frame that arrives byte
        # by byte is looked at twice, not once per byte.
        self._needed = HEADER_BYTES

    @property
    def buffered_bytes(self) -> int:
        """How many bytes wait for the rest of their frame, or to be read."""
        return len(self._pending)

    def feed(self, data: bytes) -> None:
        """Append bytes as they arrived."""
        self._pending += data

    def next(self) -> tuple[int, bytes] | None:
        """Return type and payload of the next frame, or None while it is not whole.

        Raises:
            RemoteProtocolError: its length is outside the limits of its type.
        """
        frames = self._cut(most=1)
        return frames[0] if frames else None

    def drain(self) -> list[tuple[int, bytes]]:
        """Return type and payload of all whole frames.

        Raises:
            RemoteProtocolError: as for `next`.
        """
        return self._cut(most=-1)

    def _cut(self, most: int) -> list[tuple[int, bytes]]:
        """Cut at most `most` frames, or all if negative. The hot loop of the relay."""
        frames: list[tuple[int, bytes]] = []
        size = len(self._pending)
        if size < self._needed:
            return frames
        data = bytes(self._pending)
        limits, start = self.limits, 0
        self._needed = HEADER_BYTES
        while size - start >= HEADER_BYTES and len(frames) != most:
            kind, length = _HEADER.unpack_from(data, start)
            least, largest = limits.get(kind, _OTHER_LIMITS)
            if not least <= length <= largest:
                raise RemoteProtocolError("a derp frame has an impossible length")
            body = start + HEADER_BYTES
            end = body + length
            if end > size:
                self._needed = end - start
                break
            frames.append((kind, data[body:end]))
            start = end
        del self._pending[:start]
        return frames
