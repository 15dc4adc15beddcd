"""What a client is told when something differs, form by form (spec 4.5, 4.6)."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from mergescale.domain.change import Change
from mergescale.domain.declaration import Declaration
from mergescale.domain.node import Node
from mergescale.domain.record import Drop, Presence, Put, Write
from mergescale.domain.snapshot import Snapshot
from mergescale.domain.tailnet import Dns, Settings
from mergescale.domain.user import Role
from mergescale.kernel.ids import NodeId, UserId
from mergescale.kernel.keys import DiscoKey, NodeKey
from mergescale.netmap.encoder import Encoder
from mergescale.wire.mapframe import Compression, Decoder
from support.clock import START
from support.policies import policy
from support.reach import EVERYONE, Rule, declare
from support.tailnet_story import REGION, happen
from support.worlds import REPLICA, deployment, key_bytes, named, node, routed, step, world

PAIR = world("alice@example.com: laptop, phone", declaration=declare(EVERYONE))
PHONE = named(PAIR, "phone")
LATER = START + timedelta(hours=1)


def told(before: Snapshot, writes: Iterable[Write], viewer: str = "laptop") -> Any:
    """Return the delta that the writes give, None for silence."""
    after, change = happen(before, list(writes))
    frame = Encoder(REGION).delta(before, after, change, named(before, viewer).id, Compression.NONE)
    return None if frame is None else json.loads(frame[4:])


def patch(**fields: Any) -> Any:
    return {"PeersChangedPatch": [{"NodeID": 2, **fields}]}


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (replace(PHONE, endpoints=("192.0.2.9:9",)), patch(Endpoints=["192.0.2.9:9"])),
        (replace(PHONE, endpoints=()), patch(Endpoints=[])),
        (replace(PHONE, home_derp=901), patch(DERPRegion=901)),
        (replace(PHONE, capability_version=131), patch(Cap=131)),
        (replace(PHONE, key_expiry=LATER), patch(KeyExpiry="2026-01-01T01:00:00Z")),
        (
            replace(PHONE, node_key=NodeKey(bytes(31) + b"\1")),
            patch(Key="nodekey:" + "0" * 63 + "1"),
        ),
        (
            replace(PHONE, disco_key=DiscoKey(bytes(31) + b"\2"), endpoints=("192.0.2.9:9",)),
            patch(DiscoKey="discokey:" + "0" * 63 + "2", Endpoints=["192.0.2.9:9"]),
        ),
    ],
    ids=["endpoints", "no endpoints", "region", "cap", "expiry", "key", "disco"],
)
def test_what_a_patch_can_say_goes_as_a_patch(changed: Node, message: Any) -> None:
    """Only what differs is in it; an empty list of endpoints is said and not left out."""
    assert told(PAIR, [Put(changed)]) == message


@pytest.mark.parametrize(
    "changed",
    [
        replace(PHONE, name="tablet"),
        replace(PHONE, user=None, tags=("tag:web",)),
        replace(PHONE, hostinfo=b'{"OS":"android"}'),
        replace(PHONE, disco_key=DiscoKey.zero()),
    ],
    ids=["name", "owner", "hostinfo", "disco key gone"],
)
def test_what_a_patch_cannot_say_goes_whole(changed: Node) -> None:
    """The whole node, exactly as the full map has it, and nothing besides."""
    after, _ = happen(PAIR, [Put(changed)])
    full = json.loads(Encoder(REGION).full(after, NodeId(1), Compression.NONE, START)[4:])
    message = told(PAIR, [Put(changed)])
    assert message["PeersChanged"] == full["Peers"]
    assert message.keys() - {"UserProfiles", "PacketFilters"} == {"PeersChanged"}


def test_an_expiry_that_is_lifted_goes_whole_with_a_patch_for_the_rest() -> None:
    """Go turns such a node into a patch itself and would lose the endpoints that went."""
    before = step(PAIR, [Put(replace(PHONE, key_expiry=LATER))])
    message = told(before, [Put(replace(PHONE, endpoints=()))])
    assert "KeyExpiry" not in message["PeersChanged"][0]
    assert message["PeersChangedPatch"] == [{"NodeID": 2, "Endpoints": []}]


def leaving(changed: Node) -> list[Write]:
    return [Drop(Presence(PHONE.id, REPLICA, START)), Put(replace(changed, last_seen=LATER))]


def test_going_offline_is_a_patch_with_the_time() -> None:
    """Rust takes Online false with LastSeen for offline since then."""
    assert told(PAIR, leaving(PHONE)) == patch(Online=False, LastSeen="2026-01-01T01:00:00Z")


def test_coming_back_is_a_patch_without_a_time() -> None:
    """WIRE(rust): Online true beside a LastSeen would read as unknown."""
    gone = step(PAIR, leaving(PHONE))
    assert told(gone, [Put(Presence(PHONE.id, REPLICA, LATER))]) == patch(Online=True)


def test_a_new_disco_key_of_a_node_that_left_is_not_dropped() -> None:
    """SPEC(4.6): never DiscoKey, Online false and LastSeen in one patch; OnlineChange goes first."""
    message = told(PAIR, leaving(replace(PHONE, disco_key=DiscoKey(bytes(31) + b"\2"))))
    assert message == {
        "OnlineChange": {"2": False},
        "PeersChangedPatch": [
            {
                "NodeID": 2,
                "DiscoKey": "discokey:" + "0" * 63 + "2",
                "LastSeen": "2026-01-01T01:00:00Z",
            }
        ],
    }


def test_a_node_that_goes_is_removed() -> None:
    """By its id, and the filter chunk changes with the sources that are left."""
    message = told(PAIR, [Drop(PHONE)])
    assert message["PeersRemoved"] == [2]
    assert message.keys() == {"PeersRemoved", "PacketFilters"}
    assert message["PacketFilters"][EVERYONE.name][0]["SrcIPs"] == [
        "100.64.0.1",
        "fd7a:115c:a1e0::1",
    ]


def test_a_newcomer_comes_with_its_owner() -> None:
    """A peer is never there without the profile that it needs."""
    before = world("alice@example.com: laptop; bob@example.com:", declaration=declare(EVERYONE))
    message = told(before, [Put(node(7, "desk", user=UserId(2)))])
    assert [peer["Name"] for peer in message["PeersChanged"]] == ["desk.default.tailnet.internal."]
    assert [profile["LoginName"] for profile in message["UserProfiles"]] == ["bob@example.com"]


def test_a_policy_change_sends_the_chunks_that_differ() -> None:
    """What a rule says names its chunk: edits elsewhere leave it alone, a deleted one is null."""
    kept, old, new = EVERYONE, Rule(("*",), ("*",), (22, 22)), Rule(("*",), ("*",), (80, 80))
    before = world("alice@example.com: laptop, phone", declaration=declare(kept, old))
    message = told(before, [Put(deployment(declare(kept, new)))])
    assert message.keys() == {"PacketFilters"}
    chunks = message["PacketFilters"]
    assert (chunks.keys(), chunks[old.name]) == ({old.name, new.name}, None)
    assert chunks[new.name][0]["DstPorts"][0]["Ports"] == {"First": 80, "Last": 80}


def test_a_policy_that_takes_everything_away_says_so() -> None:
    """Peers are removed one by one; an empty list of peers would change nothing in Go."""
    message = told(PAIR, [Put(deployment(declare()))])
    assert message == {"PeersRemoved": [2], "PacketFilters": {EVERYONE.name: None}}


def test_another_commit_that_says_the_same_is_silent() -> None:
    """The client does not learn that there was a commit."""
    assert told(PAIR, [Put(deployment(declare(EVERYONE), commit="1" * 40))]) is None


def test_tailnet_wide_members_go_only_when_they_differ() -> None:
    """DNS alone is sent alone."""
    message = told(PAIR, [Put(deployment(declare(EVERYONE, dns=Dns(magic_dns=False))))])
    assert message == {"DNSConfig": {}}


def test_another_suffix_renames_everybody() -> None:
    """Self node, peers and search domain change together, so that short names keep working."""
    settings = Settings(magic_dns_suffix="ts.example.com")
    message = told(PAIR, [Put(deployment(declare(EVERYONE, settings=settings)))])
    assert message.keys() == {"PeersChanged", "UserProfiles", "Node", "DNSConfig"}
    assert message["PeersChanged"][0]["Name"] == "phone.ts.example.com."
    assert message["Node"]["Name"] == "laptop.ts.example.com."


def test_ones_own_endpoints_are_no_news() -> None:
    """A Node in a delta makes the client rebuild its map; it knows its endpoints itself."""
    assert told(PAIR, [Put(replace(PHONE, endpoints=()))], "phone") is None
    assert told(PAIR, [Put(Presence(PHONE.id, REPLICA, LATER))], "phone") is None


def test_ones_own_name_is_news() -> None:
    """The self node comes whole, its capabilities with it."""
    message = told(PAIR, [Put(replace(PHONE, name="tablet"))], "phone")
    assert message.keys() == {"Node"}
    assert (message["Node"]["Name"], len(message["Node"]["CapMap"])) == (
        "tablet.default.tailnet.internal.",
        7,
    )


def test_a_new_owner_comes_with_the_self_node() -> None:
    """A client whose node changes hands needs the profile, even if it sees nobody."""
    before = world("alice@example.com: laptop; bob@example.com:", declaration=declare())
    moved = replace(named(before, "laptop"), user=UserId(2))
    message = told(before, [Put(moved)])
    assert (message["Node"]["User"], [user["ID"] for user in message["UserProfiles"]]) == (2, [2])


def test_a_role_reaches_the_owners_nodes_only() -> None:
    """The peer's view of a node says nothing about its owner's role."""
    alice = replace(PAIR.users[UserId(1)], role=Role.OWNER)
    before = world(
        "alice@example.com: laptop; bob@example.com: desk", declaration=declare(EVERYONE)
    )
    assert told(before, [Put(alice)], "laptop").keys() == {"Node"}
    assert told(before, [Put(alice)], "desk") is None


def test_a_user_in_the_change_is_enough() -> None:
    """What an owner's record says on the self node is looked at even if no node is named."""
    alice = replace(PAIR.users[UserId(1)], role=Role.OWNER)
    after, _ = happen(PAIR, [Put(alice)])
    change = Change(users=frozenset({UserId(1)}))
    frame = Encoder(REGION).delta(PAIR, after, change, NodeId(1), Compression.NONE)
    assert frame is not None
    assert json.loads(frame[4:]).keys() == {"Node"}


