"""A link to PostgreSQL that can be harmed: TCP on loopback here, the server's unix socket there.

    with link_to(postgres) as link:
        url = link.url(postgres.new_database())
        link.freeze()                     # what is sent waits; nobody is told
        link.thaw()                       # ... and arrives, even from who has gone meanwhile
        link.cut()                        # every connection is reset; new ones are refused
        link.mend()
        link.at(COMMIT, Fate.LOST)        # the next message with this word never arrives
        link.at(COMMIT, Fate.UNANSWERED)  # it arrives and is carried out; the answer is lost
        link.at(COMMIT, Fate.FROZEN)      # it arrives once the link thaws
    link.at(COMMIT, Fate.SILENT)      # it arrives and is carried out; the answer once it thaws

It runs on a thread of its own, so that it serves tests with and without a loop.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from enum import Enum, auto
from pathlib import Path
from typing import Final

from sqlalchemy import make_url

from support.in_process import LoopThread
from support.postgres import PostgresServer

#: The whole statement: BEGIN names an isolation level that begins with the word.
COMMIT: Final = b"COMMIT\0"


class Fate(Enum):
    """What becomes of a message."""

    LOST = auto()
    UNANSWERED = auto()
    FROZEN = auto()
    SILENT = auto()


class Link:
    """What the connections through it share; its methods may be called from any thread."""

    def __init__(self, socket: Path, thread: LoopThread) -> None:
        self.socket = socket
        self.port = 0
        self.delay_s = 0.0
        self._thread = thread
        self._frozen = False
        self._refusing = False
        self._thawed = asyncio.Event()
        self._fate: tuple[bytes, int, Fate] | None = None
        self._connections: set[Connection] = set()

    def url(self, database_url: str) -> str:
        """Return the URL of the same database through this link."""
        url = make_url(database_url)
        through = url.set(host="127.0.0.1", port=self.port, query={})
        return through.render_as_string(hide_password=False)

    def freeze(self) -> None:
        """Deliver nothing from now on."""
        self._frozen = True

    def thaw(self) -> None:
        """Deliver what waits, and whatever comes."""
        self._frozen = False
        self._thread.loop.call_soon_threadsafe(self._thawed.set)

    def cut(self) -> None:
        """Reset all connections, and refuse new ones."""
        self._refusing = True
        self._thread.loop.call_soon_threadsafe(self.reset)

    def mend(self) -> None:
        """Let new connections in."""
        self._refusing = False

    def at(self, word: bytes, fate: Fate, *, nth: int = 1) -> None:
        """Choose what becomes of the n-th message to the server, of those with this word."""
        self._fate = (word, nth, fate)

    @property
    def met(self) -> bool:
        """Say whether the message that `at` chose has come."""
        return self._fate is None

    def reset(self) -> None:
        """Reset all connections; on the link's own thread."""
        for connection in list(self._connections):
            connection.abort()

    async def meet(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection to its end."""
        if self._refusing:
            writer.transport.abort()
            return
        await self.passable()
        near = reader, writer
        try:
            far = await asyncio.open_unix_connection(self.socket)
        except OSError:  # it is restarting
            writer.transport.abort()
            return
        connection = Connection(self, near, far)
        self._connections.add(connection)
        try:
            await connection.run()
        finally:
            self._connections.discard(connection)

    async def passable(self) -> None:
        """Wait while the link is frozen."""
        while self._frozen:
            self._thawed.clear()
            await self._thawed.wait()

    def fate_of(self, message: bytes) -> Fate | None:
        """Return what becomes of a message to the server."""
        if self._fate is None or self._fate[0] not in message:
            return None
        word, nth, fate = self._fate
        self._fate = None if nth == 1 else (word, nth - 1, fate)
        return fate if nth == 1 else None


Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Connection:
    """One connection through a link."""

    def __init__(self, link: Link, near: Streams, far: Streams) -> None:
        self._link = link
        self._near = near
        self._far = far
        self._unanswered = False

    async def run(self) -> None:
        """Pass on what comes until either end is gone."""
        there = asyncio.ensure_future(self._to_server())
        back = asyncio.ensure_future(self._to_client())
        # Who asks may go before it was answered; the server is told, but not cut short.
        await asyncio.wait((there, back), return_when=asyncio.FIRST_COMPLETED)
        if not back.done():
            with contextlib.suppress(OSError, RuntimeError):  # reset already
                self._far[1].write_eof()
            await asyncio.wait((back,))
        there.cancel()
        await asyncio.gather(there, back, return_exceptions=True)
        self.abort()

    def abort(self) -> None:
        """Reset both ends."""
        for _, writer in (self._near, self._far):
            writer.transport.abort()

    async def _to_server(self) -> None:
        while message := await self._near[0].read(1 << 16):
            match self._link.fate_of(message):
                case Fate.LOST:
                    self.abort()
                    return
                case Fate.FROZEN:
                    self._link.freeze()
                case Fate.UNANSWERED:
                    self._unanswered = True
                case Fate.SILENT:
                    self._far[1].write(message)
                    self._link.freeze()
                    continue
                case None:
                    pass
            await self._pass(self._far[1], message)

    async def _to_client(self) -> None:
        while message := await self._far[0].read(1 << 16):
            if self._unanswered:
                self.abort()
                return
            await self._pass(self._near[1], message)

    async def _pass(self, writer: asyncio.StreamWriter, message: bytes) -> None:
        await self._link.passable()
        if self._link.delay_s:
            await asyncio.sleep(self._link.delay_s)
        with contextlib.suppress(OSError):
            writer.write(message)
            await writer.drain()


@contextlib.contextmanager
def link_to(postgres: PostgresServer) -> Iterator[Link]:
    """Run a link to a server for the block."""
    with LoopThread() as thread:
        link = Link(postgres.folder / ".s.PGSQL.5432", thread)

        async def listen() -> asyncio.Server:
            return await asyncio.start_server(link.meet, "127.0.0.1", 0)

        server = thread.run(listen())
        link.port = server.sockets[0].getsockname()[1]
        try:
            yield link
        finally:

            async def end() -> None:
                server.close()
                link.thaw()
                link.reset()
                others = asyncio.all_tasks() - {asyncio.current_task()}
                for task in others:
                    task.cancel()
                await asyncio.gather(*others, return_exceptions=True)

            thread.run(end())
