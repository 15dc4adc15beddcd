"""What another replica made a moment ago is known before a device is refused for it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from mergescale.identity.secrets import MINT_BYTES, Kind, mint
from mergescale.kernel.ids import AuthKeyId
from mergescale.state import authkeys
from mergescale.state.engine import Engine
from mergescale.state.follower import Follower
from mergescale.state.ports import StoreUnavailable
from mergescale.state.registration import Answer, Registered, register
from support.aio import aio
from support.clock import FakeClock
from support.control_world import ALICE, Control, Device, controlled
from support.journal import MemoryFeed
from support.machines import Machine, shown

pytestmark = pytest.mark.enable_socket


@asynccontextmanager
async def elsewhere(control: Control) -> AsyncIterator[Engine]:
    """Run another replica; control hears nothing of what it does, but looks when it must."""
    other = Engine(control.snapshot, control.journal, MemoryFeed(), FakeClock())
    running = asyncio.create_task(other.run())
    control.tailnets.catch_up = Follower(control.tailnets, control.journal).look
    yield other
    other.stop()
    await running


async def join(engine: Engine, device: Device) -> None:
    """Register the device at a replica."""
    wanted = authkeys.Wanted(user=ALICE)
    await engine.apply(authkeys.create(AuthKeyId("k"), shown("k").secret_hash, wanted))
    request = replace(
        Machine(device.name).asks(auth="k"),
        machine_key=device.machine,
        node_key=device.node_key(),
    )
    answer: Answer = await engine.apply(register(request))
    assert isinstance(answer, Registered)


@aio
async def test_a_key_made_elsewhere_lets_in() -> None:
    """The first time it is shown; nobody has to try again."""
    async with controlled() as control, elsewhere(control) as other:
        minted = mint(Kind.AUTH, b"k" * MINT_BYTES)
        wanted = authkeys.Wanted(user=ALICE)
        await other.apply(authkeys.create(AuthKeyId(minted.id), minted.secret_hash, wanted))
        async with control.device("laptop") as laptop:
            assert (await laptop.register(auth=minted.text))["Error"] == ""
        assert control.snapshot.names.keys() == {"laptop"}


@aio
async def test_a_device_that_joined_elsewhere_is_known() -> None:
    """It gets its map, or is told that it is registered, although it never came here before."""
    async with (
        controlled() as control,
        elsewhere(control) as other,
        control.device("laptop") as laptop,
    ):
        await join(other, laptop)
        assert not control.snapshot.nodes
        async with laptop.polling() as stream:
            assert (await stream.next())["Node"]["Name"].startswith("laptop.")
    async with (
        controlled() as control,
        elsewhere(control) as other,
        control.device("phone") as phone,
    ):
        await join(other, phone)
        assert (await phone.register())["MachineAuthorized"] is True


@aio
async def test_while_the_others_cannot_be_asked_nobody_is_refused() -> None:
    """A device that may be known to them is told to try again, not that it is unknown."""
    async with controlled() as control, control.device("laptop") as laptop:

        async def away() -> None:
            raise StoreUnavailable("the database is away")

        control.tailnets.catch_up = away
        request = laptop.register_request(auth="mskey-auth-unknown")
        assert (await laptop.post("/machine/register", request)).status == 503
        answer = await laptop.post("/machine/map", laptop.map_request(Stream=True))
        assert answer.status == 503
