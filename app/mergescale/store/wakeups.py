"""Hearing at once what another replica committed: PostgreSQL's LISTEN and NOTIFY.

What is heard only says that it is worth looking. Nothing rests on hearing it: while the connection
is away everything is missed, so whoever listens looks at the journal by itself as well.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Final

import psycopg
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncConnection as SqlConnection

from mergescale.kernel.ids import Revision, TailnetName
from mergescale.store.database import Database
from mergescale.store.postgresql import connect

_CHANNEL: Final = "mergescale_journal"
#: How long to wait before another connection is tried.
_RETRY_S: Final = 0.5
#: LIMIT: silence after which the connection is tested; a broken one may be silent for ever.
_SILENCE_S: Final = 30.0

#: Told of a tailnet and the revision it has now.
Heard = Callable[[TailnetName, Revision], None]


async def notify(connection: SqlConnection, tailnet: TailnetName, revision: Revision) -> None:
    """Tell whoever listens when the transaction commits; on PostgreSQL only."""
    if connection.dialect.name == "postgresql":
        await connection.execute(select(func.pg_notify(_CHANNEL, f"{revision} {tailnet}")))


class Wakeups:
    """Listens on a connection of its own, and connects again whenever that breaks.

    Args:
        database: a PostgreSQL database.
        heard: called for each commit, this replica's own among them.
        listening: called each time it begins to listen: before that, commits were missed.
    """

    def __init__(self, database: Database, heard: Heard, listening: Callable[[], object]) -> None:
        self._database = database
        self._heard = heard
        self._listening = listening

    async def run(self) -> None:
        """Listen for ever; cancel it to stop."""
        while True:
            with contextlib.suppress(psycopg.Error, OSError, TimeoutError):
                await self._listen()
            await asyncio.sleep(_RETRY_S)

    async def _listen(self) -> None:
        """Listen until the connection breaks."""
        connection = await connect(self._database.reader, self._database.answer_s)
        async with connection:
            await connection.execute(f"LISTEN {_CHANNEL}")
            self._listening()
            while True:
                async for notice in connection.notifies(timeout=_SILENCE_S):
                    self._tell(notice.payload)
                await connection.execute("SELECT 1")

    def _tell(self, payload: str) -> None:
        """Pass on what `notify` said; anybody may send on a channel, so the rest is ignored."""
        revision, _, tailnet = payload.partition(" ")
        if revision.isdecimal() and len(revision) < 19:
            self._heard(TailnetName(tailnet), Revision(int(revision)))
