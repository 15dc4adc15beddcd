"""Answers that wait for their reader: how long, and how many bytes of all connections together.

An answer is written whole, so a client that does not read it keeps it in memory, and its socket. The
kernel ends a connection whose window stays shut (``listeners.watch_for_dead_peer``), but not one that
takes a byte a second.

What must hold:

* INVARIANT(unread): a connection whose answer is not taken at `SLOW_BYTES_S` ends within two looks;
  all of them together keep at most `Unread.room_bytes`, beyond which whoever waits longest ends.

Behind TLS nobody can see how much of a write has left, only whether the next one has to wait. So there
an answer is written `in_pieces`, looks are rarer, and what a handler has not written yet does not
count among the bytes; it ends with its connection.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

import structlog

log = structlog.get_logger()

#: LIMIT: as nginx waits for a client that reads nothing at all.
LOOK_S: Final = 30.0
#: LIMIT: the slowest network that anybody still uses has ten times as much.
SLOW_BYTES_S: Final = 1024
#: LIMIT: TLS shows progress when a buffer of some 100 kB is empty.
TLS_LOOKS: Final = 4
#: LIMIT: asyncio's own high-water mark.
PIECE_BYTES: Final = 64 << 10
#: LIMIT: a dozen lists of all devices of 5,000.
ROOM_BYTES: Final = 64 << 20


@dataclass(slots=True)
class Unread:
    """What all connections of an edge have written and not got rid of.

    Attributes:
        look_s: seconds between two looks at one connection.
        room_bytes: see INVARIANT(unread).
        held: connections with an answer that was not gone when last seen, and its size then;
            whoever waits longest is first.
    """

    look_s: float = LOOK_S
    room_bytes: int = ROOM_BYTES
    held: dict[Outlet, int] = field(default_factory=dict)
    _total_bytes: int = 0

    def note(self, outlet: Outlet, size_bytes: int) -> None:
        """Take in how much a connection has not got rid of, 0 for nothing."""
        self._total_bytes += size_bytes - self.held.pop(outlet, 0)
        if not size_bytes:
            return
        self.held[outlet] = size_bytes
        while self._total_bytes > self.room_bytes:
            self.end_one()

    def end_one(self) -> bool:
        """End the connection that waits longest; return False when none waits."""
        while self.held:
            # It may have read everything since it was seen last.
            if not next(iter(self.held)).look(at_once=True):
                return True
        return False


class Outlet:
    """The way out of one connection."""

    def __init__(
        self,
        transport: asyncio.Transport,
        unread: Unread,
        end: Callable[[], None],
        *,
        tls: bool = False,
    ) -> None:
        """`end` ends the connection at once."""
        self._transport = transport
        self._end = end
        self._unread = unread
        self._look_s = unread.look_s * (TLS_LOOKS if tls else 1)
        self._answers = 0
        self._seen = (0, 0)
        self._timer: asyncio.TimerHandle | None = None

    def written(self) -> None:
        """Note that there may be more to get rid of than before."""
        self._answers += 1
        if self._timer is None:
            self._see(self._transport.get_write_buffer_size())

    def shrunk(self) -> None:
        """Note that most of it is gone."""
        if self._timer is not None:
            self._see(self._transport.get_write_buffer_size())

    def closed(self) -> None:
        """Forget it: the socket is gone, or somebody else's."""
        self._see(0)

    def look(self, *, at_once: bool = False) -> bool:
        """End the connection unless its reader got on; with `at_once`, unless it has read all.

        Return whether it goes on.

        Answers one after another look like no progress at all, so then it begins anew: who does not
        read gets no further ones, as an application waits for room before it answers.
        """
        before_bytes, answers = self._seen
        size_bytes = self._transport.get_write_buffer_size()
        enough = before_bytes - size_bytes >= SLOW_BYTES_S * self._unread.look_s
        slow = size_bytes > 0 and not enough and answers == self._answers
        if slow or (at_once and size_bytes > 0):
            log.info("edge.dropped", why="it does not read its answer")
            self._see(0)
            self._end()
            return False
        self._see(size_bytes)
        return True

    def _see(self, size_bytes: int) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if size_bytes:
            self._seen = size_bytes, self._answers
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(self._look_s, self.look)
        self._unread.note(self, size_bytes)


def in_pieces(app: Any) -> Any:
    """Return the ASGI application with long bodies in pieces, each of which waits for room."""

    async def serve(scope: Any, receive: Any, send: Any) -> None:
        async def send_pieces(message: Any) -> None:
            body = message.get("body", b"")
            if message["type"] == "http.response.body" and len(body) > PIECE_BYTES:
                last = (len(body) - 1) // PIECE_BYTES * PIECE_BYTES
                for at in range(0, last, PIECE_BYTES):
                    piece = body[at : at + PIECE_BYTES]
                    await send({**message, "body": piece, "more_body": True})
                message = {**message, "body": body[last:]}
            await send(message)

        await app(scope, receive, send_pieces)

    return serve
