"""What a map request is answered when its node goes away in the middle of it."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace

import pytest

from mergescale.control.app import machine_app
from mergescale.control.c2n import C2n
from mergescale.control.poll import Poller
from mergescale.control.register import Registrar
from mergescale.control.sshcheck import SshGate
from mergescale.domain.record import Put
from mergescale.domain.snapshot import Snapshot
from mergescale.fanout.bell import LoginBell
from mergescale.fanout.hub import Hub
from mergescale.kernel.errors import NotFound
from mergescale.kernel.ids import NodeId
from mergescale.netmap.encoder import Encoder
from mergescale.state import nodes
from mergescale.state.engine import Engine
from mergescale.state.tailnets import Tailnets
from mergescale.wire.tailcfg.map_request import MapRequest
from support.aio import aio, turns, until
from support.bridged import MACHINE, Bridged
from support.clock import FakeClock, FakeEntropy
from support.control_world import URL, people
from support.journal import MemoryJournal
from support.tailnet_story import REGION
from support.timers import FakeTimers
from support.worlds import named, step


class Attendance:
    """Notes who has a stream."""

    def __init__(self) -> None:
        self.present: list[NodeId] = []

    def opened(self, node: NodeId) -> None:
        self.present.append(node)

    def closed(self, node: NodeId) -> None:
        self.present.remove(node)


class Scene:
    """A poller over one tailnet, without any connection."""

    def __init__(self, snapshot: Snapshot) -> None:
        self.attendance = Attendance()
        encoder = Encoder(REGION)
        self.hub = Hub(snapshot, encoder, self.attendance, FakeTimers(), FakeEntropy())
        clock = FakeClock()
        self.engine = Engine(snapshot, MemoryJournal(), self.hub, clock)
        self.tailnets = Tailnets({snapshot.tailnet: self.engine})
        self.poller = Poller(self.tailnets, {snapshot.tailnet: self.hub}, clock)
        self.node = named(snapshot, "laptop")

    def request(self, **members: object) -> MapRequest:
        return MapRequest(version=130, node_key=self.node.node_key, **members)  # type: ignore[arg-type]


@aio
async def test_a_node_deleted_before_its_stream_began_is_told_so() -> None:
    """The headers are out, so an expired Node is the answer: never a 200 with nothing in it."""
    scene = Scene(people("alice@example.com: laptop"))
    stream = await scene.poller.answer(scene.node.machine_key, scene.request(stream=True))
    assert not isinstance(stream, bytes)
    running = asyncio.create_task(scene.engine.run())
    await scene.engine.apply(nodes.delete(scene.node.id))
    frames = [frame async for frame in stream]
    [message] = [json.loads(frame[4:]) for frame in frames]
    assert message["Node"]["KeyExpiry"] < "2026"
    assert scene.attendance.present == []
    scene.engine.stop()
    await running


@aio
async def test_a_node_deleted_while_its_headers_wait_is_told_so() -> None:
    """The socket was full when it asked; once there is room it has a whole answer, and its end."""
    before = people("alice@example.com: laptop")
    mine = replace(named(before, "laptop"), machine_key=MACHINE)
    scene = Scene(step(before, [Put(mine)]))
    registrar = Registrar(scene.tailnets, LoginBell(), FakeEntropy(), URL)
    gate = SshGate(scene.tailnets, LoginBell(), FakeEntropy(), URL)
    bridged = Bridged(machine_app(registrar, scene.poller, gate, C2n(FakeEntropy())))
    await bridged.exchange()
    running = asyncio.create_task(scene.engine.run())
    bridged.bridge.pause()
    asked = bridged.request("POST", "/machine/map", end=False)
    how = {"Version": 130, "NodeKey": str(mine.node_key), "Stream": True}
    bridged.client.send_data(asked, json.dumps(how).encode(), end_stream=True)
    await bridged.exchange(deliver=False)
    await until(lambda: bridged.bridge._exchanges[asked]._sending)
    await scene.engine.apply(nodes.delete(mine.id))
    assert bridged.status(asked) is None
    bridged.bridge.resume()
    await until(lambda: not bridged.bridge._exchanges)
    await bridged.exchange()
    assert (bridged.status(asked), bridged.resets()) == (200, [])
    frame = bridged.body(asked)
    assert int.from_bytes(frame[:4], "little") == len(frame) - 4
    assert json.loads(frame[4:])["Node"]["KeyExpiry"] < "2026"
    assert (len(scene.hub), scene.attendance.present) == (0, [])
    scene.engine.stop()
    await running


@aio
async def test_a_node_deleted_during_its_update_is_not_found() -> None:
    """The update and the deletion are one batch; the map that was asked for cannot be made."""
    scene = Scene(people("alice@example.com: laptop"))
    asking = asyncio.create_task(
        scene.poller.answer(scene.node.machine_key, scene.request(endpoints=("192.0.2.1:1",)))
    )
    await turns()
    deleting = asyncio.create_task(scene.engine.apply(nodes.delete(scene.node.id)))
    await turns()
    running = asyncio.create_task(scene.engine.run())
    await deleting
    with pytest.raises(NotFound):
        await asking
    scene.engine.stop()
    await running


@aio
async def test_a_stream_that_never_began_is_nobodys_presence() -> None:
    """Opened by a handler that was cancelled, it leaves nothing behind; closed twice neither."""
    scene = Scene(people("alice@example.com: laptop"))
    stream = await scene.poller.answer(scene.node.machine_key, scene.request(stream=True))
    assert not isinstance(stream, bytes)
    assert (len(scene.hub), scene.attendance.present) == (0, [])
    await stream.aclose()
    begun = await scene.poller.answer(scene.node.machine_key, scene.request(stream=True))
    assert not isinstance(begun, bytes)
    await anext(begun)
    assert (len(scene.hub), scene.attendance.present) == (1, [scene.node.id])
    for _ in range(2):
        await begun.aclose()
    assert (len(scene.hub), scene.attendance.present) == (0, [])
