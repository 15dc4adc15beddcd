"""Frames, byte by byte, and the reader's limits."""

from __future__ import annotations

import pytest

from mergescale.kernel.errors import LocalProtocolError, RemoteProtocolError
from mergescale.kernel.keys import NodeKey
from mergescale.wire.derp import FrameReader, FrameType, PeerGoneReason, frames, is_disco

A, B = NodeKey(b"\xaa" * 32), NodeKey(b"\xbb" * 32)


def test_frames_are_type_big_endian_length_and_payload() -> None:
    """Every encoder writes what the specification's table shows."""
    written = {
        frames.server_key(A): b"\x01\0\0\0\x28DERP\xf0\x9f\x94\x91" + A.raw,
        frames.send_packet(B, b"data"): b"\x04\0\0\0\x24" + B.raw + b"data",
        frames.recv_packet(A.raw, B.raw + b"data"): b"\x05\0\0\0\x24" + A.raw + b"data",
        frames.KEEP_ALIVE: b"\x06\0\0\0\0",
        frames.note_preferred(home=True): b"\x07\0\0\0\x01\x01",
        frames.note_preferred(home=False): b"\x07\0\0\0\x01\x00",
        frames.peer_gone(A.raw, PeerGoneReason.DISCONNECTED): b"\x08\0\0\0\x21" + A.raw + b"\0",
        frames.peer_gone(A.raw, PeerGoneReason.NOT_HERE): b"\x08\0\0\0\x21" + A.raw + b"\x01",
        frames.ping(b"12345678"): b"\x12\0\0\0\x0812345678",
        frames.pong(b"12345678"): b"\x13\0\0\0\x0812345678",
    }
    assert list(written.keys()) == list(written.values())


def test_packet_has_at_most_64_kib() -> None:
    """The largest packet is encoded; a larger one is our own mistake."""
    assert len(frames.send_packet(A, bytes(65536))) == 5 + 32 + 65536
    with pytest.raises(LocalProtocolError):
        frames.send_packet(A, bytes(65537))


@pytest.mark.parametrize(
    ("packet", "expected"),
    [
        (b"TS\xf0\x9f\x92\xac" + bytes(56), True),
        (b"TS\xf0\x9f\x92\xac" + bytes(55), False),
        (b"TS\xf0\x9f\x92\xad" + bytes(56), False),
        ("TS💬".encode() + bytes(100), True),
        (b"\x01\0\0\0" + bytes(144), False),
        (b"", False),
    ],
)
def test_disco_is_known_by_magic_and_size(packet: bytes, expected: bool) -> None:
    """A disco packet starts with its magic and has room for key and nonce: 62 bytes."""
    assert is_disco(packet) is expected


def test_reader_cuts_many_frames_from_one_chunk() -> None:
    """Several frames in one read all come out, and the rest of a cut one is kept."""
    reader = FrameReader({})
    stream = frames.ping(b"12345678") + frames.KEEP_ALIVE + frames.send_packet(A, b"x")
    reader.feed(stream + stream[:7])
    assert reader.drain() == [(0x12, b"12345678"), (0x06, b""), (0x04, A.raw + b"x")]
    assert (reader.drain(), reader.buffered_bytes) == ([], 7)
    reader.feed(stream[7:13])
    assert reader.drain() == [(0x12, b"12345678")]


def test_reader_gives_one_frame_at_a_time() -> None:
    """`next` leaves what follows for later."""
    reader = FrameReader({})
    reader.feed(frames.KEEP_ALIVE + frames.ping(b"12345678"))
    assert [reader.next(), reader.next(), reader.next()] == [
        (0x06, b""),
        (0x12, b"12345678"),
        None,
    ]


@pytest.mark.parametrize(
    ("kind", "length", "legal"),
    [
        (FrameType.PING, 7, False),
        (FrameType.PING, 8, True),
        (FrameType.PING, 1000, True),
        (FrameType.PING, 1001, False),
        (0x77, 0, True),
        (0x77, 1024 * 1024, True),
        (0x77, 1024 * 1024 + 1, False),
        (0x77, 0xFFFFFFFF, False),
    ],
)
def test_reader_judges_a_length_by_its_header(kind: int, length: int, legal: bool) -> None:
    """A frame outside its limits is refused before its payload was buffered."""
    reader = FrameReader({FrameType.PING: (8, 1000)})
    reader.feed(bytes([kind]) + length.to_bytes(4, "big"))
    if not legal:
        with pytest.raises(RemoteProtocolError):
            reader.drain()
        return
    reader.feed(bytes(length))
    assert reader.drain() == [(kind, bytes(length))]
