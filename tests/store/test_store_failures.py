"""Failed attempts, as several replicas count them in one database."""

from __future__ import annotations

import asyncio

from sqlalchemy import select

from mergescale.store.failures import SqlFailures
from mergescale.store.tables import FAILURES
from support.aio import aio
from support.stores import opened


@aio
async def test_every_failure_counts_once(database_url: str) -> None:
    """However many replicas count at the same moment, the bucket gets each of them."""
    async with opened(database_url) as one, opened(database_url) as other:
        counted = [SqlFailures(one.database), SqlFailures(other.database)]
        answers = await asyncio.gather(
            *(counted[number % 2].add("guess/ana", 10.0, 1000.0) for number in range(8))
        )
        assert sorted(answers) == [1000.0 + 10.0 * number for number in range(1, 9)]
        assert await counted[0].add("guess/bob", 5.0, 1001.0) == 1006.0


@aio
async def test_what_is_forgiven_begins_anew_and_is_not_kept(database_url: str) -> None:
    """The table holds who has something to be forgiven, and nobody else."""
    async with opened(database_url) as store:
        failures = SqlFailures(store.database)
        await failures.add("guess/ana", 10.0, 1000.0)
        await failures.add("guess/bob", 10.0, 1005.0)
        assert await failures.add("guess/ana", 10.0, 1011.0) == 1021.0
        await failures.add("guess/eve", 10.0, 1016.0)
        async with store.database.reading() as connection:
            rows = (await connection.execute(select(FAILURES).order_by(FAILURES.c.key))).all()
    assert [tuple(row) for row in rows] == [("guess/ana", 1021.0), ("guess/eve", 1026.0)]
