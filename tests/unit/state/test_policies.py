from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_network

import pytest

from mergescale.domain.change import Change
from mergescale.domain.declaration import Declaration, DeclaredUser, Deployment
from mergescale.domain.record import Put
from mergescale.domain.snapshot import Snapshot
from mergescale.domain.user import Role
from mergescale.kernel.errors import LocalProtocolError
from mergescale.kernel.ids import NodeId, UserId
from mergescale.state import nodes, policies, presence, users
from mergescale.state.engine import advance
from mergescale.state.outcome import Outcome
from mergescale.state.policies import Replaced
from mergescale.state.ports import Batch
from support.access import follows, table
from support.clock import START
from support.machines import decided
from support.worlds import REPLICA, deployment, named, routed, world

NET = ip_network("10.0.0.0/24")


def putting(
    declaration: Declaration, before: Snapshot, *, against: Snapshot | None = None
) -> Outcome[Replaced]:
    """Put a declaration in force that was compiled against an older snapshot."""
    compiled_against = before if against is None else against
    prepared = declaration.policy.resolve(compiled_against)
    wanted: Deployment = deployment(declaration)
    return policies.replace(wanted, prepared, compiled_against)(before, START)


def test_commit_is_in_force() -> None:
    """The deployment is written and named; access is resolved and kept by what follows."""
    before = world("alice@example.com: a, b")
    declaration = table()
    outcome = putting(declaration, before)
    assert [type(write.record) for write in outcome.writes] == [Deployment]
    assert outcome.change == Change(access=True, tailnet=True)
    assert outcome.snapshot.policy is declaration.policy
    assert outcome.answer == Replaced(frozenset(), frozenset())
    assert follows(outcome.snapshot)


def test_what_moved_since_compiling_is_resolved_again() -> None:
    """Nodes that came, went or changed while the policy was compiled are right in the access."""
    against = world("alice@example.com: a, b, c; bob@example.com: d")
    before, _ = decided(against, nodes.delete(NodeId(1)), START)
    before, _ = decided(before, nodes.rename(NodeId(2), "renamed"), START)
    before, _ = decided(before, users.suspend(UserId(2)), START)
    before, _ = decided(before, presence.disconnected(NodeId(3), REPLICA), START)
    outcome = putting(table(), before, against=against)
    assert follows(outcome.snapshot)
    assert set(outcome.snapshot.nodes) == {2, 3, 4}


def test_people_follow_the_commit() -> None:
    """People are made, changed and suspended by the commit, and their nodes resolved anew."""
    alice = DeclaredUser("alice@example.com", "Alice", Role.ADMIN, suspended=False)
    carol = DeclaredUser("carol@example.com", "Carol", Role.MEMBER, suspended=False)
    before = world("alice@example.com: a; bob@example.com: b")
    first = putting(table(users=(alice, carol)), before)
    assert first.answer.users == {1, 3}
    assert first.snapshot.users[UserId(1)].role is Role.ADMIN
    assert follows(first.snapshot)
    second = putting(table(users=(carol,)), first.snapshot)
    assert second.answer.users == {1}
    assert second.snapshot.users[UserId(1)].suspended
    assert not second.snapshot.users[UserId(2)].suspended
    assert second.change == Change(
        nodes=frozenset({NodeId(1)}), users=frozenset({UserId(1)}), access=True, tailnet=True
    )


def test_routes_are_approved_by_the_new_policy_and_stay() -> None:
    """AutoApprovers of the new policy approve; what an old one approved stays approved."""
    before = routed(world("tag:r: r"), "r", "10.0.0.0/24", approved=False)
    approving = table(approvers={"10.0.0.0/8": ["tag:r"]})
    first = putting(approving, before)
    assert named(first.snapshot, "r").approved == {NET}
    assert first.answer.approved == {1}
    assert first.change.nodes == {1}
    second = putting(table(), first.snapshot)
    assert named(second.snapshot, "r").approved == {NET}
    assert second.answer.approved == frozenset()


def test_access_of_another_policy_is_a_bug() -> None:
    """An access that was prepared for something else is refused, loudly."""
    before = world("alice@example.com: a")
    other = table().policy.resolve(before)
    with pytest.raises(LocalProtocolError, match="from another policy"):
        policies.replace(deployment(table()), other, before)(before, START)
    declaration = table()
    stranger = world("", tailnet="other")
    prepared = declaration.policy.resolve(stranger)
    with pytest.raises(LocalProtocolError, match="for another tailnet"):
        policies.replace(deployment(declaration), prepared, stranger)(before, START)


def test_replica_ends_at_the_same_access() -> None:
    """A replica that reads the batch from the journal has the same policy over the same nodes."""
    before = routed(world("tag:r: r"), "r", "10.0.0.0/24", approved=False)
    outcome = putting(table(approvers={"10.0.0.0/8": ["tag:r"]}), before)
    after, change = advance(before, Batch(before.revision, outcome.writes))
    assert after.nodes == outcome.snapshot.nodes
    assert after.policy is outcome.snapshot.policy
    assert follows(after)
    assert change == outcome.change


def test_settings_come_with_the_commit() -> None:
    """Settings of the declaration are the tailnet's from then on."""
    declaration = replace(table(), settings=replace(table().settings, domain="example.com"))
    outcome = putting(declaration, world(""))
    assert outcome.snapshot.domain == "example.com"
    assert Put(outcome.snapshot.deployment) in outcome.writes  # type: ignore[arg-type]
