"""Secrets for the outside: returned for what they were given for, or for nothing at all."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from sqlalchemy import make_url, select, update

from mergescale.gitops.vault import Held, HeldDamaged, Vault
from mergescale.identity.masterkey import KEY_BYTES, MasterKey
from mergescale.kernel.ids import TailnetName
from mergescale.state.ports import StoreUnavailable
from mergescale.store import backup
from mergescale.store.archive import Archive
from mergescale.store.schema import unmigrate
from mergescale.store.tables import VAULT
from mergescale.store.vault import SqlVault
from support.aio import aio
from support.clock import START, FakeClock, FakeEntropy
from support.stores import HOME, OpenStore, loaded, opened
from support.vault import MemoryVault

KEY = MasterKey(FakeEntropy("master").bytes(KEY_BYTES))
OTHER = MasterKey(FakeEntropy("another").bytes(KEY_BYTES))
AWAY = TailnetName("away")
URL, ELSEWHERE = "https://git.example.com/policy", "https://evil.example.com/policy"
#: Long enough to be found in a file.
SECRET = b"canary-of-the-vault".ljust(64, b"!")


def vault_of(
    store: OpenStore, tailnet: TailnetName = HOME, key: MasterKey = KEY, seed: str = ""
) -> SqlVault:
    """Return a tailnet's vault as a replica has it."""
    return SqlVault(store.database, tailnet, key, FakeClock(), FakeEntropy(f"nonces {seed}"))


@contextlib.asynccontextmanager
async def filled(url: str) -> AsyncIterator[tuple[OpenStore, SqlVault]]:
    """Open a database with two tailnets, one of which holds a secret."""
    async with opened(url) as store:
        for tailnet in (HOME, AWAY):
            await loaded(store.journal, tailnet)
        vault = vault_of(store)
        await vault.put("repository", URL, SECRET)
        yield store, vault


async def tell_the_story(vault: Vault) -> list[object]:
    """Do everything that a vault can do; return what it said."""
    said: list[object] = [await vault.find("repository", URL), await vault.drop("repository")]
    await vault.put("repository", URL, b"one")
    await vault.put("repository", URL, b"two")
    await vault.put("webhook", "", b"three")
    said += [await vault.find("repository", URL), await vault.find("webhook", "")]
    said.append({purpose: one.bound_to for purpose, one in (await vault.held()).items()})
    said += [await vault.find("repository", ELSEWHERE), await vault.find("repository", URL)]
    said.append(sorted(await vault.held()))
    said += [await vault.drop("webhook"), await vault.drop("webhook"), dict(await vault.held())]
    return said


@aio
async def test_a_secret_is_kept_for_one_thing_and_replaced_or_dropped(database_url: str) -> None:
    """Who asks for something else gets nothing, and makes the vault forget; the twin does so too."""
    async with opened(database_url) as store:
        await loaded(store.journal)
        said = await tell_the_story(vault_of(store))
    assert said == [
        None,
        False,
        b"two",
        b"three",
        {"repository": URL, "webhook": ""},
        None,
        None,
        ["webhook"],
        True,
        False,
        {},
    ]
    assert await tell_the_story(MemoryVault()) == said


@aio
async def test_what_is_told_of_a_secret_is_not_the_secret(database_url: str) -> None:
    """A fingerprint, the same for the same secret under one master key only, and since when."""
    async with filled(database_url) as (store, vault):
        first = (await vault.held())["repository"]
        await vault.put("repository", URL, SECRET)
        again = (await vault.held())["repository"]
        await vault.put("repository", URL, SECRET + b"?")
        changed = (await vault.held())["repository"]
        await vault_of(store, key=OTHER).put("repository", URL, SECRET)
        elsewhere = (await vault.held())["repository"]
    assert first == again == Held(URL, START, first.fingerprint)
    assert len({first.fingerprint, changed.fingerprint, elsewhere.fingerprint}) == 3
    assert len(first.fingerprint) == 16


@aio
async def test_nothing_in_the_table_is_the_secret(database_url: str) -> None:
    """Every secret is sealed, each time under another nonce."""
    async with filled(database_url) as (store, vault):
        await vault.put("notify", URL, SECRET)
        async with store.database.reading() as connection:
            rows = (await connection.execute(select(VAULT))).all()
    assert [(row.purpose, row.bound_to) for row in rows] == [("repository", URL), ("notify", URL)]
    assert not any(SECRET[:19] in bytes(row.value) for row in rows)
    assert len({bytes(row.value)[:24] for row in rows}) == 2


@pytest.mark.parametrize(
    ("changed", "tailnet", "purpose", "bound_to"),
    [
        ({"bound_to": ELSEWHERE}, HOME, "repository", ELSEWHERE),
        ({"purpose": "notify"}, HOME, "notify", URL),
        ({"tailnet": AWAY}, AWAY, "repository", URL),
        ({"value": b"cut"}, HOME, "repository", URL),
    ],
    ids=["bound to another", "of another purpose", "of another tailnet", "changed"],
)
@aio
async def test_a_row_that_was_moved_does_not_open(
    database_url: str,
    changed: dict[str, object],
    tailnet: TailnetName,
    purpose: str,
    bound_to: str,
) -> None:
    """Who can write the database cannot have a secret sent to where it was not meant for."""
    async with filled(database_url) as (store, _):
        async with store.database.writing() as connection:
            await connection.execute(update(VAULT).values(changed))
        with pytest.raises(HeldDamaged) as damaged:
            await vault_of(store, tailnet).find(purpose, bound_to)
        assert damaged.value.message == f"the stored secret for the purpose '{purpose}' is damaged"
        await vault_of(store, tailnet).put(purpose, bound_to, b"again")
        assert await vault_of(store, tailnet).find(purpose, bound_to) == b"again"


