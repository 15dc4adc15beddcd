"""Which clients a change can concern at all; everybody else is not even woken."""

from __future__ import annotations

from mergescale.domain.change import Change
from mergescale.domain.snapshot import Snapshot
from mergescale.kernel.ids import NodeId
from mergescale.netmap.face import user_on_wire

#: All slots; an int has bits enough.
EVERYBODY = -1


def audience(before: Snapshot, after: Snapshot, change: Change) -> int:
    """Return the slots, in `after`, of the nodes whose map may differ.

    A node's map holds itself, the peers it sees, their users and routes, filter rules whose
    sources and destinations see each other, and SSH rules about peers it sees. So a node that changed concerns itself and those that
    see it in either snapshot, and nobody else: whoever has it in a filter sees it (spec 4.12).
    """
    renumbered = before.slots.generation != after.slots.generation
    if change.access or change.tailnet or renumbered:
        return EVERYBODY
    reached = 0
    for node in (*change.nodes, *_nodes_of(after, change)):
        for snapshot in (before, after):
            slot = snapshot.slots.of.get(node)
            if slot is not None:
                reached |= snapshot.access.visible(slot) | 1 << slot
    return reached


def _nodes_of(snapshot: Snapshot, change: Change) -> list[NodeId]:
    if not change.users:
        return []
    return [node.id for node in snapshot.nodes.values() if user_on_wire(node) in change.users]