def test_a_display_name_reaches_those_who_see_the_person() -> None:
    """Others have never heard of them."""
    rule = Rule(("alice@example.com",), ("bob@example.com",))
    three = "alice@example.com: a; bob@example.com: b; carol@example.com: c"
    before = world(three, declaration=declare(rule))
    alice = replace(before.users[UserId(1)], display_name="A. Example")
    for viewer in ("a", "b"):
        assert told(before, [Put(alice)], viewer) == {
            "UserProfiles": [
                {"ID": 1, "LoginName": "alice@example.com", "DisplayName": "A. Example"}
            ]
        }
    assert told(before, [Put(alice)], "c") is None


def test_a_route_follows_the_viewer() -> None:
    """A viewer that gets another tag may use other routes of a router that did not change."""
    rules = (Rule(("tag:a",), ("10.1.0.0/16",)), Rule(("tag:b",), ("10.2.0.0/16",)))
    before = world("tag:a: v; tag:r: r", declaration=declare(*rules))
    before = routed(before, "r", "10.1.0.0/16", "10.2.0.0/16")
    moved = replace(named(before, "v"), tags=("tag:b",))
    (peer,) = told(before, [Put(moved)], "v")["PeersChanged"]
    assert peer["PrimaryRoutes"] == ["10.2.0.0/16"]


