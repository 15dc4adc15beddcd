"""What follows from a batch: who carries each subnet route, and who may reach whom.

Runs once per batch, after its decisions and before its commit, so that both are part of the
snapshot which readers see. Work is proportional to the nodes that changed.

INVARIANT(sticky): who carries a route follows from the past too, so it is committed with the batch
that moved it. Deriving again from what is stored gives the same, at a restart and at any replica.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

from mergescale.domain.access import DENY_ALL, Access
from mergescale.domain.change import Change
from mergescale.domain.prefixes import Prefix, is_exit
from mergescale.domain.record import Drop, Primary, Put, Write
from mergescale.domain.snapshot import Snapshot
from mergescale.kernel.ids import NodeId


def derive(before: Snapshot, after: Snapshot, change: Change) -> tuple[Snapshot, Change]:
    """Bring `primaries` and `access` up to date; return the change with what that moved."""
    if not change:
        return after, change
    primaries = _primaries(before, after, change)
    moved = {
        node
        for prefix in before.primaries.keys() | primaries.keys()
        if (old := before.primaries.get(prefix)) != (new := primaries.get(prefix))
        for node in (old, new)
        if node is not None
    }
    change |= Change(nodes=frozenset(moved))
    after = replace(after, primaries=primaries)
    return replace(after, access=_access(after, change)), change


def elections(before: Snapshot, after: Snapshot) -> Iterator[Write]:
    """Yield the writes that store who carries which route from now on."""
    if after.primaries is before.primaries:
        return
    for prefix, router in before.primaries.items():
        if prefix not in after.primaries:
            yield Drop(Primary(prefix, router))
    for prefix, router in after.primaries.items():
        if before.primaries.get(prefix) != router:
            yield Put(Primary(prefix, router))


def _access(after: Snapshot, change: Change) -> Access:
    policy = after.policy
    if policy is None:
        return DENY_ALL
    if after.access.policy is not policy:
        return policy.resolve(after, after.access)
    return after.access.refreshed(after, change.nodes)


def _primaries(before: Snapshot, after: Snapshot, change: Change) -> Mapping[Prefix, NodeId]:
    """Choose each subnet route's router: the oldest approved online one, and then it stays.

    Sticky, as the hosted service is: a router that comes back does not take its route from the
    one which carries it now. With nobody online the last one keeps it, so that clients go on
    trying there.
    """
    touched = {prefix for prefix, router in after.primaries.items() if router in change.nodes}
    for node_id in change.nodes:
        for snapshot in (before, after):
            node = snapshot.nodes.get(node_id)
            if node is not None:
                touched.update(prefix for prefix in node.advertised if not is_exit(prefix))
                touched.update(prefix for prefix in node.approved if not is_exit(prefix))
    if not touched:
        return after.primaries
    primaries = dict(after.primaries)
    routers = [node for node in after.nodes.values() if node.approved and after.takes_part(node)]
    for prefix in touched:
        able = [node for node in routers if prefix in node.routes]
        online = [node for node in able if after.online(node.id)]
        held = primaries.pop(prefix, None)
        choice = online or [node for node in able if node.id == held] or able
        if choice:
            ids = {node.id for node in choice}
            oldest = min(choice, key=lambda node: (node.created, node.id))
            primaries[prefix] = held if held is not None and held in ids else oldest.id
    return primaries
