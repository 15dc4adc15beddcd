"""How MapResponses stand in the body of ``/machine/map``.

::

    u32 LITTLE-endian length | payload        repeated, each flushed on its own

The payload is the JSON itself, or zstd when the request said ``Compress: "zstd"``. Go decodes
zstd without looking, Rust never does, so the wrong one ends the stream. A zstd payload may be
several independent frames, one after another, that decode to one JSON text together: blocks that
many viewers share are compressed once.

No length is ever zero; Go reads that as broken JSON, not as a keepalive. Source: spec 4.2, 4.3;
tailscale ``control/controlclient/direct.go``.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum, auto

import zstandard

from mergescale.kernel.errors import LocalProtocolError, RemoteProtocolError

LENGTH_BYTES = 4
#: zstd's fastest ordinary level; maps are JSON with much repetition and are sent once.
ZSTD_LEVEL = 1
#: LIMIT: what our own clients accept; a map of 50,000 peers is 30 MB of JSON.
MAX_JSON_BYTES = 256 * 2**20

#: Exactly this text: Go compares a message with it and skips decoding.
KEEPALIVE_JSON = b'{"KeepAlive":true}'


def encode(*parts: bytes) -> bytes:
    """Return one message: the length and its payload, given whole or in parts.

    Raises:
        LocalProtocolError: the payload is empty or does not fit a u32.
    """
    size = sum(map(len, parts))
    if not 0 < size < 2**32:
        raise LocalProtocolError("a map message has between 1 and 2^32 - 1 bytes")
    return b"".join((size.to_bytes(LENGTH_BYTES, "little"), *parts))


def compress(json: bytes) -> bytes:
    """Return `json` as one complete zstd frame, with its content size in the header.

    A new compressor each time costs about 10 microseconds, and makes this callable from any
    thread.
    """
    return zstandard.ZstdCompressor(level=ZSTD_LEVEL).compress(json)


def join(frames: Iterable[bytes]) -> bytes:
    """Return the payload that several zstd frames make; it decodes to their joined texts."""
    return b"".join(frames)


#: The keepalive, ready to send, for clients without and with ``Compress: "zstd"``.
KEEPALIVE_PLAIN = encode(KEEPALIVE_JSON)
KEEPALIVE_ZSTD = encode(compress(KEEPALIVE_JSON))


class Compression(Enum):
    """What the map request asked for."""

    NONE = auto()
    ZSTD = auto()


class Decoder:
    """The client's side: bytes of the body in, JSON texts out.

    Refusing input closes it; using it afterwards is a `LocalProtocolError`.
    """

    __slots__ = ("_closed", "_compression", "_max_json_bytes", "_pending")

    def __init__(self, compression: Compression, *, max_json_bytes: int = MAX_JSON_BYTES) -> None:
        self._compression = compression
        self._max_json_bytes = max_json_bytes
        self._pending = bytearray()
        self._closed = False

    def feed(self, data: bytes) -> list[bytes]:
        """Take bytes as they arrived and return the JSON text of every message they complete.

        Raises:
            RemoteProtocolError: a length of zero or over the limit, or a payload that is not
                zstd frames with their sizes.
            LocalProtocolError: the decoder had failed before.
        """
        if self._closed:
            raise LocalProtocolError("the map stream is closed")
        self._pending += data
        try:
            return self._messages()
        except RemoteProtocolError:
            self._closed = True
            self._pending = bytearray()
            raise

    def _messages(self) -> list[bytes]:
        found: list[bytes] = []
        start = 0
        while len(self._pending) - start >= LENGTH_BYTES:
            body = start + LENGTH_BYTES
            size = int.from_bytes(self._pending[start:body], "little")
            if not 0 < size <= self._max_json_bytes:
                raise RemoteProtocolError("a map message has an impossible length")
            if len(self._pending) < body + size:
                break
            found.append(self._decode(bytes(self._pending[body : body + size])))
            start = body + size
        del self._pending[:start]
        return found

    def _decode(self, payload: bytes) -> bytes:
        match self._compression:
            case Compression.NONE:
                return payload
            case Compression.ZSTD:
                try:
                    return decompress(payload, max_bytes=self._max_json_bytes)
                except zstandard.ZstdError:
                    raise RemoteProtocolError("a map message is not zstd") from None


def decompress(payload: bytes, *, max_bytes: int) -> bytes:
    """Decode zstd frames, one after another, to at most `max_bytes`.

    Raises:
        RemoteProtocolError: a frame does not tell its size, is cut short, or is too big.
        zstandard.ZstdError: not zstd.
    """
    texts: list[bytes] = []
    room = max_bytes
    while payload:
        declared = zstandard.frame_content_size(payload)
        if not 0 <= declared <= room:
            raise RemoteProtocolError("a zstd frame has no size or an impossible one")
        room -= declared
        frame = zstandard.ZstdDecompressor().decompressobj()
        texts.append(frame.decompress(payload))
        if not frame.eof:
            raise RemoteProtocolError("a zstd frame is cut short")
        payload = frame.unused_data
    return b"".join(texts)
