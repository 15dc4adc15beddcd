"""Putting a commit in force.

Compiling a policy is slow, so it happens before, off the event loop, against the snapshot of that
moment. The decision resolves again what moved since, and only that.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from datetime import datetime

from mergescale.domain.access import Access
from mergescale.domain.declaration import Deployment
from mergescale.domain.record import Put, Write
from mergescale.domain.snapshot import Snapshot
from mergescale.kernel.errors import LocalProtocolError
from mergescale.kernel.ids import NodeId, UserId
from mergescale.state import users
from mergescale.state.outcome import Decision, Outcome
from mergescale.state.routes import auto_approved


@dataclass(frozen=True, slots=True)
class Replaced:
    """What came with the commit beside the policy itself.

    Attributes:
        users: made, changed, suspended or restored.
        approved: nodes that may route more than before.
    """

    users: frozenset[UserId]
    approved: frozenset[NodeId]


def replace(
    deployment: Deployment, prepared: Access, compiled_against: Snapshot
) -> Decision[Replaced]:
    """Put the deployment in force: policy, settings, people, and the routes it approves.

    Args:
        deployment: the commit, validated.
        prepared: ``deployment.declaration.policy.resolve(compiled_against)``.
        compiled_against: a snapshot of the same tailnet, as new as the compiler could have.

    Raises (when carried out):
        LocalProtocolError: `prepared` is of another policy or tailnet; a bug of the caller.
    """

    def decide(snapshot: Snapshot, now: datetime) -> Outcome[Replaced]:
        if prepared.policy is not deployment.declaration.policy:
            raise LocalProtocolError("the access was resolved from another policy")
        if compiled_against.tailnet != snapshot.tailnet:
            raise LocalProtocolError("the access was resolved for another tailnet")
        people = users.reconcile(snapshot, deployment.declaration.users, now)
        writes: list[Write] = [Put(deployment), *people]
        after, change = snapshot.apply(writes)
        # INVARIANT(access-follows-nodes): what the compiler saw is not what there is now.
        access = prepared.refreshed(after, _moved(compiled_against, after))
        after = dataclasses.replace(after, access=access)
        approvals = _approvals(after)
        after, approved = after.apply(approvals)
        answer = Replaced(change.users, approved.nodes)
        return Outcome(after, change | approved, [*writes, *approvals], answer)

    return decide


def _moved(before: Snapshot, after: Snapshot) -> frozenset[NodeId]:
    """Return the nodes that differ, or whose owner does. Snapshots share what did not change."""
    owners = {u for u, user in after.users.items() if before.users.get(u) is not user}
    moved = {
        node_id
        for node_id, node in after.nodes.items()
        if before.nodes.get(node_id) is not node or node.user in owners
    }
    return frozenset(moved | (before.nodes.keys() - after.nodes.keys()))


def _approvals(snapshot: Snapshot) -> list[Write]:
    """Return what autoApprovers add; they never take an approval away."""
    writes: list[Write] = []
    for node in snapshot.nodes.values():
        approved = auto_approved(snapshot, node)
        if approved != node.approved:
            writes.append(Put(dataclasses.replace(node, approved=approved)))
    return writes
