from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from ipaddress import IPv4Address, ip_network

import msgspec
import pytest

from mergescale.domain.node import Node
from mergescale.domain.record import Drop, Presence, Put
from mergescale.domain.snapshot import Snapshot
from mergescale.domain.tailnet import Settings
from mergescale.kernel.errors import Conflict, Invalid, NotFound
from mergescale.kernel.ids import NodeId, ReplicaId, UserId
from mergescale.kernel.keys import DiscoKey
from mergescale.state import nodes
from mergescale.state.nodes import MAX_ENDPOINTS, MapUpdate, usable_endpoints
from mergescale.state.outcome import Decision
from support.access import table
from support.clock import START
from support.machines import decided, hostinfo
from support.worlds import REPLICA, named, step, world

A, B = NodeId(1), NodeId(2)
LATER = START + timedelta(minutes=10)


def pair(**settings: object) -> Snapshot:
    """Return alice's nodes a and b, a policy with tag:web and tag:db, and routes of tag:db."""
    declaration = table(
        tags={"tag:web": [], "tag:db": []},
        approvers={"10.0.0.0/8": ["tag:db"], "192.168.0.0/16": ["alice@example.com"]},
        settings=Settings(**settings),  # type: ignore[arg-type]
    )
    return world("alice@example.com: a, b", declaration=declaration)


def after(before: Snapshot, decision: Decision[Node]) -> Node:
    """Return node a after the decision, which answered with it and wrote only it."""
    outcome = decision(before, LATER)
    assert outcome.writes == [Put(outcome.answer)] or outcome.writes == (Put(outcome.answer),)
    assert outcome.snapshot.nodes[A] == outcome.answer
    assert outcome.change.nodes == {A}
    return outcome.answer


def unchanged(before: Snapshot, decision: Decision[Node]) -> None:
    """Check that the decision writes nothing."""
    outcome = decision(before, LATER)
    assert (outcome.writes, outcome.snapshot, bool(outcome.change)) == ((), before, False)


def test_unknown_node_is_refused() -> None:
    """Every decision about a node that does not exist says so."""
    ghost = NodeId(99)
    for decision in (
        nodes.update(ghost, MapUpdate(130)),
        nodes.rename(ghost, "x"),
        nodes.set_tags(ghost, ["tag:web"]),
        nodes.expire(ghost),
        nodes.disable_key_expiry(ghost),
        nodes.enable_key_expiry(ghost),
        nodes.authorize(ghost),
        nodes.deauthorize(ghost),
        nodes.set_ipv4(ghost, IPv4Address("100.64.0.9")),
        nodes.delete(ghost),
    ):
        with pytest.raises(NotFound, match="no such node"):
            decision(pair(), START)


# ---------------------------------------------------------------------------- lite updates


def test_update_takes_in_everything() -> None:
    """A lite update replaces what it speaks of: endpoints, disco key, version, host, home relay."""
    before = pair()
    info = hostinfo("renamed", RoutableIPs=["192.168.1.0/24"], NetInfo={"PreferredDERP": 7})
    said = MapUpdate(
        capability_version=135,
        hostinfo=info,
        endpoints=("198.51.100.9:41641", "[2001:db8::1]:41641"),
        disco_key=DiscoKey(bytes([7]) * 32),
    )
    route = ip_network("192.168.1.0/24")
    assert after(before, nodes.update(A, said)) == replace(
        named(before, "a"),
        capability_version=135,
        hostinfo=info.raw,
        name="renamed",
        home_derp=7,
        advertised=(route,),
        approved=frozenset({route}),
        endpoints=("198.51.100.9:41641", "[2001:db8::1]:41641"),
        disco_key=said.disco_key,
    )


def test_update_without_news_writes_nothing() -> None:
    """Repeating what is known, in any order of endpoints, writes nothing."""
    ends = ("198.51.100.9:41641", "203.0.113.1:1")
    said = MapUpdate(130, hostinfo("a", NetInfo={"PreferredDERP": 7}), ends)
    before, _ = decided(pair(), nodes.update(A, said), START)
    unchanged(before, nodes.update(A, replace(said, endpoints=ends[::-1] + ends)))
    unchanged(before, nodes.update(A, MapUpdate(130)))
    unchanged(before, nodes.update(A, MapUpdate(130, hostinfo("a"))))


def test_missing_netinfo_keeps_the_last_one() -> None:
    """A Hostinfo without NetInfo changes neither the home relay nor the stored NetInfo."""
    first = hostinfo("a", NetInfo={"PreferredDERP": 7, "WorkingUDP": True})
    before, _ = decided(pair(), nodes.update(A, MapUpdate(130, first)), START)
    node = after(before, nodes.update(A, MapUpdate(130, hostinfo("a", OSVersion="6.1"))))
    assert node.home_derp == 7
    assert msgspec.json.decode(node.hostinfo) == {
        "Hostname": "a",
        "OS": "linux",
        "OSVersion": "6.1",
        "NetInfo": {"PreferredDERP": 7, "WorkingUDP": True},
    }