def test_a_router_that_carries_nothing_is_patched_once() -> None:
    """WIRE(rust): of two patches for one peer only the last counts."""
    before = routed(PAIR, "laptop", "10.1.0.0/16")
    standby = routed(before, "phone", "10.1.0.0/16")
    changed = replace(named(standby, "phone"), endpoints=())
    me = replace(named(standby, "laptop"), endpoints=())
    assert told(standby, [Put(changed), Put(me)]) == patch(Endpoints=[])


def test_a_failover_moves_the_route_in_one_message() -> None:
    """Both routers come whole: one without the route, one with it."""
    net = world("alice@example.com: a; tag:r: r1, r2", declaration=declare(EVERYONE))
    net = routed(routed(net, "r1", "10.1.0.0/16"), "r2", "10.1.0.0/16")
    gone = replace(named(net, "r1"), last_seen=LATER)
    message = told(net, [Drop(Presence(gone.id, REPLICA, START)), Put(gone)], "a")
    assert [(peer["ID"], peer.get("PrimaryRoutes")) for peer in message["PeersChanged"]] == [
        (2, None),
        (3, ["10.1.0.0/16"]),
    ]
    assert "PeersChangedPatch" not in message


def test_viewers_who_are_told_the_same_share_the_message() -> None:
    """Encoded once and compressed once: the very same object for all of them."""
    crowd = world("alice@example.com: a, b, c, d, e", declaration=declare(EVERYONE))
    changed = replace(named(crowd, "a"), endpoints=(), disco_key=DiscoKey(key_bytes("new")))
    after, change = happen(crowd, [Put(changed)])
    encoder = Encoder(REGION)
    for compression in Compression:
        frames = [
            encoder.delta(crowd, after, change, viewer, compression)
            for viewer in crowd.nodes
            if viewer != changed.id
        ]
        assert frames[0] is not None
        assert Decoder(compression).feed(frames[0])
        assert len({id(frame) for frame in frames}) == 1
    assert encoder.delta(crowd, after, change, changed.id, Compression.ZSTD) is None


