"""Who is online: a node is while some replica holds a map stream of it.

A stream that ended is not reported at once; whoever holds streams waits some seconds first, so that
a quick reconnect is no news to anybody.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from mergescale.domain.node import Node
from mergescale.domain.record import Drop, Presence, Put, Write
from mergescale.domain.snapshot import Snapshot
from mergescale.kernel.ids import NodeId, ReplicaId
from mergescale.state import lookup
from mergescale.state.outcome import Decision, Outcome, outcome


def connected(node_id: NodeId, replica: ReplicaId) -> Decision[Node]:
    """Note that the replica holds a stream of the node."""

    def decide(snapshot: Snapshot, now: datetime) -> Outcome[Node]:
        node = lookup.node(snapshot, node_id)
        if replica in snapshot.presence.get(node_id, ()):
            return outcome(snapshot, (), node)
        return outcome(snapshot, [Put(Presence(node_id, replica, now))], node)

    return decide


def disconnected(node_id: NodeId, replica: ReplicaId) -> Decision[None]:
    """Note that the replica holds no stream of the node any more.

    Nothing happens when it held none, or when the node is gone. Only the last replica that lets
    go makes the node offline.
    """

    def decide(snapshot: Snapshot, now: datetime) -> Outcome[None]:
        return outcome(snapshot, _left(snapshot, node_id, frozenset({replica}), now), None)

    return decide


def sweep(gone: frozenset[ReplicaId]) -> Decision[int]:
    """Take out what these replicas left behind; return how many nodes' it was.

    It names the dead and not the living, because a replica may have come meanwhile.
    """

    def decide(snapshot: Snapshot, now: datetime) -> Outcome[int]:
        writes: list[Write] = []
        nodes = 0
        for node_id, replicas in snapshot.presence.items():
            left = _left(snapshot, node_id, replicas & gone, now)
            nodes += bool(left)
            writes += left
        return outcome(snapshot, writes, nodes)

    return decide


def replicas(snapshot: Snapshot) -> frozenset[ReplicaId]:
    """Return every replica at which some node is connected."""
    return frozenset().union(*snapshot.presence.values())


def _left(
    snapshot: Snapshot, node_id: NodeId, gone: frozenset[ReplicaId], now: datetime
) -> list[Write]:
    held = snapshot.presence.get(node_id, frozenset())
    writes: list[Write] = [Drop(Presence(node_id, replica, now)) for replica in sorted(held & gone)]
    node = snapshot.nodes.get(node_id)
    if writes and held <= gone and node is not None:
        writes.append(Put(replace(node, last_seen=now)))
    return writes
