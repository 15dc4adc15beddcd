"""Machines that proved a key and have no node: few of them, not for long, and at the cost of their own."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import pytest

from mergescale.control.limits import Limits
from mergescale.kernel.keys import MachineKey, PrivateKey
from mergescale.server import descriptors
from mergescale.server.settings import Settings
from mergescale.wire.noise import public_key
from support.aio import aio, until
from support.bridged import Dripping, echo
from support.control_world import controlled
from support.noise_client import NoiseClient
from support.noise_server import MACHINE, Serving, serving, upgrade_request
from support.worlds import key_bytes

pytestmark = pytest.mark.enable_socket

NODE = public_key(MACHINE)
PROXY = ["127.0.0.1"]


def is_node(machine: MachineKey) -> bool:
    return machine == NODE


Enter = Callable[..., Coroutine[Any, Any, NoiseClient]]


@contextlib.asynccontextmanager
async def guests(at: Serving) -> AsyncIterator[Enter]:
    """Connect machines one after the other: each has proved its key before the next one comes."""
    async with contextlib.AsyncExitStack() as all_of_them:

        async def enter(name: str, host: str = "", *, asks: bool = False) -> NoiseClient:
            machine = MACHINE if name == "node" else PrivateKey(key_bytes(f"machine {name}"))
            client = await all_of_them.enter_async_context(at.client(machine, forwarded_for=host))
            if asks:
                await (await client.open("POST", "/machine/register", b"{}")).started()
            await until(lambda: at.door.pending == 0)
            return client

        yield enter


async def serve(client: NoiseClient) -> None:
    """Do what a connection is for."""
    assert (await client.get("/big/3")).body == b"xxx"


@aio
async def test_strangers_from_one_place_drive_out_each_other() -> None:
    """The longest idle goes; a node behind the same address does not notice."""
    app = Dripping()
    limits = Limits(strangers_per_place=4)
    async with serving(app, limits=limits, knows=is_node) as at, guests(at) as enter:
        node = await enter("node")
        stream = await node.open("POST", "/machine/map", b"{}")
        await stream.started()
        strangers = [await enter(f"stranger {number}") for number in range(20)]
        assert at.door.strangers == 4
        for client in strangers[:16]:
            await client.gone.wait()
        assert not any(client.gone.is_set() for client in strangers[16:])
        app.chunks.put_nowait(b"a delta")
        assert await stream.chunk() == b"a delta"


@aio
async def test_any_number_of_nodes_share_an_address() -> None:
    """Ten connections of machines with a node where two strangers may be."""
    limits = Limits(strangers_per_place=2)
    async with serving(echo, limits=limits, knows=is_node) as at, guests(at) as enter:
        nodes = [await enter("node") for _ in range(10)]
        for number in range(5):
            await enter(f"stranger {number}")
        for client in nodes:
            await serve(client)


@aio
async def test_who_waits_for_a_login_outstays_the_idle() -> None:
    """A stranger with an open request goes last; when all have one, the oldest."""
    limits = Limits(strangers_per_place=2)
    async with serving(Dripping(), limits=limits) as at, guests(at) as enter:
        waiting = await enter("waiting", asks=True)
        idle = await enter("idle")
        newer = await enter("newer", asks=True)
        await idle.gone.wait()
        assert not waiting.gone.is_set()
        newest = await enter("newest", asks=True)
        await waiting.gone.wait()
        assert not newer.gone.is_set()
        assert not newest.gone.is_set()


@aio
async def test_one_place_costs_another_nothing() -> None:
    """A flood from one IPv6 network, whatever its addresses, ends at its own bound."""
    limits = Limits(strangers_per_place=6, strangers=8)
    async with (
        serving(echo, limits=limits, trusted_proxies=PROXY) as at,
        guests(at) as enter,
    ):
        elsewhere = [await enter(f"e{n}", f"192.0.2.{n}") for n in range(3)]
        flood = [await enter(f"f{n}", f"2001:db8::{n:x}") for n in range(30)]
        assert at.door.strangers == 8
        for client in elsewhere:
            await serve(client)
        for client in flood[:25]:
            await client.gone.wait()


@aio
async def test_a_stranger_is_not_kept_for_nothing() -> None:
    """Without a request it is sent away soon, in order; a node's connection stays."""
    limits = Limits(stranger_idle_s=0.01)
    async with serving(echo, limits=limits, knows=is_node) as at, guests(at) as enter:
        node = await enter("node")
        for number in range(3):
            stranger = await enter(f"s{number}")
            await stranger.gone.wait()
            assert stranger.goaway == 0
        await serve(node)
        assert at.door.strangers == 0


@aio
async def test_who_registers_is_no_stranger() -> None:
    """It keeps its connection while others come and go behind the same address."""
    limits = Limits(strangers_per_place=1, strangers=1)
    async with controlled(limits=limits) as control, control.device("laptop") as laptop:
        await laptop.join(await control.auth_key())
        async with laptop.polling() as stream:
            await stream.next()
            for number in range(5):
                async with control.device(f"d{number}") as other:
                    assert (await other.register())["AuthURL"]
            assert (await laptop.update()).status == 200


@aio
async def test_silence_from_one_place_leaves_room_for_others() -> None:
    """Handshakes without a proof are bounded by place as well."""
    limits = Limits(pending_per_place=2, pending_handshakes=100)
    async with (
        serving(echo, limits=limits, trusted_proxies=PROXY) as at,
        contextlib.AsyncExitStack() as silent,
    ):
        for number in range(10):
            reader, writer = await asyncio.open_connection("127.0.0.1", at.port)
            silent.callback(writer.close)
            writer.write(upgrade_request(f"198.51.100.{number % 2}"))
            assert (await reader.readline()).startswith(b"HTTP/1.1 101 ")
        assert at.door.pending == 4


@pytest.mark.parametrize(
    ("sockets", "asked", "strangers", "pending", "relayed"),
    [(32_768, 2048, 2048, 4096, 1024), (896, 2048, 224, 224, 224), (896, 10, 10, 224, 224)],
)
def test_strangers_get_a_quarter_of_the_sockets(
    sockets: int, asked: int, strangers: int, pending: int, relayed: int
) -> None:
    """However many the settings allow, and of each kind."""
    settings = Settings(
        stranger_connections=asked, stranger_connections_per_address=7, stranger_idle_s=3
    )
    limits = descriptors.control_limits(settings, sockets)
    assert (limits.strangers, limits.pending_handshakes) == (strangers, pending)
    assert (limits.strangers_per_place, limits.stranger_idle_s) == (7, 3)
    assert descriptors.relay_limits(sockets).pending == relayed
