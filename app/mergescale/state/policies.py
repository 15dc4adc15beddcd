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
from mergescale.kernel.errors import Conflict, LocalProtocolError
from mergescale.kernel.ids import NodeId, UserId
from mergescale.state import users
from mergescale.state.outcome import Decision, Outcome
from mergescale.state.routes import auto_approved


class PolicyMoved(Conflict):
    """Raised when another policy is in force than the one that was to be replaced."""

    code = "conflict.policy-moved"


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
    deployment: Deployment,
    prepared: Access,
    compiled_against: Snapshot,
    *,
    over: str | None = None,
) -> Decision[Replaced]:
    """Put the deployment in force: policy, settings, people, and the routes it approves.

    Args:
        deployment: the commit, validated.
        prepared: ``deployment.declaration.policy.resolve(compiled_against)``.
        compiled_against: a snapshot of the same tailnet, as new as the compiler could have.
        over: `in_force` that it is to replace; None for whatever it is by then.

    Raises (when carried out):
        PolicyMoved: something else than `over` is in force.
        LocalProtocolError: `prepared` is of another policy or tailnet; a bug of the caller.
    """

    def decide(snapshot: Snapshot, now: datetime) -> Outcome[Replaced]:
        if prepared.policy is not deployment.declaration.policy:
            raise LocalProtocolError("the access was resolved from another policy")
        if compiled_against.tailnet != snapshot.tailnet:
            raise LocalProtocolError("the access was resolved for another tailnet")
        if over is not None and in_force(snapshot) != over:
            raise PolicyMoved("another policy came into force meanwhile")
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


def in_force(snapshot: Snapshot) -> str:
    """Return the id of the commit in force, empty for none."""
    return "" if snapshot.deployment is None else snapshot.deployment.commit


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
