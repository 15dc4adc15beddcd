"""A message as parts: bytes of its own, and texts that it shares with other messages.

A zstd payload may be several frames one after another (spec 4.2; every Go client decodes them as
one text). So a text that goes to many clients is compressed once, and only what stands between
such texts is compressed for one client.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from mergescale.wire import mapframe
from mergescale.wire.mapframe import Compression
from mergescale.wire.tailcfg.encode import MemberKey

#: LIMIT: texts below this size go into their message; a frame of their own costs some 12 bytes
#: and loses the context around it.
SHARE_BYTES: Final = 2048


class Shared:
    """A text for many messages, made of `items` with commas between them.

    The items are cached elsewhere already (one per peer), so the joined text is kept only once a
    client without zstd needs it, and the frame only once a client with zstd does.
    """

    __slots__ = ("_frame", "_items", "_text")

    def __init__(self, items: Sequence[bytes]) -> None:
        self._items = items
        self._text: bytes | None = None
        self._frame: bytes | None = None

    @property
    def text(self) -> bytes:
        """The text itself."""
        if self._text is None:
            self._text = b",".join(self._items)
        return self._text

    @property
    def frame(self) -> bytes:
        """The text as one complete zstd frame."""
        if self._frame is None:
            self._frame = mapframe.compress(self._text or b",".join(self._items))
        return self._frame


Part = bytes | Shared

#: What stands between two shared blocks of an array.
COMMA: Final = Shared((b",",))
COMMA_BYTES: Final = b","


def separated(groups: Iterable[Sequence[Part]]) -> list[Part]:
    """Return the parts of all groups with a comma between two groups.

    Between two shared texts the comma is shared too, so that nothing is left to compress.
    """
    joined: list[Part] = []
    for group in groups:
        if joined:
            between = isinstance(joined[-1], Shared) and isinstance(group[0], Shared)
            joined.append(COMMA if between else COMMA_BYTES)
        joined.extend(group)
    return joined


def join_parts(members: Iterable[tuple[MemberKey, Sequence[Part]]]) -> list[Part]:
    """Return a JSON object of members whose values are parts; their order is kept."""
    parts: list[Part] = []
    for key, value in members:
        parts.append((b"," if parts else b"{") + key)
        parts.extend(value)
    parts.append(b"}" if parts else b"{}")
    return parts


def texts(parts: Iterable[Part]) -> list[bytes]:
    """Return the JSON that the parts make, in pieces."""
    return [part if isinstance(part, bytes) else part.text for part in parts]


def seal(parts: Iterable[Part], compression: Compression) -> bytes:
    """Return the message, framed and ready to be written (spec 4.2)."""
    match compression:
        case Compression.NONE:
            return mapframe.encode(*texts(parts))
        case Compression.ZSTD:
            return mapframe.encode(*_frames(parts))


def _frames(parts: Iterable[Part]) -> list[bytes]:
    frames: list[bytes] = []
    own: list[bytes] = []
    for part in parts:
        if isinstance(part, bytes):
            own.append(part)
            continue
        if own:
            frames.append(mapframe.compress(b"".join(own)))
            own = []
        frames.append(part.frame)
    if own:
        frames.append(mapframe.compress(b"".join(own)))
    return frames
