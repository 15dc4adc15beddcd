"""Many clients ask a real server for what only one can have, or for what is being taken away."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator

import pytest

from support.aio import run
from support.control_world import Json
from support.faults import IMPATIENT, devices, new_key, one_server, register, staff_and_web, started
from support.fold import Client
from support.replicas import Replica, without_access
from support.server_process import PolicyRepository

pytestmark = [pytest.mark.enable_socket, pytest.mark.timeout(300)]

DEADLINE_S = 60


@pytest.fixture(scope="module")
def world(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[Replica, PolicyRepository]]:
    """A server for all tests of this module; each has devices of its own."""
    server, repository = one_server(tmp_path_factory.mktemp("races"), within=IMPATIENT)
    with started(server):
        run(staff_and_web(server), deadline_s=DEADLINE_S)
        yield server, repository


def test_a_one_shot_key_admits_one_of_fifty(world: tuple[Replica, PolicyRepository]) -> None:
    """All fifty show it at once; the others are told that it was used (S1)."""
    server, _ = world
    key, told = new_key(server), list[Json]()

    async def rush() -> None:
        told.extend(await asyncio.gather(*(register(server, f"one-{n}", key) for n in range(50))))

    run(rush(), deadline_s=DEADLINE_S)
    assert sorted(answer["Error"] for answer in told) == [
        "",
        *["the auth key was used already"] * 49,
    ]
    assert len([name for name in devices(server) if name.startswith("one-")]) == 1


def test_one_machine_registering_twenty_times_is_one_node(
    world: tuple[Replica, PolicyRepository],
) -> None:
    """All are let in, on twenty connections, as the same device with the same addresses (S5)."""
    server, _ = world
    key, told = new_key(server, reusable=True), list[Json]()

    async def rush() -> None:
        told.extend(await asyncio.gather(*(register(server, "same", key) for _ in range(20))))

    run(rush(), deadline_s=DEADLINE_S)
    assert [answer["MachineAuthorized"] for answer in told] == [True] * 20
    assert [name for name in devices(server) if name.startswith("same")] == ["same"]


def test_the_newer_of_two_streams_stands(world: tuple[Replica, PolicyRepository]) -> None:
    """Ten streams of one node at once: one is left, the node stays online until that ends (R19)."""
    server, _ = world

    async def crowd() -> None:
        async with server.connected("web") as web, contextlib.AsyncExitStack() as streams:
            held = await asyncio.gather(
                *(streams.enter_async_context(server.connected("laptop")) for _ in range(10))
            )
            await web.sees("laptop")
            alive = [one for one in held if not await ended(one.stream.call)]
            assert len(alive) == 1
            assert web.peers["laptop"] is True
            await streams.aclose()
            await web.sees("laptop", online=False)

    async def ended(call: object) -> bool:
        try:
            async with asyncio.timeout(2):
                while await call.chunk():  # type: ignore[attr-defined]
                    pass
        except TimeoutError:
            return False
        return True

    run(crowd(), deadline_s=DEADLINE_S)


def test_policy_and_tags_changing_together_end_as_one(
    world: tuple[Replica, PolicyRepository],
) -> None:
    """What streams were told while both changed adds up to what a new stream is told (S11)."""
    server, repository = world
    opened, node_id = repository.read(), ""

    def retag(tags: list[str]) -> None:
        api = server.api()
        with contextlib.closing(api.http):
            done = api.http.post(f"/device/{node_id}/tags", json={"tags": tags})
            assert done.status_code == 200, done.text

    async def change() -> None:
        nonlocal node_id
        await register(server, "moving", new_key(server))
        node_id = devices(server)["moving"]["nodeId"]
        async with server.connected("laptop") as laptop, server.connected("web") as web:
            await web.sees("moving", online=False)
            await asyncio.gather(
                asyncio.to_thread(repository.commit, "close", policy=without_access(repository)),
                asyncio.to_thread(retag, ["tag:web"]),
            )
            await laptop.loses("web")
            await web.loses("moving")
            await asyncio.to_thread(repository.commit, "open", policy=opened)
            await laptop.sees("moving", online=False)
            await web.sees("laptop")
            assert "moving" not in web.peers
            for held in (laptop, web):
                async with held.device.polling() as again:
                    fresh = Client()
                    fresh.receive(await again.text())
                    assert fresh.peers.keys() == held.map.peers.keys()
                    assert fresh.chunks == held.map.chunks

    run(change(), deadline_s=DEADLINE_S)


def test_a_node_deleted_while_it_polls_is_gone(world: tuple[Replica, PolicyRepository]) -> None:
    """Whichever was first: it is told that it is expired, or not found, and nothing is left."""
    server, _ = world
    key = new_key(server, reusable=True)

    def delete(node_id: str) -> None:
        api = server.api()
        with contextlib.closing(api.http):
            assert api.http.delete(f"/device/{node_id}").status_code == 200

    async def poll(name: str) -> None:
        async with server.device(name) as device:
            await device.join(key)
            node_id = devices(server)[name]["nodeId"]
            deleting = asyncio.create_task(asyncio.to_thread(delete, node_id))
            async with device.polling() as stream:
                answer = await stream.call.answer()
                assert answer.status in {200, 404}
                assert answer.body
            await deleting

    async def all_of_them() -> None:
        for number in range(10):
            await poll(f"gone-{number}")

    run(all_of_them(), deadline_s=DEADLINE_S)
    assert [name for name in devices(server) if name.startswith("gone-")] == []
