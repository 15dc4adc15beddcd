"""How far the deployment in force has come, as replicas tell each other.

Each knows what it wrote to the streams that it holds itself, and says so in the journal: which nodes,
for which deployment. What is said of another deployment counts for nothing, and so does what a
replica said that is gone: its nodes are not connected there any more.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import pairwise
from typing import Any, Final

from mergescale.domain.declaration import Deployment
from mergescale.domain.record import Delivered
from mergescale.domain.snapshot import Snapshot
from mergescale.kernel.ids import NodeId, ReplicaId
from mergescale.state import presence
from mergescale.state.outcome import Decision, Outcome, outcome, replaced

#: LIMIT: ranges of ids that one replica names; what is left out counts as not delivered yet.
RANGES: Final = 1000


@dataclass(frozen=True, slots=True)
class Streams:
    """The map streams of one replica, at one moment.

    Attributes:
        nodes: that have one open.
        holders: those whose stream was written a map under the deployment in force.
    """

    nodes: frozenset[NodeId]
    holders: frozenset[NodeId]


@dataclass(frozen=True, slots=True)
class Tally:
    """How many nodes have the deployment in force.

    Attributes:
        reached: connected ones that have it; their map was written, or did not change by it.
        connected: nodes with a map stream at some replica.
        offline: all others; they get it when they connect.
    """

    reached: int
    connected: int
    offline: int

    @property
    def complete(self) -> bool:
        """Say whether every connected node has it."""
        return self.reached == self.connected

    def __str__(self) -> str:
        return f"{self.reached}/{self.connected} nodes, {self.offline} offline"

    def as_json(self) -> dict[str, Any]:
        """Return it as the API spells it."""
        return {"n": self.reached, "m": self.connected, "offline": self.offline}


def tally(snapshot: Snapshot, here: ReplicaId, streams: Streams, *, alone: bool) -> Tally:
    """Count.

    INVARIANT(not overstated): a node without a stream here counts when every replica that holds
    one has said that it wrote to it.

    Args:
        snapshot: the tailnet as this replica knows it.
        here: this replica; what is stored about it is older than `streams`.
        streams: its own.
        alone: no other process uses the database; what is stored of others was said by the dead.
    """
    said = {
        one.replica: frozenset(numbers(one.nodes))
        for one in _of_now(snapshot)
        if one.replica != here and not alone
    }
    nobody: frozenset[NodeId] = frozenset()
    reached, connected = len(streams.holders), len(streams.nodes)
    for node, replicas in snapshot.presence.items():
        elsewhere = replicas - {here}
        if node in streams.nodes or not elsewhere:
            continue
        connected += 1
        reached += all(node in said.get(replica, nobody) for replica in elsewhere)
    return Tally(reached, connected, max(0, len(snapshot.nodes) - connected))


def _of_now(snapshot: Snapshot) -> tuple[Delivered, ...]:
    """Return what was said of the deployment in force."""
    held = snapshot.deployment
    if held is None:
        return ()
    return tuple(
        one
        for one in snapshot.following.delivered
        if (one.commit, one.applied) == (held.commit, held.applied)
    )


def report(
    replica: ReplicaId, deployment: Deployment, holders: Collection[NodeId]
) -> Decision[None]:
    """Say to which nodes a replica wrote a map under this deployment.

    Nothing happens when another one is in force by then. What replicas said that are gone, or of
    an earlier deployment, is forgotten.
    """

    def decide(snapshot: Snapshot, _: datetime) -> Outcome[None]:
        before = snapshot.following
        if snapshot.deployment is not deployment:
            return outcome(snapshot, (), None)
        living = presence.replicas(snapshot) - {replica}
        others = [one for one in _of_now(snapshot) if one.replica in living]
        mine = Delivered(replica, deployment.commit, deployment.applied, ranges(holders))
        after = replace(before, delivered=(*others, mine))
        return outcome(snapshot, replaced(snapshot, before, after).writes, None)

    return decide


def is_news(snapshot: Snapshot, here: ReplicaId, streams: Streams) -> bool:
    """Say whether others would count this replica's nodes otherwise if it reported now.

    Nodes that left are no news: nobody counts them.
    """
    told: frozenset[NodeId] = frozenset()
    for one in _of_now(snapshot):
        if one.replica == here:
            told = frozenset(numbers(one.nodes))
    unsaid = frozenset(numbers(ranges(streams.holders))) - told
    return bool(unsaid or (told & streams.nodes) - streams.holders)


def ranges(nodes: Iterable[int]) -> str:
    """Return ids as text, ascending: ``1-4,7``; those past `RANGES` ranges are left out."""
    ordered = sorted(nodes)
    ends = [one for one, after in pairwise(ordered) if after != one + 1] + ordered[-1:]
    begins = ordered[:1] + [after for one, after in pairwise(ordered) if after != one + 1]
    spans = zip(begins[:RANGES], ends[:RANGES], strict=True)
    return ",".join(str(low) if low == high else f"{low}-{high}" for low, high in spans)


def numbers(text: str) -> Iterator[NodeId]:
    """Yield the ids of what `ranges` made."""
    for span in text.split(",") if text else ():
        low, _, high = span.partition("-")
        yield from map(NodeId, range(int(low), int(high or low) + 1))