TOLD = '{"acls": [], "nodeAttrs": [%s]}'
RANDOM = '{"target": ["alice@example.com"], "attr": ["randomize-client-port"]}'
SHARE = '{"target": ["100.64.0.2"], "attr": ["drive:share"]}'


def recommitted(before: str, after: str) -> dict[str, list[str] | None]:
    """Return what each node is newly told it may do after a commit; None for silence."""
    old = world("alice@example.com: laptop, phone", declaration=Declaration(policy(before)))
    commit = [Put(deployment(Declaration(policy(after)), commit="1" * 40))]
    answers = {name: told(old, commit, name) for name in ("laptop", "phone")}
    baseline = set(told_whole(old, "laptop")["CapMap"]) - {"drive:share", "randomize-client-port"}
    return {
        name: None if said is None else sorted(set(said["Node"]["CapMap"]) - baseline)
        for name, said in answers.items()
    }


def told_whole(snapshot: Snapshot, viewer: str) -> Any:
    node = named(snapshot, viewer)
    return json.loads(Encoder(REGION).full(snapshot, node.id, Compression.NONE, START)[4:])["Node"]


def test_new_attributes_send_the_self_node_to_whom_they_concern() -> None:
    """Only a policy changed: whoever it tells something else gets its own node, others nothing."""
    both = f"{RANDOM}, {SHARE}"
    assert recommitted(TOLD % "", TOLD % SHARE) == {"laptop": None, "phone": ["drive:share"]}
    assert recommitted(TOLD % RANDOM, TOLD % both) == {
        "laptop": None,
        "phone": ["drive:share", "randomize-client-port"],
    }
    assert recommitted(TOLD % both, TOLD % "") == {"laptop": [], "phone": []}
    assert recommitted(TOLD % both, TOLD % f"{SHARE}, {RANDOM}") == {"laptop": None, "phone": None}


def test_an_attribute_does_not_take_the_value_that_every_node_has() -> None:
    """``default-auto-update`` named without a value leaves the value; with one it replaces it."""
    entries = {
        '{"target": ["*"], "attr": ["default-auto-update"]}': [False],
        '{"target": ["*"], "app": {"example.com/x": [{"a": 1}]}}': [False],
    }
    for entry, value in entries.items():
        told_so = world("alice@example.com: laptop", declaration=Declaration(policy(TOLD % entry)))
        assert told_whole(told_so, "laptop")["CapMap"]["default-auto-update"] == value
    assert told_whole(told_so, "laptop")["CapMap"]["example.com/x"] == [{"a": 1}]


OPEN = '{"acls": [{"action": "accept", "src": ["*"], "dst": ["*:*"]}], "nodeAttrs": [%s]}'
WITHOUT = '{"target": ["100.64.0.2", "100.64.0.3"], "attr": ["disable-ipv4"]}'


def test_a_policy_that_takes_ipv4_away_sends_the_node_whole() -> None:
    """Its peers and itself get it anew, with its subnet routes; back again likewise."""
    nodes = "alice@example.com: laptop, phone, pad"
    with_it, without = (Declaration(policy(OPEN % entry)) for entry in ("", WITHOUT))
    before = routed(world(nodes, declaration=with_it), "phone", "10.1.0.0/16")
    after = [Put(deployment(without, commit="1" * 40))]

    peer, plain = told(before, after)["PeersChanged"]
    assert (plain["ID"], plain["Addresses"]) == (3, ["fd7a:115c:a1e0::3/128"])
    assert (peer["ID"], peer["Addresses"]) == (2, ["fd7a:115c:a1e0::2/128"])
    assert peer["AllowedIPs"] == ["fd7a:115c:a1e0::2/128", "10.1.0.0/16"]
    own = told(before, after, "phone")["Node"]
    assert (own["Addresses"], own["AllowedIPs"]) == (peer["Addresses"], peer["AllowedIPs"])

    back = told(step(before, after), [Put(deployment(with_it, commit="2" * 40))])["PeersChanged"]
    assert [one["Addresses"] for one in back] == [
        ["100.64.0.2/32", "fd7a:115c:a1e0::2/128"],
        ["100.64.0.3/32", "fd7a:115c:a1e0::3/128"],
    ]