@aio
async def test_another_master_key_opens_nothing(database_url: str) -> None:
    """What it cannot open can still be seen to be there, and dropped."""
    async with filled(database_url) as (store, _):
        vault = vault_of(store, key=OTHER)
        with pytest.raises(HeldDamaged):
            await vault.find("repository", URL)
        assert set(await vault.held()) == {"repository"}
        assert await vault.drop("repository")


@aio
async def test_tailnets_do_not_see_each_others_secrets(database_url: str) -> None:
    """Not to read, not to drop, not by asking for something else."""
    async with filled(database_url) as (store, vault):
        other = vault_of(store, AWAY)
        assert (await other.find("repository", URL), dict(await other.held())) == (None, {})
        assert not await other.drop("repository")
        assert await other.find("repository", ELSEWHERE) is None
        assert await vault.find("repository", URL) == SECRET


@aio
async def test_replicas_that_put_at_once_leave_one_whole_secret(database_url: str) -> None:
    """One of them stands, and opens."""
    async with opened(database_url) as one, opened(database_url) as two:
        await loaded(one.journal)
        vaults = [vault_of(store, seed=str(n)) for n, store in enumerate((one, two) * 4)]
        # With connections at hand they come at once.
        await asyncio.gather(*(vault.drop("repository") for vault in vaults))
        await asyncio.gather(
            *(vault.put("repository", URL, b"%d" % n) for n, vault in enumerate(vaults))
        )
        found = {await vault.find("repository", URL) for vault in vaults}
    assert len(found) == 1
    assert found < {b"%d" % n for n in range(8)}


@aio
async def test_who_forgets_an_old_secret_spares_the_one_put_meanwhile(database_url: str) -> None:
    """A replica with yesterday's configuration drops what it read, not what it did not."""
    async with filled(database_url) as (store, vault):
        database, other = store.database, vault_of(store, seed="new")

        class Late:
            """A database whose next write comes after somebody else's."""

            reading = database.reading

            @contextlib.asynccontextmanager
            async def writing(self) -> AsyncIterator[object]:
                await other.put("repository", "ssh://new.example.com/policy", b"new")
                async with database.writing() as connection:
                    yield connection

        late = SqlVault(Late(), HOME, KEY, FakeClock(), FakeEntropy("late"))  # type: ignore[arg-type]
        assert await late.find("repository", ELSEWHERE) is None
        assert await vault.find("repository", "ssh://new.example.com/policy") == b"new"


@aio
async def test_a_database_that_does_not_answer_is_said_so(sqlite_url: str) -> None:
    """Nothing is taken for not being there."""
    async with filled(sqlite_url) as (_, vault):
        with contextlib.closing(sqlite3.connect(make_url(sqlite_url).database or "")) as raw:
            raw.execute("DROP TABLE vault")
        with pytest.raises(StoreUnavailable):
            await vault.find("repository", URL)


NONSENSE = [None, "", "nonsense", b"\xff\xfe\x00", -1, 1e308, "\ufdd0\x00"]


@pytest.mark.parametrize("column", [column.name for column in VAULT.columns])
@aio
async def test_nonsense_in_a_row_costs_that_secret_only(sqlite_url: str, column: str) -> None:
    """Whatever stands in whichever column, others are found, and this one can be given again."""
    async with filled(sqlite_url) as (_, vault):
        await vault.put("notify", URL, b"healthy")
        path = make_url(sqlite_url).database or ""
        for nonsense in NONSENSE:
            with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as raw:
                raw.execute("PRAGMA foreign_keys = OFF")
                change = f"UPDATE OR IGNORE vault SET {column} = ? WHERE purpose = 'repository'"  # noqa: S608
                with contextlib.suppress(sqlite3.IntegrityError):
                    raw.execute(change, (nonsense,))
            assert "notify" in await vault.held()
            assert await vault.find("notify", URL) == b"healthy"
            with contextlib.suppress(HeldDamaged):
                assert await vault.find("repository", URL) in {None, SECRET}
            await vault.put("repository", URL, SECRET)
            assert await vault.find("repository", URL) == SECRET


@aio
async def test_a_backup_carries_secrets_sealed(
    database_url: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    """Restored into the other kind of database they open under the same master key only."""
    other = f"sqlite+aiosqlite:///{tmp_path / 'other.db'}"
    if database_url.startswith("sqlite"):
        other = request.getfixturevalue("postgresql_url")
        await asyncio.to_thread(unmigrate, other)
    async with filled(database_url):
        with (tmp_path / "archive").open("wb") as file:
            await asyncio.to_thread(backup.export, database_url, file, made=START, server="test")
    archive = Archive.open(tmp_path / "archive")
    assert SECRET[:19] not in b"".join(repr(item).encode() for item in archive.contents())
    await asyncio.to_thread(backup.restore, other, archive, force=True)
    async with opened(other) as store:
        assert await vault_of(store).find("repository", URL) == SECRET
