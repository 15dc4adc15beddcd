"""The server's own keys: made once in the life of a database, never twice, and sealed."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import insert, select, update

from mergescale.identity.masterkey import KEY_BYTES, MasterKey
from mergescale.store.database import Database
from mergescale.store.server_secrets import (
    MasterKeyWrong,
    SecretDamaged,
    ServerSecrets,
    sealed_under,
)
from mergescale.store.tables import SERVER_SECRETS
from support.aio import aio
from support.clock import START, FakeClock, FakeEntropy
from support.stores import opened

KEY = MasterKey(FakeEntropy("master").bytes(KEY_BYTES))
OTHER = MasterKey(FakeEntropy("another").bytes(KEY_BYTES))
#: A secret of an earlier version, long enough to be found in a file.
PLAIN = b"a secret that stands here as it is".ljust(64, b"!")


async def unlocked(database: Database, key: MasterKey = KEY, seed: str = "") -> ServerSecrets:
    """Open the secrets as a server does."""
    return await ServerSecrets.open(database, key, FakeClock(), FakeEntropy(f"nonces {seed}"))


def never() -> bytes:
    """Fail the test: a secret that exists must not be made again."""
    raise AssertionError("a second secret was made")


def always(value: bytes) -> Callable[[], bytes]:
    """Return a maker of this value."""
    return lambda: value


async def stored_plainly(database: Database, name: str, value: bytes = PLAIN) -> None:
    """Store a secret as versions without a master key did."""
    digest = hashlib.sha256(value).digest()
    async with database.writing() as connection:
        row = {"name": name, "value": value, "digest": digest, "created": START}
        await connection.execute(insert(SERVER_SECRETS), row)


@aio
async def test_a_secret_is_made_once_and_survives_a_restart(database_url: str) -> None:
    """The second start reads what the first one made; names are apart."""
    async with opened(database_url) as store:
        secrets = await unlocked(store.database)
        made = await secrets.get_or_create("noise", always(b"\x00one"))
        other = await secrets.get_or_create("relay", always(b"two"))
    async with opened(database_url) as store:
        again = await (await unlocked(store.database)).get_or_create("noise", never)
    assert (made, other, again) == (b"\x00one", b"two", b"\x00one")


@aio
async def test_nothing_in_the_database_is_a_secret_itself(database_url: str) -> None:
    """Every row is sealed, and names the key."""
    async with opened(database_url) as store:
        await (await unlocked(store.database)).get_or_create("noise", always(PLAIN))
        async with store.database.reading() as connection:
            rows = (await connection.execute(select(SERVER_SECRETS))).all()
    assert {row.name for row in rows} == {"master-key", "noise"}
    assert {row.sealed_by for row in rows} == {KEY.fingerprint}
    assert not any(PLAIN in row.value or KEY.raw in row.value for row in rows)


@aio
async def test_replicas_that_start_together_share_one_secret(database_url: str) -> None:
    """Each may have made one, and all use the same."""

    async def start(database: Database, number: int) -> bytes:
        secrets = await unlocked(database, seed=str(number))
        return await secrets.get_or_create("noise", always(b"%d" % number))

    async with opened(database_url) as one, opened(database_url) as two:
        secrets = await asyncio.gather(
            *(start(store.database, number) for number, store in enumerate((one, two) * 4))
        )
    assert len(set(secrets)) == 1


@aio
async def test_replicas_that_bring_different_keys_do_not_both_start(database_url: str) -> None:
    """The first one's key is the server's; the others are told, and changed nothing."""
    keys = [KEY, OTHER, KEY, OTHER]
    async with opened(database_url) as one, opened(database_url) as two:
        ended = await asyncio.gather(
            *(unlocked(store.database, key) for store, key in zip((one, two) * 2, keys)),  # noqa: B905
            return_exceptions=True,
        )
        holder = await sealed_under(one.database)
    started = {s.key.fingerprint for s in ended if isinstance(s, ServerSecrets)}
    assert started == {holder}
    assert [isinstance(end, MasterKeyWrong) for end in ended] == [
        key.fingerprint != holder for key in keys
    ]


@aio
async def test_another_master_key_opens_nothing_and_changes_nothing(database_url: str) -> None:
    """It is refused by name before anything is read, and the right one still works."""
    async with opened(database_url) as store:
        await (await unlocked(store.database)).get_or_create("noise", always(b"secret"))
        with pytest.raises(MasterKeyWrong) as refused:
            await unlocked(store.database, OTHER)
        again = await (await unlocked(store.database)).get_or_create("noise", never)
    assert (refused.value.sealed_by, again) == (KEY.fingerprint, b"secret")
    assert OTHER.fingerprint in refused.value.message


@pytest.mark.parametrize("damage", [b"", b"secreT", b"secre"])
@aio
async def test_a_damaged_secret_stops_the_start(database_url: str, damage: bytes) -> None:
    """It is neither used nor replaced, and the error does not show it."""
    async with opened(database_url) as store:
        secrets = await unlocked(store.database)
        await secrets.get_or_create("noise", always(b"secret"))
        async with store.database.writing() as connection:
            await connection.execute(update(SERVER_SECRETS).values(value=damage))
        for _ in range(2):
            with pytest.raises(SecretDamaged) as stopped:
                await secrets.get_or_create("noise", never)
        assert stopped.value.message == "the server secret 'noise' in the database is damaged"


@aio
async def test_a_secret_under_another_name_does_not_open(database_url: str) -> None:
    """Whoever can write rows cannot make the relay's key the server's."""
    async with opened(database_url) as store:
        secrets = await unlocked(store.database)
        for name in ("noise", "derp"):
            await secrets.get_or_create(name, always(name.encode()))
        async with store.database.writing() as connection:
            derp = select(SERVER_SECRETS).where(SERVER_SECRETS.c.name == "derp")
            row = (await connection.execute(derp)).one()
            moved = update(SERVER_SECRETS).where(SERVER_SECRETS.c.name == "noise")
            await connection.execute(moved.values(value=row.value, digest=row.digest))
        with pytest.raises(SecretDamaged):
            await secrets.get_or_create("noise", never)


@aio
async def test_plain_secrets_of_an_earlier_version_are_sealed_once(database_url: str) -> None:
    """They keep their values and the time they were made."""
    async with opened(database_url) as store:
        await stored_plainly(store.database, "noise")
        await stored_plainly(store.database, "derp", b"d" * 32)
        assert await sealed_under(store.database) is None
        for _ in range(2):
            secrets = await unlocked(store.database)
            assert await secrets.get_or_create("noise", never) == PLAIN
            assert await secrets.get_or_create("derp", never) == b"d" * 32
        async with store.database.reading() as connection:
            noise = select(SERVER_SECRETS).where(SERVER_SECRETS.c.name == "noise")
            row = (await connection.execute(noise)).one()
    assert (row.sealed_by, row.created) == (KEY.fingerprint, START)
    assert PLAIN not in row.value


@aio
async def test_a_damaged_plain_secret_is_not_sealed(database_url: str) -> None:
    """Sealing is all or nothing: the other secret stays as it was, and no key is named."""
    async with opened(database_url) as store:
        await stored_plainly(store.database, "derp")
        await stored_plainly(store.database, "noise")
        async with store.database.writing() as connection:
            bad = update(SERVER_SECRETS).where(SERVER_SECRETS.c.name == "noise")
            await connection.execute(bad.values(value=b"x"))
        with pytest.raises(SecretDamaged):
            await unlocked(store.database)
        assert await sealed_under(store.database) is None


@aio
async def test_sealing_leaves_no_plain_copy_in_the_files(sqlite_url: str) -> None:
    """Neither the database nor its write-ahead log holds the old value any more."""
    folder = Path(sqlite_url.removeprefix("sqlite+aiosqlite:///")).parent

    def held() -> list[str]:
        return [path.name for path in folder.iterdir() if PLAIN in path.read_bytes()]

    async with opened(sqlite_url) as store:
        await stored_plainly(store.database, "noise")
        assert held() != []
        await unlocked(store.database)
        assert held() == []
