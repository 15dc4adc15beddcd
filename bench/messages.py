"""Map messages, cut out of a stream but not decoded: most are counted only.

The project's own ``wire.mapframe.Decoder`` decodes each one; thousands of clients would keep a core busy
with that alone. Decoding is `text`, for the messages that somebody waits for.
"""

from __future__ import annotations

from mergescale.wire import mapframe


class Splitter:
    """Bytes of the body in, payloads out, still compressed."""

    __slots__ = ("_pending",)

    def __init__(self) -> None:
        self._pending: list[bytes] = []

    def feed(self, data: bytes) -> list[bytes]:
        """Return the payloads that these bytes complete.

        Raises:
            ValueError: a length of zero, which no client accepts (spec 4.2).
        """
        if self._pending:
            self._pending.append(data)
            if not self._complete():
                return []
            data, self._pending = b"".join(self._pending), []
        payloads: list[bytes] = []
        at = 0
        while len(data) - at >= mapframe.LENGTH_BYTES:
            size = int.from_bytes(data[at : at + mapframe.LENGTH_BYTES], "little")
            if not size:
                raise ValueError("a map message of no length")
            end = at + mapframe.LENGTH_BYTES + size
            if end > len(data):
                break
            payloads.append(data[at + mapframe.LENGTH_BYTES : end])
            at = end
        if at < len(data):
            self._pending = [data[at:]]
        return payloads

    def _complete(self) -> bool:
        """Say whether a whole message is there: a long one is joined once, not with each piece."""
        first = self._pending[0]
        if len(first) < mapframe.LENGTH_BYTES:
            self._pending = [b"".join(self._pending)]
            return True
        wanted = int.from_bytes(first[: mapframe.LENGTH_BYTES], "little") + mapframe.LENGTH_BYTES
        return sum(map(len, self._pending)) >= wanted


def text(payload: bytes) -> bytes:
    """Return the JSON of a payload that was asked for with zstd."""
    return mapframe.decompress(payload, max_bytes=mapframe.MAX_JSON_BYTES)


_KEEPALIVE_BYTES = 64


def is_keepalive(payload: bytes) -> bool:
    """Say whether the payload is the keepalive."""
    return len(payload) < _KEEPALIVE_BYTES and text(payload) == mapframe.KEEPALIVE_JSON
