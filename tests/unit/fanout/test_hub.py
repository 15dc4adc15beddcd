"""Streams of one tailnet: who is woken, what they get, and when they end."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import pytest

from mergescale.domain.record import Drop, Put, Write
from mergescale.domain.snapshot import Snapshot
from mergescale.fanout.hub import Client, Hub
from mergescale.fanout.meter import Kind
from mergescale.kernel.errors import NotFound
from mergescale.kernel.ids import NodeId, Revision
from mergescale.netmap.encoder import Encoder
from mergescale.wire.mapframe import KEEPALIVE_PLAIN, KEEPALIVE_ZSTD, Compression
from support.aio import aio
from support.clock import START, FakeEntropy
from support.fold import Client as GoClient
from support.reach import EVERYONE, Rule, declare
from support.tailnet_story import REGION, happen
from support.timers import FakeTimers
from support.worlds import deployment, named, world

Frame = bytes | None


class Ledger:
    """Notes who came and went; the twin of `presence.Presence`."""

    def __init__(self) -> None:
        self.noted: list[tuple[str, NodeId]] = []

    def opened(self, node: NodeId) -> None:
        self.noted.append(("opened", node))

    def closed(self, node: NodeId) -> None:
        self.noted.append(("closed", node))


class Scene:
    """A hub over a snapshot that the test moves."""

    def __init__(self, snapshot: Snapshot) -> None:
        self.timers = FakeTimers()
        self.ledger = Ledger()
        self.hub = Hub(snapshot, Encoder(REGION), self.ledger, self.timers, FakeEntropy())

    def happen(self, *writes: Write) -> None:
        before = self.hub.snapshot
        after, change = happen(before, list(writes))
        self.hub.publish(before, after, change)

    def open(self, name: str, compression: Compression = Compression.NONE) -> Client:
        client = self.hub.attach(named(self.hub.snapshot, name).id, compression)
        client.first(START)
        client.delivered()
        self.timers.turn()
        return client

    async def next(self, client: Client) -> asyncio.Task[Frame]:
        """Start waiting for the next message, and let all happen that needs no time."""
        waiting = asyncio.create_task(client.next())
        await self.timers.settle()
        return waiting


def message(frame: Frame) -> Any:
    assert frame is not None
    return json.loads(frame[4:])


async def stop(tasks: Iterable[asyncio.Task[Frame]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


TWO = world("alice@example.com: laptop, phone", declaration=declare(EVERYONE))
PHONE = named(TWO, "phone")


@aio
async def test_a_change_reaches_who_sees_it() -> None:
    """Published, woken, written: one delta with what differs."""
    scene = Scene(TWO)
    laptop = scene.open("laptop")
    waiting = await scene.next(laptop)
    assert not waiting.done()
    scene.happen(Put(replace(PHONE, endpoints=())))
    await scene.timers.settle()
    assert message(await waiting) == {"PeersChangedPatch": [{"NodeID": 2, "Endpoints": []}]}


@aio
async def test_who_is_not_concerned_sleeps_on() -> None:
    """A client outside the audience is not even woken, and its next delta starts later."""
    rule = Rule(("alice@example.com",), ("bob@example.com",))
    scene = Scene(
        world("alice@example.com: a; bob@example.com: b; tag:x: x", declaration=declare(rule))
    )
    other = scene.open("x")
    waiting = await scene.next(other)
    scene.happen(Put(replace(named(scene.hub.snapshot, "b"), endpoints=())))
    assert scene.timers.soon == []
    await scene.timers.settle()
    assert not waiting.done()
    await stop([waiting])


@aio
async def test_a_slow_client_gets_one_bigger_step() -> None:
    """Whatever was published during a write is one message after it."""
    scene = Scene(TWO)
    laptop, held = scene.hub.attach(NodeId(1), Compression.NONE), GoClient()
    first = laptop.first(START)
    held.receive(first[4:])
    for number in range(5):
        scene.happen(Put(replace(PHONE, endpoints=(f"192.0.2.9:{number}",))))
    scene.happen(Put(replace(PHONE, endpoints=(), home_derp=901)))
    laptop.delivered()
    waiting = await scene.next(laptop)
    delta = await waiting
    assert delta is not None
    held.receive(delta[4:])
    laptop.delivered()
    assert held.peers[2]["HomeDERP"] == 901
    assert held.peers[2]["Endpoints"] == []
    last = await scene.next(laptop)
    assert not last.done()
    await stop([last])


@aio
async def test_a_change_that_says_nothing_new_sends_nothing() -> None:
    """The client is woken, finds nothing to say, and waits on."""
    scene = Scene(TWO)
    waiting = await scene.next(scene.open("laptop"))
    scene.happen(Put(replace(PHONE, ephemeral=True)))
    await scene.timers.settle()
    assert not waiting.done()
    await stop([waiting])


@pytest.mark.parametrize(
    ("compression", "keepalive"),
    [(Compression.NONE, KEEPALIVE_PLAIN), (Compression.ZSTD, KEEPALIVE_ZSTD)],
)
@aio
async def test_silence_is_broken_by_a_keepalive(compression: Compression, keepalive: bytes) -> None:
    """Between 50 and 59 s after the last message, and not before; then again."""
    scene = Scene(TWO)
    laptop = scene.open("laptop", compression)
    for _ in range(2):
        waiting = await scene.next(laptop)
        (due_s,) = scene.timers.pending
        assert 50 <= due_s - scene.timers.now_s < 59
        scene.timers.advance(49.9)
        await scene.timers.settle()
        assert not waiting.done()
        scene.timers.advance(9.1)
        assert await waiting == keepalive
        laptop.delivered()
        assert scene.timers.pending == []


@aio
async def test_deltas_put_the_keepalive_off() -> None:
    """Only silence counts: after any message the wait starts again."""
    scene = Scene(TWO)
    laptop = scene.open("laptop")
    waiting = await scene.next(laptop)
    scene.timers.advance(49)
    scene.happen(Put(replace(PHONE, endpoints=())))
    await scene.timers.settle()
    await waiting
    laptop.delivered()
    waiting = await scene.next(laptop)
    scene.timers.advance(49)
    await scene.timers.settle()
    assert not waiting.done()
    await stop([waiting])


@aio
async def test_a_newer_stream_of_a_node_ends_the_older() -> None:
    """The latest wins; the node has been there all the time."""
    scene = Scene(TWO)
    older = scene.open("laptop")
    waiting = await scene.next(older)
    newer = scene.open("laptop")
    assert await waiting is None
    scene.hub.detach(older)
    scene.hub.detach(older)
    assert scene.ledger.noted == [("opened", NodeId(1))]
    assert scene.hub.connected(NodeId(1))
    scene.hub.detach(newer)
    assert scene.ledger.noted == [("opened", NodeId(1)), ("closed", NodeId(1))]
    assert (scene.hub.connected(NodeId(1)), len(scene.hub)) == (False, 0)


@aio
async def test_deleting_a_node_ends_its_stream() -> None:
    """It is told that its key has expired, its stream ends, and its peers are told."""
    scene = Scene(TWO)
    with scene.open("phone") as phone:
        gone, told = await scene.next(phone), await scene.next(scene.open("laptop"))
        scene.happen(Drop(PHONE))
        await scene.timers.settle()
        last = message(await gone)
        assert list(last) == ["Node"]
        assert (last["Node"]["ID"], last["Node"]["KeyExpiry"]) == (2, "1970-01-01T00:02:03Z")
        phone.delivered()
        assert await (await scene.next(phone)) is None
        assert message(await told)["PeersRemoved"] == [2]
    assert ("closed", NodeId(2)) in scene.ledger.noted


@aio
async def test_a_stream_needs_a_node() -> None:
    """A node that was deleted meanwhile has no stream."""
    scene = Scene(TWO)
    with pytest.raises(NotFound):
        scene.hub.attach(NodeId(99), Compression.NONE)
    assert scene.ledger.noted == []


@aio
async def test_closing_the_hub_ends_every_stream() -> None:
    """Clients notice at once that the server stops."""
    scene = Scene(TWO)
    waiting = [await scene.next(scene.open(name)) for name in ("laptop", "phone")]
    scene.hub.close()
    assert await asyncio.gather(*waiting) == [None, None]


@aio
async def test_thousands_are_woken_in_turns() -> None:
    """The loop gets to look for I/O between groups of clients."""
    names = ", ".join(f"n{number}" for number in range(150))
    scene = Scene(world(f"alice@example.com: {names}", declaration=declare(EVERYONE)))
    waiting = [await scene.next(scene.open(f"n{number}")) for number in range(150)]
    scene.happen(Put(replace(named(scene.hub.snapshot, "n0"), endpoints=())))
    done = []
    while scene.timers.soon:
        scene.timers.turn()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        done.append(sum(task.done() for task in waiting))
    assert done == [63, 127, 149]
    frames = {await task for task in waiting[1:]}
    assert len(frames) == 1
    await stop(waiting[:1])


@aio
async def test_a_gap_before_a_publication_is_closed() -> None:
    """If a batch starts at a snapshot nobody was told of, everything is compared."""
    scene = Scene(TWO)
    waiting = await scene.next(scene.open("laptop"))
    unheard, _ = happen(TWO, [Put(replace(PHONE, endpoints=()))])
    after, change = happen(unheard, [Put(replace(named(TWO, "laptop"), endpoints=()))])
    scene.hub.publish(unheard, after, change)
    await scene.timers.settle()
    assert message(await waiting) == {"PeersChangedPatch": [{"NodeID": 2, "Endpoints": []}]}


@aio
async def test_a_batch_that_was_not_published_is_no_gap() -> None:
    """A new auth key changes no map, so the batch after it wakes nobody beyond its audience."""
    rule = Rule(("alice@example.com",), ("bob@example.com",))
    people = "alice@example.com: a; bob@example.com: b; tag:x: x"
    scene = Scene(world(people, declaration=declare(rule)))
    waiting = await scene.next(scene.open("x"))
    silent = replace(scene.hub.snapshot, revision=Revision(7), auth_keys={})
    after, change = happen(silent, [Put(replace(named(silent, "b"), endpoints=()))])
    scene.hub.publish(silent, after, change)
    assert scene.timers.soon == []
    await stop([waiting])


class Notes:
    """A meter that keeps what it is told; the twin of `server.metrics.Metrics`."""

    def __init__(self) -> None:
        self.kinds: list[tuple[Kind, int]] = []
        self.reached_s: list[float] = []

    def made(self, kind: Kind, size_bytes: int, seconds: float) -> None:
        assert seconds >= 0
        self.kinds.append((kind, size_bytes))

    def reached(self, seconds: float) -> None:
        self.reached_s.append(seconds)


@aio
async def test_a_policy_is_measured_until_the_client_was_sent_it() -> None:
    """Not when it is made, but when it has been written; other changes are none."""
    scene, notes = Scene(TWO), Notes()
    scene.hub.meter = notes
    laptop = scene.open("laptop")
    scene.happen(Put(replace(PHONE, endpoints=())))
    frame = await (await scene.next(laptop))
    assert frame is not None
    laptop.delivered()
    assert notes.reached_s == []
    before = scene.hub.snapshot
    closed = Put(deployment(declare(), at=START))
    after, change = happen(before, [closed])
    scene.hub.publish(before, replace(after, revision=Revision(before.revision + 1)), change)
    delta = await (await scene.next(laptop))
    assert delta is not None
    assert notes.reached_s == []
    laptop.delivered()
    [taken_s] = notes.reached_s
    assert taken_s >= 0
    assert [kind for kind, _ in notes.kinds] == [Kind.FULL, Kind.DELTA, Kind.DELTA]
    assert [size for _, size in notes.kinds][1:] == [len(frame), len(delta)]


@aio
async def test_who_holds_what_is_in_force_was_written_its_map() -> None:
    """Not while it is on its way; at once where the map does not change by it."""
    scene = Scene(world("alice@example.com: a; bob@example.com: b", declaration=declare()))
    alice = scene.open("a")
    assert scene.hub.holders() == scene.hub.nodes() == {alice.node}
    bob = scene.hub.attach(named(scene.hub.snapshot, "b").id, Compression.NONE)
    assert scene.hub.nodes() == {alice.node, bob.node}
    bob.first(START)
    assert scene.hub.holders() == {alice.node}
    bob.delivered()
    # The loop has not handed it to the system yet.
    assert scene.hub.holders() == {alice.node}
    scene.timers.turn()
    assert scene.hub.holders() == {alice.node, bob.node}
    scene.happen(Put(deployment(declare(), commit="b" * 40)))
    assert scene.hub.holders() == frozenset()
    waiting = [await scene.next(client) for client in (alice, bob)]
    assert scene.hub.holders() == {alice.node, bob.node}
    scene.happen(Put(deployment(declare(EVERYONE), commit="c" * 40)))
    await scene.timers.settle()
    assert None not in await asyncio.gather(*waiting)
    assert scene.hub.holders() == frozenset()
    alice.delivered()
    scene.timers.turn()
    assert scene.hub.holders() == {alice.node}
    bob.delivered()
    scene.timers.turn()
    assert scene.hub.holders() == {alice.node, bob.node}
    scene.hub.detach(bob)
    assert scene.hub.holders() == {alice.node}
