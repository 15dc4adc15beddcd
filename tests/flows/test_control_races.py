"""Races whose order is decided here: who comes between what, and that it makes no difference.

Their counterparts with real processes, where chance decides, are in ``faults/test_fault_races.py``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterable
from contextlib import AsyncExitStack
from typing import Any

import pytest

from mergescale.domain.declaration import Declaration
from mergescale.domain.node import Node
from mergescale.kernel.ids import TailnetName
from mergescale.state import nodes, policies
from mergescale.state.outcome import Decision
from mergescale.state.policies import Replaced
from support.aio import aio, until
from support.control_world import Control, controlled, people
from support.fold import Client
from support.policies import policy
from support.replicas import Held
from support.worlds import deployment, named

pytestmark = pytest.mark.enable_socket

_OWNERS = '"tagOwners": {"tag:web": ["alice@example.com"]}'
STAFF_TO_WEB = f"""{{{_OWNERS},
 "acls": [{{"action": "accept", "src": ["alice@example.com"], "dst": ["tag:web:80"]}}]}}"""
WEB_TO_WEB = f"""{{{_OWNERS},
 "acls": [{{"action": "accept", "src": ["tag:web"], "dst": ["tag:web:443"]}}]}}"""


async def in_one_batch(control: Control, asked: Iterable[Coroutine[Any, Any, object]]) -> None:
    """Let all that is asked be decided in the same turn, in this order."""
    engine, journal = control.tailnet().engine, control.journal
    journal.gate.clear()
    before = asyncio.create_task(control.auth_key())
    await until(lambda: journal.waiting)
    async with asyncio.TaskGroup() as group:
        for number, one in enumerate(asked, start=1):
            group.create_task(one)
            await until(lambda wanted=number: len(engine._pending) == wanted)  # type: ignore[misc]
        journal.gate.set()
    await before


@aio
async def test_one_machine_twenty_times_in_a_batch_is_one_node() -> None:
    """The first makes the node and uses the key; those after it find it, and write nothing.

    Others that come between them are nodes of their own.
    """
    names = ["other", *["same"] * 10, "third", *["same"] * 10]
    async with controlled() as control, AsyncExitStack() as connections:
        key = await control.auth_key(reusable=True)
        devices = [await connections.enter_async_context(control.device(name)) for name in names]
        await in_one_batch(control, [device.join(key) for device in devices])
        written = control.journal.batches[TailnetName("default")][-1]
        made = [one.record.name for one in written if isinstance(one.record, Node)]
        assert made == ["other", "same", "third"]
        assert [node.name for node in control.snapshot.nodes.values()] == made
        assert len(control.snapshot.addresses) == 2 * len(made)
        assert [one.uses for one in control.snapshot.auth_keys.values() if one.reusable] == [3]


@aio
async def test_one_machine_with_twenty_node_keys_in_a_batch_is_one_node() -> None:
    """Each takes over from the one before it: the last key counts, the addresses stay."""
    async with controlled() as control, AsyncExitStack() as connections:
        key = await control.auth_key(reusable=True)
        devices = [await connections.enter_async_context(control.device("same")) for _ in range(20)]
        asked = [device.join(key, number=number) for number, device in enumerate(devices)]
        await in_one_batch(control, asked)
        [node] = control.snapshot.nodes.values()
        assert node.node_key == devices[0].node_key(19)
        assert control.snapshot.addresses.keys() == {node.ipv4, node.ipv6}
        assert [one.uses for one in control.snapshot.auth_keys.values() if one.reusable] == [20]


def replacing(control: Control, text: str) -> Decision[Replaced]:
    """Return the decision on a policy that is compiled against what there is now."""
    declaration, against = Declaration(policy(text)), control.snapshot
    prepared = declaration.policy.resolve(against)
    return policies.replace(deployment(declaration, commit="1" * 40), prepared, against)


def admits(viewer: Held) -> list[int]:
    """Return the ports of the viewer's IPv4 address that its filter admits."""
    own = viewer.map.node["Addresses"][0].removesuffix("/32")  # type: ignore[index] # it has one
    return [
        to["Ports"]["First"]
        for rules in viewer.map.chunks.values()
        for rule in rules
        for to in rule["DstPorts"]
        if to["IP"] == own
    ]


async def ends(viewer: Held, *, peers: set[str], ports: list[int]) -> None:
    """Take messages until this is all it sees and all that it lets in."""
    await viewer.until(lambda _: viewer.peers.keys() == peers and admits(viewer) == ports)


@pytest.mark.parametrize("tagged", ["while it is compiled", "in its batch", "after it"])
def test_a_policy_and_a_tag_end_as_one(tagged: str) -> None:
    """Whenever the tag comes, the new policy is in force for the node as it is tagged.

    Streams that were open all the while hold what a new one is told.
    """

    @aio
    async def race() -> None:
        async with (
            controlled(people(policy_text=STAFF_TO_WEB)) as control,
            AsyncExitStack() as open_,
        ):
            viewers = {}
            for name, tags in (("laptop", ()), ("moving", ()), ("web", ("tag:web",))):
                device = await open_.enter_async_context(control.device(name))
                await device.join(await control.auth_key(tags=tags))
                stream = await open_.enter_async_context(device.polling())
                viewers[name] = Held(device, stream, Client())
            for name, peer in (("laptop", "web"), ("moving", "web"), ("web", "moving")):
                await viewers[name].sees(peer)
            replace = replacing(control, WEB_TO_WEB)
            retag = nodes.set_tags(named(control.snapshot, "moving").id, ["tag:web"])
            match tagged:
                case "while it is compiled":
                    await control.apply(retag)
                    await control.apply(replace)
                case "in its batch":
                    both: list[Decision[Any]] = [replace, retag]
                    await in_one_batch(control, map(control.apply, both))
                case _:
                    await control.apply(replace)
                    await control.apply(retag)
            await ends(viewers["web"], peers={"moving"}, ports=[443])
            await ends(viewers["moving"], peers={"web"}, ports=[443])
            await ends(viewers["laptop"], peers=set(), ports=[])
            for viewer in viewers.values():
                fresh = Client()
                async with viewer.device.polling() as again:
                    fresh.receive(await again.text())
                assert fresh.peers.keys() == viewer.map.peers.keys()
                assert fresh.chunks == viewer.map.chunks

    race()
