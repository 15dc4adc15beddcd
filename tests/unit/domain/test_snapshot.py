from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from mergescale.domain.change import Change
from mergescale.domain.node import Node
from mergescale.domain.record import Counters, Drop, Presence, Put
from mergescale.domain.snapshot import Snapshot
from mergescale.domain.tailnet import Settings
from mergescale.domain.user import Role
from mergescale.kernel.ids import LoginId, NodeId, ReplicaId, TailnetName, UserId
from mergescale.kernel.keys import NodeKey
from mergescale.state.registration import register
from support.access import table
from support.clock import START
from support.machines import Machine
from support.worlds import REPLICA, key_bytes, named, node, world

A, B = NodeId(1), NodeId(2)
EMPTY = Snapshot(TailnetName("default"))


def test_node_is_found_by_everything_it_has() -> None:
    """A node is indexed by key, machine, name and both addresses; the change names it."""
    laptop = node(1, "laptop", user=None, tags=("tag:x",))
    after, change = EMPTY.apply([Put(laptop)])
    assert change == Change(nodes=frozenset({A}))
    assert after.nodes == {A: laptop}
    assert after.by_node_key == {laptop.node_key: A}
    assert after.by_machine == {laptop.machine_key: {A}}
    assert after.names == {"laptop": A}
    assert after.addresses == {laptop.ipv4: A, laptop.ipv6: A}
    assert after.slots.of == {A: 0}
    assert EMPTY.nodes == {}


def test_replaced_node_leaves_nothing_behind() -> None:
    """Replacing a node takes its old key, name and addresses out of the indexes."""
    before = world("tag:x: laptop")
    other = node(7, "phone", user=None, tags=("tag:x",))
    moved = replace(other, id=A)
    after, _ = before.apply([Put(moved)])
    assert after.by_node_key == {moved.node_key: A}
    assert after.by_machine == {moved.machine_key: {A}}
    assert after.names == {"phone": A}
    assert after.addresses == {moved.ipv4: A, moved.ipv6: A}
    assert after.slots == before.slots


def test_dropped_node_leaves_nothing_behind() -> None:
    """Dropping a node takes presence and every index entry with it."""
    before = world("tag:x: laptop")
    after, change = before.apply([Drop(named(before, "laptop"))])
    assert change == Change(nodes=frozenset({A}))
    for index in ("nodes", "presence", "by_node_key", "by_machine", "names", "addresses"):
        assert getattr(after, index) == {}
    assert after.slots.of == {}
    assert after.apply([Drop(named(before, "laptop"))])[0].nodes == {}


def test_values_may_change_hands_in_one_batch() -> None:
    """Two nodes may swap names, keys and addresses, in either order of the writes."""
    before = world("tag:x: a, b")
    a, b = named(before, "a"), named(before, "b")

    def swapped(one: Node, other: Node) -> list[Put]:
        fields = ("name", "node_key", "ipv4", "ipv6")
        return [
            Put(replace(mine, **{name: getattr(theirs, name) for name in fields}))
            for mine, theirs in ((one, other), (other, one))
        ]

    for writes in (swapped(a, b), swapped(b, a)):
        after, _ = before.apply(writes)
        assert after.names == {"a": B, "b": A}
        assert after.by_node_key == {a.node_key: B, b.node_key: A}
        assert after.addresses == {a.ipv4: B, a.ipv6: B, b.ipv4: A, b.ipv6: A}


def test_logins_may_change_hands_in_one_batch() -> None:
    """Two people may swap logins."""
    before = world("alice@x: ; bob@x: ")
    alice, bob = before.users[UserId(1)], before.users[UserId(2)]
    after, _ = before.apply(
        [Put(replace(alice, login="bob@x")), Put(replace(bob, login="alice@x"))]
    )
    assert after.by_login == {"alice@x": bob.id, "bob@x": alice.id}


def test_machine_may_have_several_nodes() -> None:
    """One machine key may belong to several nodes; each is found by its own node key."""
    before = world("tag:x: a")
    second = replace(node(2, "b", user=None, tags=("tag:x",)), machine_key=Machine("a").key)
    after, _ = before.apply([Put(second)])
    assert after.by_machine == {Machine("a").key: {A, B}}
    gone, _ = after.apply([Drop(named(after, "a"))])
    assert gone.by_machine == {Machine("a").key: {B}}


