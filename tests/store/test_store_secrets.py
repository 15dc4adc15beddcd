"""The server's own keys: made once in the life of a database, never twice."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
from sqlalchemy import update

from mergescale.store.server_secrets import SecretDamaged, get_or_create_secret
from mergescale.store.tables import SERVER_SECRETS
from support.aio import aio
from support.clock import START
from support.stores import opened


def never() -> bytes:
    """Fail the test: a secret that exists must not be made again."""
    raise AssertionError("a second secret was made")


def always(value: bytes) -> Callable[[], bytes]:
    """Return a maker of this value."""
    return lambda: value


@aio
async def test_a_secret_is_made_once_and_survives_a_restart(database_url: str) -> None:
    """The second start reads what the first one made; names are apart."""
    async with opened(database_url) as store:
        made = await get_or_create_secret(store.database, "noise", always(b"\x00one"), START)
        other = await get_or_create_secret(store.database, "relay", always(b"two"), START)
    async with opened(database_url) as store:
        again = await get_or_create_secret(store.database, "noise", never, START)
    assert (made, other, again) == (b"\x00one", b"two", b"\x00one")


@aio
async def test_replicas_that_start_together_share_one_secret(database_url: str) -> None:
    """Each may have made one, and all use the same."""
    async with opened(database_url) as one, opened(database_url) as two:
        secrets = await asyncio.gather(
            *(
                get_or_create_secret(store.database, "noise", always(b"%d" % number), START)
                for number, store in enumerate((one, two) * 4)
            )
        )
    assert len(set(secrets)) == 1


@pytest.mark.parametrize("damage", [b"", b"secreT", b"secre"])
@aio
async def test_a_damaged_secret_stops_the_start(database_url: str, damage: bytes) -> None:
    """It is neither used nor replaced, and the error does not show it."""
    async with opened(database_url) as store:
        await get_or_create_secret(store.database, "noise", always(b"secret"), START)
        async with store.database.writing() as connection:
            await connection.execute(update(SERVER_SECRETS).values(value=damage))
        for _ in range(2):
            with pytest.raises(SecretDamaged) as stopped:
                await get_or_create_secret(store.database, "noise", never, START)
        assert stopped.value.message == "the server secret 'noise' in the database is damaged"