def test_zero_disco_key_keeps_the_last_one() -> None:
    """A zero disco key in an early request does not take the known one away (pitfall 25)."""
    node = after(pair(), nodes.update(A, MapUpdate(131, disco_key=DiscoKey.zero())))
    assert node == replace(named(pair(), "a"), capability_version=131)
    assert node.disco_key


def test_empty_hostinfo_says_nothing() -> None:
    """A request without a Hostinfo leaves name, routes and home relay alone."""
    unchanged(pair(), nodes.update(A, MapUpdate(130, hostinfo())))


def test_taken_host_name_gets_a_number() -> None:
    """A host name that another node has got a label from is numbered."""
    assert after(pair(), nodes.update(A, MapUpdate(130, hostinfo("b")))).name == "b-1"


def test_numbered_node_keeps_its_number() -> None:
    """A numbered node that says the same again is not renamed when the number becomes free."""
    before, _ = decided(pair(), nodes.update(A, MapUpdate(130, hostinfo("b"))), START)
    before, _ = decided(before, nodes.delete(B), START)
    said = MapUpdate(130, hostinfo("b", OSVersion="7"))
    assert after(before, nodes.update(A, said)).name == "b-1"


def test_routes_are_auto_approved_and_stay() -> None:
    """Advertised routes that the policy approves are approved; withdrawing keeps the approval."""
    both = hostinfo("a", RoutableIPs=["192.168.1.0/24", "10.0.0.0/24"])
    before, node = decided(pair(), nodes.update(A, MapUpdate(130, both)), START)
    assert node.advertised == (ip_network("10.0.0.0/24"), ip_network("192.168.1.0/24"))
    assert node.approved == {ip_network("192.168.1.0/24")}
    node = after(before, nodes.update(A, MapUpdate(130, hostinfo("a"))))
    assert (node.advertised, node.approved) == ((), frozenset({ip_network("192.168.1.0/24")}))


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("192.0.2.1:41641", True),
        ("[2001:db8::1]:1", True),
        ("10.0.0.1:65535", True),
        ("[fe80::1]:41641", False),
        ("[fe80::1%eth0]:41641", False),
        ("[2001:db8::1%1]:41641", False),
        ("2001:db8::1:41641", False),
        ("[192.0.2.1]:41641", False),
        ("0.0.0.0:41641", False),
        ("192.0.2.1:0", False),
        ("192.0.2.1:65536", False),
        ("192.0.2.1:9999999999999999999999", False),
        ("192.0.2.1:٤", False),
        ("192.0.2.1", False),
        ("host:1", False),
        ("", False),
    ],
)
def test_only_endpoints_that_mean_something_are_kept(text: str, kept: bool) -> None:
    """Link-local, zoned and malformed endpoints are left out."""
    assert usable_endpoints([text]) == ((text,) if kept else ())


def test_endpoints_are_bounded() -> None:
    """One node cannot hand an endless list to everybody."""
    ends = [f"192.0.2.1:{port}" for port in range(1, 1000)]
    assert len(usable_endpoints(ends)) == MAX_ENDPOINTS


# ---------------------------------------------------------------------------- names


def test_rename_pins() -> None:
    """A name given by an operator stays when the host name changes."""
    before, node = decided(pair(), nodes.rename(A, "Boss"), START)
    assert node == replace(named(pair(), "a"), name="boss", name_pinned=True)
    said = MapUpdate(130, hostinfo("other"))
    assert after(before, nodes.update(A, said)).name == "boss"
    unchanged(before, nodes.rename(A, "boss"))


def test_empty_name_goes_back_to_the_host_name() -> None:
    """An empty name unpins: the node is called by its host name again."""
    before, _ = decided(pair(), nodes.rename(A, "boss"), START)
    assert after(before, nodes.rename(A, "")) == named(pair(), "a")


def test_taken_name_is_refused() -> None:
    """An operator's name is never numbered: a taken one is refused."""
    with pytest.raises(Conflict, match='another node is called "b"'):
        nodes.rename(A, "B")(pair(), START)
    with pytest.raises(Invalid, match=r'"a\.b" is not a name for a node'):
        nodes.rename(A, "a.b")(pair(), START)


# ---------------------------------------------------------------------------- tags


def test_tags_take_the_node_over() -> None:
    """A tagged node loses its user and its key expiry, and gains the routes of its tags."""
    before = pair()
    route = ip_network("10.1.0.0/16")
    node = replace(named(before, "a"), advertised=(route,), key_expiry=LATER + timedelta(days=1))
    before = step(before, [Put(node)])
    assert after(before, nodes.set_tags(A, ["tag:web", "tag:db", "tag:web"])) == replace(
        node,
        user=None,
        tags=("tag:db", "tag:web"),
        key_expiry=None,
        approved=frozenset({route}),
    )