def test_node_is_found_by_its_own_machine_only() -> None:
    """A node key under another machine key finds nothing (pitfall 20)."""
    before = world("tag:x: a, b")
    a = named(before, "a")
    assert before.node_of(a.machine_key, a.node_key) is a
    assert before.node_of(named(before, "b").machine_key, a.node_key) is None
    assert before.node_of(a.machine_key, NodeKey(key_bytes("unknown"))) is None


def test_presence_is_counted_by_replica() -> None:
    """A node is online while any replica holds it; each step names it."""
    other = ReplicaId("replica-2")
    before = world("tag:x: a")
    both, change = before.apply([Put(Presence(A, other, START))])
    assert both.presence == {A: {REPLICA, other}}
    assert change == Change(nodes=frozenset({A}))
    one, _ = both.apply([Drop(Presence(A, REPLICA, START))])
    assert one.online(A)
    none, change = one.apply([Drop(Presence(A, other, START))])
    assert (none.presence, change) == ({}, Change(nodes=frozenset({A})))


def test_what_selectors_match_by_names_the_users_nodes() -> None:
    """Login, role and suspension of a person move the nodes; the display name does not."""
    before = world("alice@x: a, b; bob@x: c")
    alice = before.users[UserId(1)]
    mine = frozenset({A, B})
    for after, nodes in (
        (replace(alice, login="al@x"), mine),
        (replace(alice, role=Role.ADMIN), mine),
        (replace(alice, suspended=True), mine),
        (replace(alice, display_name="Al"), frozenset()),
    ):
        change = before.apply([Put(after)])[1]
        assert change == Change(nodes=nodes, users=frozenset({alice.id}))
    renamed, _ = before.apply([Put(replace(alice, login="Al@x"))])
    assert renamed.by_login == {"al@x": 1, "bob@x": 2}
    assert renamed.user_by_login("AL@X") == renamed.users[UserId(1)]
    assert renamed.user_by_login("alice@x") is None


def test_keys_are_nobodys_change() -> None:
    """Counters and keys differ without any map that could."""
    after, change = EMPTY.apply([Put(Counters(NodeId(5), UserId(6)))])
    assert (after.counters, change) == (Counters(NodeId(5), UserId(6)), Change())
    assert not change


def test_logins_are_named() -> None:
    """A login that comes or goes is named, so that who waits for it wakes."""
    pending = register(Machine("m").asks())(EMPTY, START).snapshot
    [login] = pending.logins.values()
    assert pending.apply([Drop(login)])[1] == Change(logins=frozenset({LoginId(login.id)}))


def test_deployment_decides_settings() -> None:
    """Settings are the declaration's, or the defaults before the first commit."""
    assert EMPTY.settings == Settings()
    assert (EMPTY.domain, EMPTY.magic_dns_suffix) == ("default", "default.tailnet.internal")
    declaration = table(settings=Settings(domain="example.com", magic_dns_suffix="ts.example.com"))
    before = world("", declaration=declaration)
    assert (before.domain, before.magic_dns_suffix) == ("example.com", "ts.example.com")
    assert before.policy is declaration.policy
    assert before.deployment is not None
    after, change = before.apply([Drop(before.deployment)])
    assert (after.policy, change) == (None, Change(access=True, tailnet=True))


def test_who_takes_part() -> None:
    """Nodes that await approval, and those of the suspended, take no part; tagged ones do."""
    before = world("alice@x: a; tag:x: t")
    a, t = named(before, "a"), named(before, "t")
    assert before.takes_part(a)
    assert before.takes_part(t)
    assert not before.takes_part(replace(a, authorized=False))
    suspended, _ = before.apply([Put(replace(before.users[UserId(1)], suspended=True))])
    assert not suspended.takes_part(a)
    assert suspended.takes_part(t)


def test_expiry_is_inclusive() -> None:
    """A node key is expired at its very moment; one without expiry never is."""
    a = node(1, "a", user=UserId(1))
    assert not a.expired(START + timedelta(days=99999))
    expiring = replace(a, key_expiry=START)
    assert expiring.expired(START)
    assert not expiring.expired(START - timedelta(microseconds=1))
