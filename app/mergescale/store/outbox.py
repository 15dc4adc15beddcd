"""The table ``outbox``: a row for each thing outside, with the state that is wanted of it.

INVARIANT(monotonic): a row's sequence only grows, and a state that is not final never replaces one
that is. Both are conditions of the very statement that writes, so they hold between replicas too.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

from sqlalchemy import ColumnElement, Row, Select, and_, delete, func, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection

from mergescale.domain.letter import Letter
from mergescale.kernel.ids import TailnetName
from mergescale.state.ports import Fence
from mergescale.store.database import Database
from mergescale.store.leases import check_fences
from mergescale.store.reading import about_values
from mergescale.store.shape import check_types
from mergescale.store.tables import OUTBOX

_KEY: Final = (OUTBOX.c.tailnet, OUTBOX.c.channel, OUTBOX.c.key)
#: LIMIT: letters that are read at once; deliveries are one after another all the same.
BATCH: Final = 50
#: LIMIT: states of a channel that are listed.
MOST: Final = 200


class SqlLetters:
    """`gitops.outbox.Letters` on a database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def put(self, tailnet: TailnetName, letter: Letter, fence: Fence | None) -> bool:
        """Want this state from now on; return whether that is news.

        Args:
            tailnet: whose it is.
            letter: its sequence and attempts do not matter.
            fence: what it rests on, None for nothing.

        Raises:
            LeaseLost: the fence is another replica's by now; nothing was written.
            StoreUnavailable: it was not written.
        """
        made = postgresql.insert if self._database.shared else sqlite.insert
        wanted = {
            "tailnet": tailnet,
            "channel": letter.channel,
            "key": letter.key,
            "sequence": 1,
            "body": letter.body,
            "final": letter.final,
            "delivered": int(letter.quiet),
            "attempts": 0,
            "said": letter.due,
            "due": letter.due,
            "trouble": "",
        }
        start = made(OUTBOX).values(wanted)
        news = start.excluded
        upsert = start.on_conflict_do_update(
            index_elements=_KEY,
            set_={
                "sequence": OUTBOX.c.sequence + 1,
                "body": news.body,
                "final": news.final,
                "attempts": 0,
                "said": news.said,
                "due": news.due,
                "trouble": "",
            },
            where=and_(OUTBOX.c.body != news.body, news.final | ~OUTBOX.c.final),
        ).returning(OUTBOX.c.sequence)
        async with self._database.writing() as connection:
            if fence is not None:
                await check_fences(connection, [fence])
            return (await connection.execute(upsert)).one_or_none() is not None

    async def due(self, tailnet: TailnetName, channel: str, now: datetime) -> list[Letter]:
        """Return what is to be delivered now, the longest due first; at most `BATCH`.

        A row that is no letter is left out: it costs itself only.

        Raises:
            StoreUnavailable: the database could not be read.
        """
        query = (
            select(OUTBOX)
            .where(_waits(tailnet, channel), OUTBOX.c.due <= now)
            .order_by(OUTBOX.c.due, OUTBOX.c.key)
            .limit(BATCH)
        )
        async with self._database.reading() as connection:
            return [letter for row in await _rows(connection, query) if (letter := _letter(row))]

    async def next_due(self, tailnet: TailnetName, channel: str, now: datetime) -> datetime | None:
        """Return when the next of those that are not due yet is, None if there is none.

        Raises:
            StoreUnavailable: the database could not be read.
        """
        query = (
            select(OUTBOX)
            .where(_waits(tailnet, channel), OUTBOX.c.due > now)
            .order_by(OUTBOX.c.due)
            .limit(BATCH)
        )
        async with self._database.reading() as connection:
            found = [_letter(row) for row in await _rows(connection, query)]
        return next((letter.due for letter in found if letter is not None), None)

    async def wanted(self, tailnet: TailnetName, channel: str, key: str) -> Letter | None:
        """Return the newest state of a key, None if nothing was ever said of it.

        Raises:
            StoreUnavailable: the database could not be read.
        """
        found = await self.states(tailnet, channel, key)
        return found[0] if found else None

    async def states(
        self, tailnet: TailnetName, channel: str, key: str | None = None, *, under: str = ""
    ) -> list[Letter]:
        """Return the newest state of each key of a channel, delivered or not; at most `MOST`.

        Args:
            tailnet: whose.
            channel: which one.
            key: this one only.
            under: what keys begin with.

        Raises:
            StoreUnavailable: the database could not be read.
        """
        query = select(OUTBOX).where(OUTBOX.c.tailnet == tailnet, OUTBOX.c.channel == channel)
        if key is not None:
            query = query.where(OUTBOX.c.key == key)
        if under:
            query = query.where(OUTBOX.c.key.startswith(under, autoescape=True))
        async with self._database.reading() as connection:
            rows = await _rows(connection, query.order_by(OUTBOX.c.said.desc()).limit(MOST))
        return [letter for row in rows if (letter := _letter(row)) is not None]

    async def delivered(self, tailnet: TailnetName, letter: Letter, trouble: str = "") -> None:
        """Note that this state was delivered, or with `trouble` that it never will be.

        Raises:
            StoreUnavailable: it was not noted.
        """
        query = update(OUTBOX).where(_is(tailnet, letter), OUTBOX.c.delivered < letter.sequence)
        async with self._database.writing() as connection:
            await connection.execute(query.values(delivered=letter.sequence, trouble=trouble[:500]))

    async def failed(
        self, tailnet: TailnetName, letter: Letter, due: datetime, trouble: str
    ) -> None:
        """Note that a delivery failed; nothing happens if another state is wanted by now.

        Raises:
            StoreUnavailable: it was not noted.
        """
        query = update(OUTBOX).where(_is(tailnet, letter), OUTBOX.c.sequence == letter.sequence)
        async with self._database.writing() as connection:
            await connection.execute(
                query.values(attempts=OUTBOX.c.attempts + 1, due=due, trouble=trouble[:500])
            )

    async def prune(self, tailnet: TailnetName, before: datetime) -> int:
        """Forget what was wanted before that and never changed since; return how many.

        Raises:
            StoreUnavailable: nothing was removed.
        """
        query = delete(OUTBOX).where(OUTBOX.c.tailnet == tailnet, OUTBOX.c.said < before)
        async with self._database.writing() as connection:
            return (await connection.execute(query)).rowcount

    async def backlog(self, tailnet: TailnetName, channel: str) -> tuple[int, str]:
        """Return how many letters of a channel wait, and why one of them had to last; empty if none.

        Raises:
            StoreUnavailable: the database could not be read.
        """
        waits = _waits(tailnet, channel)
        newest = select(OUTBOX.c.trouble).where(waits, OUTBOX.c.trouble != "")
        async with self._database.reading() as connection:
            count = await connection.scalar(select(func.count()).where(waits))
            why = await connection.scalar(newest.order_by(OUTBOX.c.due.desc()).limit(1))
        return int(count or 0), str(why or "")


def _waits(tailnet: TailnetName, channel: str) -> ColumnElement[bool]:
    return and_(
        OUTBOX.c.tailnet == tailnet,
        OUTBOX.c.channel == channel,
        OUTBOX.c.delivered < OUTBOX.c.sequence,
    )


def _is(tailnet: TailnetName, letter: Letter) -> ColumnElement[bool]:
    return and_(
        OUTBOX.c.tailnet == tailnet,
        OUTBOX.c.channel == letter.channel,
        OUTBOX.c.key == letter.key,
    )


async def _rows(connection: AsyncConnection, query: Select[Any]) -> list[Row[Any]]:
    """Return the rows of an ordered query; one that cannot be handed out costs only itself."""
    try:
        return list((await connection.execute(query)).all())
    except Exception as error:
        if not about_values(error):
            raise
    found: list[Row[Any]] = []
    for place in range(MOST):
        try:
            found += (await connection.execute(query.limit(1).offset(place))).all()
        except Exception as error:
            if not about_values(error):
                raise
    return found


def _letter(row: Row[Any]) -> Letter | None:
    try:
        check_types(OUTBOX, row)
    except ValueError:
        return None
    return Letter(row.channel, row.key, row.sequence, row.body, row.final, row.attempts, row.due)