def test_tagging_does_not_bring_an_expired_node_back() -> None:
    """A node that logged out stays out when an operator tags it."""
    before, node = decided(pair(), nodes.expire(A), START)
    assert node.key_expiry == START
    assert after(before, nodes.set_tags(A, ["tag:web"])).key_expiry == START


def test_undeclared_tags_are_refused() -> None:
    """Tags must be declared; none is given if one is not."""
    with pytest.raises(Invalid, match='tags "tag:x" are not declared'):
        nodes.set_tags(A, ["tag:web", "tag:x"])(pair(), START)


def test_tagged_node_keeps_some_tag() -> None:
    """A tagged node cannot be left without tags; a user's node has none to lose."""
    before, _ = decided(pair(), nodes.set_tags(A, ["tag:web"]), START)
    with pytest.raises(Invalid, match="a node cannot lose all of its tags"):
        nodes.set_tags(A, [])(before, START)
    unchanged(pair(), nodes.set_tags(A, []))


# ---------------------------------------------------------------------------- expiry, approval


def test_expire_now_or_later_but_never_in_the_past() -> None:
    """A key expires at the time asked for, at the earliest now (pitfall 31)."""
    before, node = pair(), named(pair(), "a")
    assert after(before, nodes.expire(A)) == replace(node, key_expiry=LATER)
    past, future = START - timedelta(days=9000), LATER + timedelta(days=3)
    assert after(before, nodes.expire(A, past)) == replace(node, key_expiry=LATER)
    assert after(before, nodes.expire(A, future)) == replace(node, key_expiry=future)
    expired, _ = decided(before, nodes.expire(A), START)
    unchanged(expired, nodes.expire(A))
    assert after(expired, nodes.expire(A, future)) == replace(node, key_expiry=future)


def test_key_expiry_is_switched_off_and_on() -> None:
    """Expiry can be disabled, and enabled again for the tailnet's time from now."""
    before = pair(key_expiry=timedelta(days=30))
    off = after(before, nodes.disable_key_expiry(A))
    assert (off.key_expiry, off.expiry_disabled) == (None, True)
    before = step(before, [Put(off)])
    unchanged(before, nodes.disable_key_expiry(A))
    node = after(before, nodes.enable_key_expiry(A))
    assert (node.key_expiry, node.expiry_disabled) == (LATER + timedelta(days=30), False)
    before = step(before, [Put(node)])
    unchanged(before, nodes.enable_key_expiry(A))
    assert after(before, nodes.disable_key_expiry(A)).key_expiry is None


def test_enabling_expiry_without_a_setting_uses_the_default() -> None:
    """Where user keys never expire, one whose expiry is enabled gets the default time."""
    node = after(pair(key_expiry=None), nodes.enable_key_expiry(A))
    assert node.key_expiry == LATER + timedelta(days=180)


def test_device_approval_is_given_and_taken() -> None:
    """An operator approves a device and takes that back."""
    before = pair()
    unchanged(before, nodes.authorize(A))
    node = after(before, nodes.deauthorize(A))
    assert node == replace(named(before, "a"), authorized=False)
    assert after(step(before, [Put(node)]), nodes.authorize(A)) == named(before, "a")


# ---------------------------------------------------------------------------- address, delete


def test_address_is_moved() -> None:
    """An operator may choose a free IPv4 address; the old one is free then."""
    before = pair()
    address = IPv4Address("100.64.7.7")
    outcome = nodes.set_ipv4(A, address)(before, START)
    assert outcome.answer == replace(named(before, "a"), ipv4=address)
    assert outcome.snapshot.addresses[address] == A
    assert named(before, "a").ipv4 not in outcome.snapshot.addresses
    with pytest.raises(Conflict, match='belongs to "b"'):
        nodes.set_ipv4(A, named(before, "b").ipv4)(before, START)


def test_delete_takes_presence_along() -> None:
    """Deleting a node removes its presence at every replica, in the journal too."""
    other = ReplicaId("replica-2")
    before = step(pair(), [Put(Presence(A, other, START))])
    node = named(before, "a")
    outcome = nodes.delete(A)(before, LATER)
    assert outcome.writes == [
        Drop(Presence(A, REPLICA, node.created)),
        Drop(Presence(A, other, node.created)),
        Drop(node),
    ]
    assert outcome.answer == node
    assert set(outcome.snapshot.nodes) == set(outcome.snapshot.presence) == {B}
    assert outcome.snapshot.counters == before.counters
    assert outcome.snapshot.users[UserId(1)].login == "alice@example.com"
