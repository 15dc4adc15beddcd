"""Letters on a database of each kind, and beside rows that are none."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from dataclasses import replace
from datetime import timedelta

import pytest
from sqlalchemy import make_url

from mergescale.domain.letter import Letter
from mergescale.kernel.ids import ReplicaId, TailnetName
from mergescale.state.ports import LeaseLost
from mergescale.store.leases import SqlLeases
from mergescale.store.outbox import SqlLetters
from mergescale.store.tables import OUTBOX
from support.aio import aio, run
from support.clock import START, FakeClock
from support.stores import HOME, loaded, opened

LATER = START + timedelta(minutes=1)


def letter(key: str, body: str, *, final: bool = True) -> Letter:
    """Return what is wanted of a key."""
    return Letter("forge", key, 0, body, final, 0, START)


@aio
async def test_a_newer_state_replaces_an_older_one(database_url: str) -> None:
    """There is one row for a key, its number grows with every other state, equal is no news."""
    async with opened(database_url) as store:
        await loaded(store.journal)
        letters = SqlLetters(store.database)
        said = [
            await letters.put(HOME, letter("a", body, final=final), None)
            for body, final in (("1", False), ("1", False), ("2", True), ("1", False), ("2", True))
        ]
        assert said == [True, False, True, False, False]
        assert await letters.due(HOME, "forge", START) == [
            Letter("forge", "a", 2, "2", True, 0, START)
        ]
        assert await letters.put(HOME, letter("a", "3"), None)
        assert [one.sequence for one in await letters.due(HOME, "forge", START)] == [3]
        assert await letters.due(HOME, "mail", START) == []
        assert await letters.due(TailnetName("other"), "forge", START) == []


@aio
async def test_a_quiet_state_is_delivered_only_after_another(database_url: str) -> None:
    """That nothing is wrong is no news as long as nothing was."""
    async with opened(database_url) as store:
        await loaded(store.journal)
        letters = SqlLetters(store.database)
        well, ill = replace(letter("a", "well"), quiet=True), letter("a", "ill")
        await letters.put(HOME, well, None)
        assert await letters.due(HOME, "forge", START) == []
        assert await letters.put(HOME, ill, None)
        (first,) = await letters.due(HOME, "forge", START)
        await letters.delivered(HOME, first)
        assert await letters.put(HOME, well, None)
        assert [one.body for one in await letters.due(HOME, "forge", START)] == ["well"]


@aio
async def test_what_was_delivered_is_due_no_more(database_url: str) -> None:
    """A newer state that came meanwhile is; one that failed is due later, and counts it."""
    async with opened(database_url) as store:
        await loaded(store.journal)
        letters = SqlLetters(store.database)
        await letters.put(HOME, letter("a", "1"), None)
        (first,) = await letters.due(HOME, "forge", START)
        await letters.put(HOME, letter("a", "2"), None)
        await letters.failed(HOME, first, LATER, "an older state's failure says nothing")
        await letters.delivered(HOME, first)
        (second,) = await letters.due(HOME, "forge", START)
        assert second == Letter("forge", "a", 2, "2", True, 0, START)
        assert await letters.next_due(HOME, "forge", START) is None
        await letters.failed(HOME, second, LATER, "away")
        assert await letters.due(HOME, "forge", START) == []
        assert await letters.next_due(HOME, "forge", START) == LATER
        (again,) = await letters.due(HOME, "forge", LATER)
        assert again == Letter("forge", "a", 2, "2", True, 1, LATER)
        assert await letters.backlog(HOME, "forge") == (1, "away")
        assert await letters.backlog(HOME, "mail") == (0, "")
        await letters.delivered(HOME, again)
        await letters.delivered(HOME, first)
        assert await letters.due(HOME, "forge", LATER) == []
        assert await letters.backlog(HOME, "forge") == (0, "")
        assert not await letters.put(HOME, letter("a", "2"), None)


@aio
async def test_letters_are_listed_by_what_their_keys_begin_with(database_url: str) -> None:
    """Literally: a key that holds what databases take for a pattern is no pattern."""
    async with opened(database_url) as store:
        await loaded(store.journal)
        letters = SqlLetters(store.database)
        for key in ("status/a", "status%/b", "comment/7"):
            await letters.put(HOME, letter(key, "1"), None)
        for under, keys in (("status/", ["status/a"]), ("status%", ["status%/b"]), ("x", [])):
            found = await letters.states(HOME, "forge", under=under)
            assert [one.key for one in found] == keys
        assert len(await letters.states(HOME, "forge")) == 3


@aio
async def test_old_letters_are_forgotten(database_url: str) -> None:
    """What nobody changed since then is gone, delivered or not; newer letters stay."""
    async with opened(database_url) as store:
        await loaded(store.journal)
        letters = SqlLetters(store.database)
        await letters.put(HOME, letter("old", "1"), None)
        await letters.put(HOME, Letter("forge", "new", 0, "1", True, 0, LATER), None)
        assert await letters.prune(HOME, LATER) == 1
        assert [one.key for one in await letters.due(HOME, "forge", LATER)] == ["new"]


@aio
async def test_what_rests_on_a_lost_lease_is_not_kept(database_url: str) -> None:
    """A replica that was stopped for too long cannot say anything over what came after it."""
    async with opened(database_url) as store:
        await loaded(store.journal)
        letters, leases = SqlLetters(store.database), SqlLeases(store.database, FakeClock())
        fence = await leases.acquire("duties", ReplicaId("one"), 60)
        assert fence is not None
        await letters.put(HOME, letter("a", "1"), fence)
        await leases.acquire("duties", ReplicaId("one"), 60)
        with pytest.raises(LeaseLost):
            await letters.put(HOME, letter("a", "2"), fence)
        assert [one.body for one in await letters.due(HOME, "forge", START)] == ["1"]


@aio
async def test_of_several_that_speak_at_once_none_is_lost(database_url: str) -> None:
    """Every other state counts once, whoever says it; the final one stands."""
    async with opened(database_url) as one, opened(database_url) as other:
        await loaded(one.journal)
        both = SqlLetters(one.database), SqlLetters(other.database)
        await asyncio.gather(
            *(
                both[number % 2].put(HOME, letter("a", str(number), final=number == 5), None)
                for number in range(8)
            )
        )
        (last,) = await both[0].due(HOME, "forge", START)
    assert (last.body, last.final) == ("5", True)


NONSENSE = (None, "", "[1, {}]", b"\xff\xfe\x00", -1, 2**63 - 1, 1e308, "2026-13-45 99:99:99.0")


@pytest.mark.parametrize("column", [c.name for c in OUTBOX.columns if c.name != "tailnet"])
def test_a_row_that_is_no_letter_costs_itself_only(sqlite_url: str, column: str) -> None:
    """With nonsense in any column of one letter the others are delivered, and more can be said."""
    path = make_url(sqlite_url).database or ""

    async def fill() -> None:
        async with opened(sqlite_url) as store:
            await loaded(store.journal)
            for key in ("bad", "good", "late"):
                await SqlLetters(store.database).put(HOME, letter(key, "{}"), None)

    async def check() -> None:
        async with opened(sqlite_url) as store:
            letters = SqlLetters(store.database)
            found = [one.key for one in await letters.due(HOME, "forge", LATER)]
            assert [key for key in found if key in {"good", "late"}] == ["good", "late"]
            await letters.next_due(HOME, "forge", START)
            await letters.put(HOME, letter("bad", '{"mended": true}'), None)
            await letters.put(HOME, letter("good", '{"more": true}'), None)

    run(fill())
    spoilt = 0
    for expression, values in [("?", (one,)) for one in NONSENSE] + [("CAST(X'ff6e' AS TEXT)", ())]:
        with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as raw:
            raw.execute("SAVEPOINT healthy")
            try:
                raw.execute(f"UPDATE outbox SET {column} = {expression} WHERE key = 'bad'", values)  # noqa: S608
            except (sqlite3.IntegrityError, OverflowError):
                continue  # the database itself does not take it
            raw.execute("RELEASE healthy")
        spoilt += 1
        run(check())
        with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as raw:
            raw.execute("DELETE FROM outbox")
        run(fill())
    assert spoilt >= 3
