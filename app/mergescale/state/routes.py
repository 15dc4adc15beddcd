"""Which of its advertised routes a node may carry.

Approval is kept apart from advertisement: it may come first, and it stays when a device stops
advertising for a while. Which router carries a route that several may is ``derive``'s to choose.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime

from mergescale.domain.node import Node
from mergescale.domain.prefixes import EXIT_ROUTES, Prefix, is_exit
from mergescale.domain.snapshot import Snapshot
from mergescale.kernel.ids import NodeId
from mergescale.state import lookup
from mergescale.state.outcome import Decision, Outcome, replaced


def approve(node_id: NodeId, prefixes: Iterable[Prefix]) -> Decision[Node]:
    """Let the node route exactly these prefixes; whatever else was approved no longer is.

    One default route stands for both: a node is an exit node for both families or for none.
    """
    wanted = frozenset(prefixes)
    if any(is_exit(prefix) for prefix in wanted):
        wanted |= frozenset(EXIT_ROUTES)

    def decide(snapshot: Snapshot, _: datetime) -> Outcome[Node]:
        node = lookup.node(snapshot, node_id)
        return replaced(snapshot, node, replace(node, approved=wanted))

    return decide


def auto_approved(snapshot: Snapshot, node: Node) -> frozenset[Prefix]:
    """Return what the node may route once the policy's autoApprovers were asked.

    Only ever adds: an operator's approval, or one from an earlier policy, stays.
    """
    missing = [prefix for prefix in node.advertised if prefix not in node.approved]
    if not missing:
        return node.approved
    owner = snapshot.owner(node)
    approves = snapshot.access.approves
    return node.approved.union(prefix for prefix in missing if approves(node, owner, prefix))
