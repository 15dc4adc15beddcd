"""HTTP/2 from the client's side, as little of it as a load of map polls needs.

hyper-h2 keeps some 30 kB for a connection and takes 10 microseconds for a frame, which is what one wants to
measure at the server and not to pay in the generator. Requests are always the same few, so their heads
are made once, without a compression state; of a response's head only the status is read.

LIMIT: no padding, no priority, no push, no trailers: servers do not use them here. A status that is none
of HPACK's static table reads as 0.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Final, NamedTuple

PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
#: As a Go client: 4 MiB per stream, a GiB more for the connection (spec 2.7).
STREAM_WINDOW_BYTES: Final = 4 << 20
_CONNECTION_WINDOW_BYTES: Final = 1 << 30
#: Go gives window back when it has read this much (x/net http2 ``inflowMinRefresh``).
REFRESH_BYTES: Final = 4 << 10
#: LIMIT: bodies here are a few KiB, far below the server's initial window and largest frame.
MAX_BODY_BYTES: Final = 16 << 10

DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE = 0, 1, 3, 4, 6, 7, 8
_ACK = _END_STREAM = 0x1
_END_HEADERS = 0x4
_HEAD: Final = struct.Struct(">BHBBI")
#: RFC 7541 appendix A: the indexed statuses.
_STATUS: Final = {0x88: 200, 0x89: 204, 0x8A: 206, 0x8B: 304, 0x8C: 400, 0x8D: 404, 0x8E: 500}


class Event(NamedTuple):
    """What a stream, or with id 0 the connection, was told.

    Attributes:
        kind: `HEADERS`, `DATA`, `RST_STREAM` or `GOAWAY`.
        stream_id: odd; 0 for GOAWAY.
        data: of DATA; else empty.
        ended: no more comes on this stream.
        status: of HEADERS.
    """

    kind: int
    stream_id: int
    data: bytes = b""
    ended: bool = False
    status: int = 0


def frame(kind: int, flags: int, stream_id: int, payload: bytes = b"") -> bytes:
    """Return one frame."""
    size = len(payload)
    return _HEAD.pack(size >> 16, size & 0xFFFF, kind, flags, stream_id) + payload


def request_head(authority: str, path: str) -> bytes:
    """Return the header block of ``POST path`` (RFC 7541: two indexed fields, two plain ones)."""
    fields = [b"\x83\x87"]  # :method POST, :scheme https
    for index, text in ((1, authority), (4, path)):
        value = text.encode("ascii")
        if len(value) > 126:
            raise ValueError("a field of a benchmark's request has at most 126 bytes")
        fields.append(bytes((index, len(value))) + value)
    return b"".join(fields)


def status_of(block: bytes) -> int:
    """Return the status of a response's header block, 0 when it is not indexed."""
    at = 0
    while at < len(block) and block[at] & 0xE0 == 0x20:  # dynamic table size updates come first
        at += 1
    return _STATUS.get(block[at], 0) if at < len(block) else 0


class Client:
    """One connection: plaintext in, events out; what is to be sent waits in `take`."""

    __slots__ = ("_next", "_out", "_pending", "_unreturned")

    def __init__(self) -> None:
        settings = struct.pack(">HIHI", 0x2, 0, 0x4, STREAM_WINDOW_BYTES)
        self._out = [
            PREFACE,
            frame(SETTINGS, 0, 0, settings),
            frame(WINDOW_UPDATE, 0, 0, _CONNECTION_WINDOW_BYTES.to_bytes(4, "big")),
        ]
        self._next = 1
        self._pending = b""
        self._unreturned: dict[int, int] = {}

    def take(self) -> bytes:
        """Return what is to be sent, and forget it."""
        out, self._out = b"".join(self._out), []
        return out

    def post(self, head: bytes, body: bytes) -> int:
        """Queue a request; return its stream.

        Args:
            head: from `request_head`.
            body: at most `MAX_BODY_BYTES`.
        """
        if len(body) > MAX_BODY_BYTES:
            raise ValueError("a body of a benchmark's request has at most 16 KiB")
        stream_id, self._next = self._next, self._next + 2
        self._out.append(frame(HEADERS, _END_HEADERS, stream_id, head))
        self._out.append(frame(DATA, _END_STREAM, stream_id, body))
        return stream_id

    def receive(self, plaintext: bytes) -> list[Event]:
        """Take plaintext in any chunking; answers and returned window are queued."""
        events = list(self._frames(self._pending + plaintext if self._pending else plaintext))
        self._return_window()
        return events

    def _frames(self, data: bytes) -> Iterator[Event]:
        at, size = 0, len(data)
        while size - at >= 9:
            high, low, kind, flags, stream_id = _HEAD.unpack_from(data, at)
            end = at + 9 + (high << 16 | low)
            if end > size:
                break
            event = self._frame(kind, flags, stream_id, data[at + 9 : end])
            if event is not None:
                yield event
            at = end
        self._pending = data[at:]

    def _frame(self, kind: int, flags: int, stream_id: int, payload: bytes) -> Event | None:
        ended = bool(flags & _END_STREAM)
        match kind:
            case 0:  # DATA
                self._unreturned[stream_id] = self._unreturned.get(stream_id, 0) + len(payload)
                if ended:
                    self._unreturned.pop(stream_id)
                return Event(DATA, stream_id, payload, ended)
            case 1:  # HEADERS
                return Event(HEADERS, stream_id, ended=ended, status=status_of(payload))
            case 3:  # RST_STREAM
                return Event(RST_STREAM, stream_id, ended=True)
            case 7:  # GOAWAY
                return Event(GOAWAY, 0, ended=True)
            case 4 | 6 if not flags & _ACK:  # SETTINGS and PING want an answer
                self._out.append(frame(kind, _ACK, 0, payload if kind == PING else b""))
        return None

    def _return_window(self) -> None:
        """Give window back as Go does: to the stream and to the connection, 4 KiB or more at once."""
        for stream_id, size in self._unreturned.items():
            if size >= REFRESH_BYTES:
                given = size.to_bytes(4, "big")
                self._out.append(frame(WINDOW_UPDATE, 0, 0, given))
                self._out.append(frame(WINDOW_UPDATE, 0, stream_id, given))
                self._unreturned[stream_id] = 0
