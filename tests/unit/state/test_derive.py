from __future__ import annotations

from ipaddress import ip_network

from mergescale.domain.access import DENY_ALL
from mergescale.domain.change import NOTHING, Change
from mergescale.domain.record import Drop, Presence, Primary, Put
from mergescale.domain.snapshot import Snapshot
from mergescale.kernel.ids import NodeId, UserId
from mergescale.state import nodes, presence, routes, users
from mergescale.state.derive import derive, elections
from support.access import follows, table
from support.clock import START
from support.machines import decided
from support.worlds import REPLICA, named, routed, step, world

NET = ip_network("10.0.0.0/24")


def routers(*, online: bool = True) -> Snapshot:
    """Return r1, r2, r3, oldest first, all approved for `NET`."""
    before = world("alice@example.com: r1, r2; tag:r: r3", online=online)
    for name in ("r3", "r2", "r1"):
        before = routed(before, name, "10.0.0.0/24")
    return before


def primary(snapshot: Snapshot) -> str | None:
    holder = snapshot.primaries.get(NET)
    return None if holder is None else snapshot.nodes[holder].name


def offline(before: Snapshot, name: str) -> Snapshot:
    decision = presence.disconnected(named(before, name).id, REPLICA)
    return decided(before, decision, START)[0]


def online(before: Snapshot, name: str) -> Snapshot:
    return decided(before, presence.connected(named(before, name).id, REPLICA), START)[0]


def all_at_once() -> Snapshot:
    """Return the routers as a restarted server would load them: in one batch."""
    built = routers()
    writes = [Put(user) for user in built.users.values()]
    records = [Put(node) for node in built.nodes.values()]
    here = [Put(Presence(node, REPLICA, START)) for node in built.nodes]
    return step(Snapshot(built.tailnet), [*writes, *records, *here])


def test_oldest_router_carries_the_route() -> None:
    """Of several approved online routers the one created first is primary."""
    assert primary(all_at_once()) == "r1"


def test_primary_is_sticky() -> None:
    """A router that carries a route keeps it, even when an older one becomes able."""
    assert primary(routers()) == "r3"


def test_primary_fails_over_and_does_not_flap_back() -> None:
    """When the primary goes offline the oldest online one takes over, and keeps the route."""
    before = offline(all_at_once(), "r1")
    assert primary(before) == "r2"
    assert primary(online(before, "r1")) == "r2"


def test_a_restart_keeps_the_primary() -> None:
    """Loaded in one batch with who carries the route, it is that one and not the oldest."""
    built = routers()
    assert primary(built) == "r3"
    writes = [Put(record) for record in built.records()]
    assert primary(step(Snapshot(built.tailnet), writes)) == "r3"
    asleep = [write for write in writes if not isinstance(write.record, Presence)]
    assert primary(step(Snapshot(built.tailnet), asleep)) == "r3"


def test_a_stored_primary_that_is_gone_carries_nothing() -> None:
    """A node that could not be loaded is replaced by the oldest of the others, or by nobody."""
    built = routers()
    lost = named(built, "r3").id
    others = [
        Put(record)
        for record in built.records()
        if not isinstance(record, Presence) and record != named(built, "r3")
    ]
    assert primary(step(Snapshot(built.tailnet), others)) == "r1"
    assert not step(Snapshot(built.tailnet), [Put(Primary(NET, lost))]).primaries


def test_elections_are_what_moved() -> None:
    """Only routes that changed hands are written: given, taken over, given up."""
    before = world("tag:r: r1, r2")
    given = routed(before, "r1", "10.0.0.0/24", "10.1.0.0/24")
    [one, other] = [ip_network(text) for text in ("10.0.0.0/24", "10.1.0.0/24")]
    first, second = named(before, "r1").id, named(before, "r2").id
    assert set(elections(before, given)) == {Put(Primary(one, first)), Put(Primary(other, first))}
    both = routed(given, "r2", "10.0.0.0/24")
    assert list(elections(given, both)) == []
    after = step(both, [Drop(named(both, "r1"))])
    assert list(elections(both, after)) == [
        Drop(Primary(other, first)),
        Put(Primary(one, second)),
    ]


def test_all_offline_keeps_the_last() -> None:
    """With nobody online the last primary keeps the route; the first to return takes it."""
    before = all_at_once()
    for name in ("r2", "r3", "r1"):
        before = offline(before, name)
    assert primary(before) == "r1"
    assert primary(online(before, "r3")) == "r3"


def test_route_without_router_has_no_primary() -> None:
    """A route nobody is approved for, or whose routers are gone, has no primary."""
    before = all_at_once()
    for name in ("r1", "r2"):
        before, _ = decided(before, routes.approve(named(before, name).id, []), START)
    assert primary(before) == "r3"
    before, _ = decided(before, nodes.delete(named(before, "r3").id), START)
    assert NET not in before.primaries


def test_who_takes_no_part_carries_nothing() -> None:
    """Deauthorized routers and those of suspended users lose their routes."""
    before = all_at_once()
    after, _ = decided(before, nodes.deauthorize(named(before, "r1").id), START)
    assert primary(after) == "r2"
    after, _ = decided(before, users.suspend(UserId(1)), START)
    assert primary(after) == "r3"


def test_exit_routes_have_no_primary() -> None:
    """Every approved exit node is one; none is primary."""
    before = routed(world("tag:r: r"), "r", "0.0.0.0/0", "::/0")
    assert not before.primaries


def test_failover_names_both_routers() -> None:
    """The change names who lost a route and who won it."""
    before = all_at_once()
    outcome = presence.disconnected(named(before, "r1").id, REPLICA)(before, START)
    _, change = derive(before, outcome.snapshot, outcome.change)
    assert change.nodes == {named(before, "r1").id, named(before, "r2").id}


def test_access_follows_each_batch() -> None:
    """Access is resolved when the policy is new, refreshed when nodes moved, denied without."""
    before = world("alice@example.com: a, b")
    assert before.access is DENY_ALL
    before = world("alice@example.com: a, b", declaration=table())
    assert follows(before)
    after = step(before, [Drop(named(before, "a"))])
    assert set(after.nodes) == {NodeId(2)}
    assert follows(after)


def test_nothing_changed_nothing_derived() -> None:
    """Without a change the snapshot is returned as it is."""
    before = world("alice@example.com: a")
    assert derive(before, before, NOTHING) == (before, Change())
