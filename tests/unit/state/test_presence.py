from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from mergescale.domain.record import Drop, Presence, Put
from mergescale.domain.snapshot import Snapshot
from mergescale.kernel.errors import NotFound
from mergescale.kernel.ids import NodeId, ReplicaId
from mergescale.state import nodes, presence
from support.clock import START
from support.machines import decided
from support.worlds import REPLICA, named, world

A = NodeId(1)
OTHER = ReplicaId("replica-2")
LATER = START + timedelta(minutes=1)


def both() -> Snapshot:
    """Return nodes a and b, a held by two replicas."""
    return decided(world("tag:x: a, b"), presence.connected(A, OTHER), START)[0]


def test_connecting_is_noted_once() -> None:
    """The first stream makes a node online; more of them are no news."""
    before = world("tag:x: a", online=False)
    outcome = presence.connected(A, REPLICA)(before, START)
    assert outcome.writes == [Put(Presence(A, REPLICA, START))]
    assert outcome.change.nodes == {A}
    assert outcome.snapshot.online(A)
    assert presence.connected(A, REPLICA)(outcome.snapshot, LATER).writes == ()
    with pytest.raises(NotFound, match="no such node"):
        presence.connected(NodeId(9), REPLICA)(before, START)


def test_last_replica_takes_the_node_offline() -> None:
    """A node is online while any replica holds it; the last one to let go notes the time."""
    before, node = both(), named(both(), "a")
    first = presence.disconnected(A, REPLICA)(before, LATER)
    assert first.writes == [Drop(Presence(A, REPLICA, LATER))]
    assert first.snapshot.online(A)
    last = presence.disconnected(A, OTHER)(first.snapshot, LATER)
    offline = replace(node, last_seen=LATER)
    assert last.writes == [Drop(Presence(A, OTHER, LATER)), Put(offline)]
    assert not last.snapshot.online(A)
    assert last.snapshot.nodes[A] == offline


def test_disconnecting_twice_or_after_deletion_is_nothing() -> None:
    """A stream that ends after its node was deleted, or was counted before, changes nothing."""
    before, _ = decided(world("tag:x: a, b"), nodes.delete(A), START)
    assert presence.disconnected(A, REPLICA)(before, LATER).writes == ()
    assert presence.disconnected(NodeId(2), OTHER)(before, LATER).writes == ()


def test_sweep_takes_out_the_dead() -> None:
    """What dead replicas left goes; nodes that a living one holds stay online."""
    assert presence.replicas(both()) == {REPLICA, OTHER}
    outcome = presence.sweep(frozenset({REPLICA}))(both(), LATER)
    assert outcome.answer == 2
    assert dict(outcome.snapshot.presence) == {A: {OTHER}}
    assert named(outcome.snapshot, "b").last_seen == LATER
    assert named(outcome.snapshot, "a").last_seen is None


def test_sweep_of_all_takes_out_everybody() -> None:
    """When no replica is left, nobody is connected."""
    gone = frozenset({REPLICA, OTHER})
    outcome = presence.sweep(gone)(both(), LATER)
    assert outcome.answer == 2
    assert not outcome.snapshot.presence
    assert {node.last_seen for node in outcome.snapshot.nodes.values()} == {LATER}
    assert presence.sweep(gone)(outcome.snapshot, LATER).writes == ()
    assert presence.replicas(outcome.snapshot) == frozenset()
