"""Framing and compression of map messages."""

from __future__ import annotations

from itertools import pairwise

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from mergescale.kernel.errors import LocalProtocolError, RemoteProtocolError
from mergescale.wire import mapframe
from mergescale.wire.mapframe import Compression, Decoder


def test_length_is_little_endian() -> None:
    """A message is a u32 LE and the payload, in one part or several."""
    assert mapframe.encode(b"x" * 258) == b"\x02\x01\x00\x00" + b"x" * 258
    assert mapframe.encode(b"{", b"}") == b"\x02\x00\x00\x00{}"


def test_message_is_never_empty() -> None:
    """An empty message would be a parse error for the client, so it is our own mistake."""
    for parts in ((), (b"",), (b"", b"")):
        with pytest.raises(LocalProtocolError):
            mapframe.encode(*parts)


def test_compressed_frame_tells_its_size() -> None:
    """One complete zstd frame with content size, decodable by the library's simple call."""
    frame = mapframe.compress(b'{"a":1}' * 50)
    assert zstandard.frame_content_size(frame) == 350
    assert zstandard.ZstdDecompressor().decompress(frame) == b'{"a":1}' * 50


def test_keepalive_is_exactly_the_text_clients_know() -> None:
    """The precomputed keepalives carry the exact JSON, plain and as zstd."""
    assert mapframe.KEEPALIVE_JSON == b'{"KeepAlive":true}'
    assert mapframe.KEEPALIVE_PLAIN == b'\x12\0\0\0{"KeepAlive":true}'
    assert Decoder(Compression.ZSTD).feed(mapframe.KEEPALIVE_ZSTD) == [mapframe.KEEPALIVE_JSON]


def test_joined_frames_decode_to_one_text() -> None:
    """Several zstd frames in one message are one JSON text."""
    frames = [mapframe.compress(part) for part in (b'{"Peers":[', b"1,2", b"]}")]
    message = mapframe.encode(mapframe.join(frames))
    assert Decoder(Compression.ZSTD).feed(message) == [b'{"Peers":[1,2]}']


@pytest.mark.parametrize(
    "message",
    [
        bytes(4),
        b"\x41\0\0\0",
        mapframe.encode(b"{}"),
        mapframe.encode(mapframe.compress(b"1" * 8)[:-1]),
        mapframe.encode(mapframe.compress(b"1" * 65)),
        mapframe.encode(mapframe.compress(b"1"), b"x"),
        mapframe.encode(zstandard.ZstdCompressor(write_content_size=False).compress(b"1")),
    ],
    ids=["zero-length", "long", "raw-json", "cut", "bomb", "trailing", "no-size"],
)
def test_malformed_message_closes_the_decoder(message: bytes) -> None:
    """A broken message is the peer's fault, and nothing is read after it."""
    decoder = Decoder(Compression.ZSTD, max_json_bytes=64)
    with pytest.raises(RemoteProtocolError):
        decoder.feed(message)
    with pytest.raises(LocalProtocolError):
        decoder.feed(mapframe.KEEPALIVE_ZSTD)


def test_limit_counts_all_frames_of_a_message() -> None:
    """Many small frames may not add up to more than the limit."""
    decoder = Decoder(Compression.ZSTD, max_json_bytes=40)
    nine = mapframe.compress(b"123456789")
    assert decoder.feed(mapframe.encode(nine, nine)) == [b"123456789" * 2]
    tiny = Decoder(Compression.ZSTD, max_json_bytes=36)
    with pytest.raises(RemoteProtocolError, match="zstd frame"):
        tiny.feed(mapframe.encode(mapframe.compress(b"1" * 30), mapframe.compress(b"1" * 7)))


@given(
    st.sampled_from(Compression),
    st.lists(st.lists(st.binary(min_size=1, max_size=30), min_size=1, max_size=3), max_size=4),
    st.lists(st.integers(0, 2**16), max_size=10),
)
def test_chunking_does_not_change_the_messages(
    compression: Compression, messages: list[list[bytes]], cuts: list[int]
) -> None:
    """However the network cuts the body, the same texts come out."""
    pack = mapframe.compress if compression is Compression.ZSTD else bytes
    stream = b"".join(mapframe.encode(*map(pack, parts)) for parts in messages)
    edges = [0, *sorted(cut % (len(stream) + 1) for cut in cuts), len(stream)]
    decoder = Decoder(compression)
    found = [text for start, end in pairwise(edges) for text in decoder.feed(stream[start:end])]
    assert found == [b"".join(parts) for parts in messages]


@given(st.binary(max_size=60) | st.binary(min_size=1, max_size=60).map(mapframe.encode))
def test_garbage_is_refused_or_waits(data: bytes) -> None:
    """Random bodies raise `RemoteProtocolError` and nothing else."""
    decoder = Decoder(Compression.ZSTD, max_json_bytes=2**16)
    try:
        found = decoder.feed(data)
    except RemoteProtocolError:
        return
    assert all(isinstance(text, bytes) for text in found)
