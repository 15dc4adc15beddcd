"""What a delivery sets off, and which secrets are good."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest

from mergescale.gitops.webhooks import MAX_SECRETS, Webhook, address
from mergescale.kernel.errors import Conflict, NotFound
from mergescale.kernel.ids import TailnetName
from mergescale.state.ports import StoreUnavailable
from support.aio import aio, turns, until
from support.clock import START, FakeClock, FakeEntropy
from support.deliveries import FORGES, PUSH, SECRET, github, low
from support.vault import MemoryVault


class Looks:
    """Looks that end when the test says so."""

    def __init__(self) -> None:
        self.begun = 0
        self.away = False
        self._end = asyncio.Semaphore(0)

    async def hinted(self) -> None:
        self.begun += 1
        if self.away:
            raise StoreUnavailable("gone")
        await self._end.acquire()

    def end(self) -> None:
        self._end.release()


class World:
    """A webhook with everything it needs."""

    def __init__(self) -> None:
        self.vault, self.looks, self.clock = MemoryVault(), Looks(), FakeClock()
        url = "https://control.example.com/hook/x"
        self.webhook = Webhook(url, self.vault, self.looks, self.clock, FakeEntropy())
        self.webhook.spacing_s = 0.0

    async def push(self, secret: str, number: str) -> str:
        body = f'{{"number": "{number}"}}'.encode()
        return await self.webhook.receive(low(github(secret, body, number)), body)


@contextlib.asynccontextmanager
async def running() -> AsyncIterator[World]:
    world = World()
    task = asyncio.create_task(world.webhook.run())
    try:
        yield world
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@aio
async def test_a_storm_is_the_look_under_way_and_one_after_it() -> None:
    """However many deliveries come while one looks, one more look sees what they are about."""
    async with running() as world:
        secret = (await world.webhook.add(by="ana")).secret
        assert await world.push(secret, "first") == "accepted"
        await until(lambda: world.looks.begun == 1)
        outcomes = [await world.push(secret, f"{number}") for number in range(1000)]
        assert outcomes == ["accepted"] * 1000
        await turns(50)
        assert world.looks.begun == 1
        world.looks.end()
        await until(lambda: world.looks.begun == 2)
        world.looks.end()
        await turns(50)
        assert world.looks.begun == 2
        assert world.webhook.counts == {"accepted": 1001}


@aio
async def test_what_is_no_push_sets_nothing_off() -> None:
    """A repetition, a ping, a wrong secret; what was good is remembered with its time."""
    async with running() as world:
        assert await world.push(SECRET, "1") == "refused"
        assert world.webhook.shown() == {"lastReceived": None}
        secret = (await world.webhook.add(by="ana")).secret
        ping = low(github(secret, PUSH, "2", event="ping"))
        assert await world.webhook.receive(ping, PUSH) == "ping"
        assert await world.webhook.receive(ping, PUSH) == "repeated"
        assert await world.push(SECRET, "3") == "refused"
        await turns(50)
        assert world.looks.begun == 0
        assert world.webhook.counts == {"refused": 2, "ping": 1, "repeated": 1}
        assert world.webhook.shown() == {"lastReceived": "2026-01-01T00:00:00Z"}


@aio
async def test_a_look_that_fails_is_not_the_last() -> None:
    """The database was away for one; the next delivery has another."""
    async with running() as world:
        secret, world.looks.away = (await world.webhook.add(by="ana")).secret, True
        await world.push(secret, "1")
        await until(lambda: world.looks.begun == 1)
        await world.push(secret, "2")
        await until(lambda: world.looks.begun == 2)


@aio
async def test_every_forge_can_use_a_secret_that_was_made_here() -> None:
    """One text, whichever way it is signed with."""
    async with running() as world:
        secret = (await world.webhook.add(by="ana")).secret
        for forge, sign in FORGES.items():
            body = f'"{forge}"'.encode()
            headers = low(sign(secret, body, forge, int(START.timestamp())))
            assert await world.webhook.receive(headers, body) == "accepted", forge


@aio
async def test_old_and_new_secret_are_good_until_the_old_one_is_dropped() -> None:
    """So a secret is exchanged without missing a push; at once at the replica that is told."""
    world = World()
    old = await world.webhook.add(by="ana")
    assert await world.push(old.secret, "1") == "accepted"
    new = await world.webhook.add(by="ana")
    assert new.secret != old.secret
    assert await world.push(old.secret, "2") == "accepted"
    assert await world.push(new.secret, "3") == "accepted"
    await world.webhook.drop(old.id, by="ana")
    assert await world.push(old.secret, "4") == "refused"
    assert await world.push(new.secret, "5") == "accepted"
    with pytest.raises(NotFound, match="no such secret"):
        await world.webhook.drop(old.id, by="ana")
    with pytest.raises(NotFound, match="no such secret"):
        await world.webhook.drop("../repository", by="ana")


@aio
async def test_what_is_told_of_secrets_is_not_the_secrets() -> None:
    """Their ids, when they were made, a fingerprint; secrets for other purposes are not there."""
    world = World()
    await world.vault.put("repository", "x", b"hunter2")
    made = [await world.webhook.add(by="ana") for _ in range(MAX_SECRETS)]
    with pytest.raises(Conflict, match="there are 5 secrets already"):
        await world.webhook.add(by="ana")
    told = await world.webhook.told()
    assert {one["id"] for one in told} == {one.id for one in made}
    assert {tuple(one) for one in told} == {("id", "created", "fingerprint")}
    assert not any(one.secret in str(told) for one in made)


@aio
async def test_a_storm_is_no_load_of_the_database() -> None:
    """What was read of the secrets is believed for some seconds, and while it is away."""
    world = World()
    secret = (await world.webhook.add(by="ana")).secret
    for number in range(100):
        await world.push(secret, f"{number}")
    assert len(world.vault.asked) == 1
    # Another replica drops it: known here when it is read again.
    await world.vault.drop(next(iter(world.vault.kept)))
    assert await world.push(secret, "soon") == "accepted"
    world.clock.advance(timedelta(seconds=6))
    world.vault.away = True
    assert await world.push(secret, "away") == "accepted"
    world.vault.away = False
    assert await world.push(secret, "later") == "refused"
    fresh = World()
    fresh.vault.away = True
    with pytest.raises(StoreUnavailable):
        await fresh.push(secret, "1")


@aio
async def test_a_long_body_is_proved_as_well() -> None:
    """On a thread, so that a storm of them does not hold up who else is served."""
    world = World()
    secret = (await world.webhook.add(by="ana")).secret
    body = b"x" * (1 << 20)
    assert await world.webhook.receive(low(github(secret, body, "1")), body) == "accepted"
    assert await world.webhook.receive(low(github(SECRET, body, "2")), body) == "refused"


def test_the_address_tells_nothing_and_stays() -> None:
    """Not the tailnet's name, and another for another name or server."""
    one = address(b"k" * 32, TailnetName("default"))
    assert one == address(b"k" * 32, TailnetName("default"))
    assert (
        len({one, address(b"k" * 32, TailnetName("x")), address(b"l" * 32, TailnetName("default"))})
        == 3
    )
    assert len(one) == 32
