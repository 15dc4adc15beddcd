"""The first message of a stream, member by member (spec 4.4, 4.7 to 4.11)."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from mergescale.domain.declaration import Declaration
from mergescale.domain.record import Drop, Presence, Put
from mergescale.domain.snapshot import Snapshot
from mergescale.domain.tailnet import Dns, ExtraRecord, RelayNode, RelayRegion, Relays, Settings
from mergescale.domain.user import TAGGED_USER_ID, Role
from mergescale.kernel.keys import DiscoKey
from mergescale.netmap.encoder import Encoder
from mergescale.wire.mapframe import Compression, Decoder
from support.clock import START
from support.reach import EVERYONE, Rule, declare
from support.tailnet_story import REGION
from support.worlds import REPLICA, named, routed, step, world


def told(snapshot: Snapshot, viewer: str, own_region: RelayRegion | None = REGION) -> Any:
    encoder = Encoder(own_region)
    frame = encoder.full(snapshot, named(snapshot, viewer).id, Compression.NONE, START)
    return json.loads(frame[4:])


def peers(snapshot: Snapshot, viewer: str) -> dict[str, Any]:
    return {peer["Name"].partition(".")[0]: peer for peer in told(snapshot, viewer)["Peers"]}


def test_the_bytes_of_a_small_map() -> None:
    """Two nodes that see each other; every byte, because the Rust client is strict about them."""
    rule = Rule(("alice@example.com",), ("tag:web",), (443, 443))
    small = world("alice@example.com: laptop; tag:web: web1", declaration=declare(rule))
    laptop, web1 = named(small, "laptop"), named(small, "web1")
    frame = Encoder(REGION).full(small, web1.id, Compression.NONE, START)
    expected = (
        '{"Node":{"ID":2,"StableID":"n2CNTRL","Name":"web1.default.tailnet.internal.",'
        f'"User":2147455555,"Key":"{web1.node_key}","Machine":"{web1.machine_key}",'
        '"Addresses":["100.64.0.2/32","fd7a:115c:a1e0::2/128"],'
        '"AllowedIPs":["100.64.0.2/32","fd7a:115c:a1e0::2/128"],"DERP":"127.3.3.40:900",'
        '"HomeDERP":900,"Hostinfo":{"Hostname":"web1","OS":"linux"},'
        '"Created":"2026-01-01T00:00:02Z","Cap":130,"Tags":["tag:web"],"Online":true,'
        '"MachineAuthorized":true,"CapMap":{"https://tailscale.com/cap/file-sharing":[],'
        '"https://tailscale.com/cap/ssh":[],"probe-udp-lifetime":[],"ssh-behavior-v1":[],'
        '"ssh-env-vars":[],"default-auto-update":[false],"tailnet-display-name":["default"]}},'
        '"DERPMap":{"Regions":{"900":{"RegionID":900,"RegionCode":"lab","RegionName":"Lab",'
        '"Nodes":[{"Name":"900a","RegionID":900,"HostName":"relay.example.com"}]}},'
        '"omitDefaultRegions":true},"DNSConfig":{"Domains":["default.tailnet.internal"],'
        '"Proxied":true},"Domain":"default","CollectServices":false,'
        '"ControlTime":"2026-01-01T00:00:00Z","Debug":{"DisableLogTail":true},'
        f'"PacketFilters":{{"*":null,"{rule.name}":['
        '{"SrcIPs":["100.64.0.1","fd7a:115c:a1e0::1"],"DstPorts":['
        '{"IP":"100.64.0.2","Ports":{"First":443,"Last":443}},'
        '{"IP":"fd7a:115c:a1e0::2","Ports":{"First":443,"Last":443}}]}]},'
        '"SSHPolicy":{"rules":[]},'
        '"UserProfiles":[{"ID":1,"LoginName":"alice@example.com","DisplayName":"Alice"},'
        '{"ID":2147455555,"LoginName":"tagged-devices","DisplayName":"Tagged Devices"}],'
        '"Peers":[{"ID":1,"StableID":"n1CNTRL","Name":"laptop.default.tailnet.internal.","User":1,'
        f'"Key":"{laptop.node_key}","Machine":"{laptop.machine_key}",'
        f'"DiscoKey":"{laptop.disco_key}",'
        '"Addresses":["100.64.0.1/32","fd7a:115c:a1e0::1/128"],'
        '"AllowedIPs":["100.64.0.1/32","fd7a:115c:a1e0::1/128"],"Endpoints":["192.0.2.2:41641"],'
        '"DERP":"127.3.3.40:900","HomeDERP":900,"Hostinfo":{"Hostname":"laptop","OS":"linux"},'
        '"Created":"2026-01-01T00:00:01Z","Cap":130,"Online":true,"MachineAuthorized":true}]}'
    )
    assert frame == len(expected).to_bytes(4, "little") + expected.encode()


def test_zstd_says_the_same_as_plain() -> None:
    """A client with zstd reads, over all frames of the message, the plain text."""
    many = "; ".join(
        f"u{n}@example.com: {', '.join(f'n{n}-{i}' for i in range(10))}" for n in range(15)
    )
    large, encoder = world(many, declaration=declare(EVERYONE)), Encoder(REGION)
    viewer = named(large, "n7-3").id
    plain = encoder.full(large, viewer, Compression.NONE, START)
    packed = encoder.full(large, viewer, Compression.ZSTD, START)
    assert Decoder(Compression.ZSTD).feed(packed) == [plain[4:]]
    assert len(json.loads(plain[4:])["Peers"]) == 149


def test_text_that_people_choose_needs_no_escape() -> None:
    """WIRE(rust): a name with quotes, backslashes and control characters gives plain strings."""
    small = world("alice@example.com: laptop, phone", declaration=declare(EVERYONE))
    named_badly = replace(small.users[named(small, "phone").user], display_name='"A"\\\n\u00e9')  # type: ignore[index]
    host = replace(named(small, "phone"), hostinfo=b'{"Hostname":"a\\"b\\u00e9\\n","OS":null}')
    after = step(small, [Put(named_badly), Put(host)])
    frame = Encoder(REGION).full(after, named(after, "laptop").id, Compression.NONE, START)
    assert b"\\" not in frame[4:]
    assert "'A'/ é".encode() in frame
    assert "null" not in frame[4:].decode().replace('"*":null', "")


def test_nobody_to_see_is_said() -> None:
    """WIRE(rust): a node alone gets an empty list, or it would keep the peers of its last stream."""
    message = told(world("alice@example.com: laptop"), "laptop")
    assert (message["Peers"], message["PacketFilters"]) == ([], {"*": None})
    assert [profile["ID"] for profile in message["UserProfiles"]] == [1]


def test_an_offline_peer_says_so_and_since_when() -> None:
    """Online is explicit both ways; LastSeen is there only while offline."""
    small = world("alice@example.com: laptop, phone", declaration=declare(EVERYONE))
    phone = replace(named(small, "phone"), last_seen=START + timedelta(hours=1))
    online = step(small, [Put(phone)])
    assert (
        peers(online, "laptop")["phone"]["Online"],
        "LastSeen" in peers(online, "laptop")["phone"],
    ) == (True, False)
    offline = step(online, [Drop(Presence(phone.id, REPLICA, START))])
    peer = peers(offline, "laptop")["phone"]
    assert (peer["Online"], peer["LastSeen"]) == (False, "2026-01-01T01:00:00Z")


def test_what_a_peer_lacks_is_left_out() -> None:
    """A node that has just registered has no disco key, endpoints, region or expiry to show."""
    small = world("alice@example.com: laptop, phone", declaration=declare(EVERYONE))
    bare = replace(named(small, "phone"), disco_key=DiscoKey.zero(), endpoints=(), home_derp=0)
    peer = peers(step(small, [Put(bare)]), "laptop")["phone"]
    missing = {"DiscoKey", "Endpoints", "DERP", "HomeDERP", "KeyExpiry", "LastSeen", "Tags"}
    assert not missing & peer.keys()


def test_routes_go_to_those_who_may_use_them() -> None:
    """A subnet route and an exit route are shown to viewers with access to them, and no others."""
    rules = (
        Rule(("alice@example.com",), ("10.1.0.0/16",)),
        Rule(("bob@example.com",), ("internet",)),
        Rule(("carol@example.com",), ("tag:router",)),
    )
    owners = "alice@example.com: a; bob@example.com: b; carol@example.com: c; tag:router: router"
    net = routed(
        world(owners, declaration=declare(*rules)), "router", "10.1.0.0/16", "0.0.0.0/0", "::/0"
    )
    own = ["100.64.0.4/32", "fd7a:115c:a1e0::4/128"]
    seen = {
        viewer: (
            peers(net, viewer)["router"]["AllowedIPs"],
            peers(net, viewer)["router"].get("PrimaryRoutes"),
        )
        for viewer in ("a", "b", "c")
    }
    assert seen == {
        "a": ([*own, "10.1.0.0/16"], ["10.1.0.0/16"]),
        "b": ([*own, "0.0.0.0/0", "::/0"], None),
        "c": (own, None),
    }


def test_only_the_primary_router_carries_a_route() -> None:
    """The standby keeps the route in its own AllowedIPs, but not in its peers' view of it."""
    net = world("alice@example.com: a; tag:r: r1, r2", declaration=declare(EVERYONE))
    net = routed(routed(net, "r1", "10.1.0.0/16"), "r2", "10.1.0.0/16")
    assert "10.1.0.0/16" in peers(net, "a")["r1"]["AllowedIPs"]
    assert "10.1.0.0/16" not in peers(net, "a")["r2"]["AllowedIPs"]
    own = told(net, "r2")["Node"]
    assert ("10.1.0.0/16" in own["AllowedIPs"], own.get("PrimaryRoutes")) == (True, None)


def test_a_route_that_nobody_approved_is_not_shown() -> None:
    """Advertising is not routing."""
    net = world("alice@example.com: a; tag:r: r1", declaration=declare(EVERYONE))
    net = routed(net, "r1", "10.1.0.0/16", approved=False)
    assert peers(net, "a")["r1"]["AllowedIPs"] == ["100.64.0.2/32", "fd7a:115c:a1e0::2/128"]


@pytest.mark.parametrize(
    ("role", "caps"),
    [
        (Role.OWNER, {"https://tailscale.com/cap/is-admin", "https://tailscale.com/cap/is-owner"}),
        (Role.ADMIN, {"https://tailscale.com/cap/is-admin"}),
        (Role.NETWORK_ADMIN, set()),
        (Role.MEMBER, set()),
    ],
)
def test_a_role_shows_on_the_own_node_only(role: Role, caps: set[str]) -> None:
    """Who administers the tailnet is told so; nobody else's CapMap says anything about it."""
    small = world("alice@example.com: laptop, phone", declaration=declare(EVERYONE))
    after = step(small, [Put(replace(next(iter(small.users.values())), role=role))])
    own = told(after, "laptop")["Node"]["CapMap"]
    assert {cap for cap in own if "/is-" in cap} == caps
    assert "CapMap" not in peers(after, "laptop")["phone"]


def test_a_node_that_awaits_approval_knows_it() -> None:
    """MachineAuthorized false brings the client to NeedsMachineAuth; it sees nobody meanwhile."""
    small = world("alice@example.com: laptop, phone", declaration=declare(EVERYONE))
    waiting = step(small, [Put(replace(named(small, "laptop"), authorized=False))])
    message = told(waiting, "laptop")
    assert (message["Node"]["MachineAuthorized"], message["Peers"]) == (False, [])
    assert peers(waiting, "phone") == {}


def test_expiry_is_told_as_it_is() -> None:
    """A key that expired stays a peer, with its expiry; the client does the rest."""
    small = world("alice@example.com: laptop, phone", declaration=declare(EVERYONE))
    expired = replace(named(small, "phone"), key_expiry=START - timedelta(days=1))
    after = step(small, [Put(expired)])
    assert peers(after, "laptop")["phone"]["KeyExpiry"] == "2025-12-31T00:00:00Z"
    assert told(after, "phone")["Node"]["KeyExpiry"] == "2025-12-31T00:00:00Z"


def deployed(**parts: Any) -> Snapshot:
    declaration: Declaration = declare(EVERYONE, **parts)
    return world("alice@example.com: laptop", declaration=declaration)


def test_dns_as_declared() -> None:
    """Split zones end in a dot, the suffix comes first among the search domains."""
    dns = Dns(
        nameservers=("1.1.1.1",),
        override_local=True,
        split={"corp.example": ("10.0.0.53",), "a.example": ("10.0.0.54",)},
        search=("corp.example",),
        records=(ExtraRecord("db.corp.example", "A", "100.64.0.9"),),
    )
    settings = Settings(domain="example.com", magic_dns_suffix="ts.example.com")
    message = told(deployed(dns=dns, settings=settings), "laptop")
    assert message["DNSConfig"] == {
        "Resolvers": [{"Addr": "1.1.1.1"}],
        "Routes": {
            "a.example.": [{"Addr": "10.0.0.54"}],
            "corp.example.": [{"Addr": "10.0.0.53"}],
        },
        "Domains": ["ts.example.com", "corp.example"],
        "Proxied": True,
        "ExtraRecords": [{"Name": "db.corp.example", "Type": "A", "Value": "100.64.0.9"}],
    }
    assert (message["Domain"], message["Node"]["Name"]) == ("example.com", "laptop.ts.example.com.")
    assert message["Node"]["CapMap"]["tailnet-display-name"] == ["example.com"]


def test_nameservers_that_do_not_override_are_fallbacks() -> None:
    """Without override the device's own resolver stays in charge; without MagicDNS nothing else is."""
    dns = Dns(magic_dns=False, nameservers=("1.1.1.1",))
    assert told(deployed(dns=dns), "laptop")["DNSConfig"] == {
        "FallbackResolvers": [{"Addr": "1.1.1.1"}]
    }


def test_regions_come_from_the_declaration_and_the_own_relay() -> None:
    """A declared region wins over the own one with its number; both are sent, sorted by number."""
    far = RelayRegion(
        901, "far", "Far", (RelayNode("901a", "far.example.com", stun_port=-1),), True
    )
    regions = told(deployed(relays=Relays((far,))), "laptop")["DERPMap"]["Regions"]
    assert regions == {
        "900": {
            "RegionID": 900,
            "RegionCode": "lab",
            "RegionName": "Lab",
            "Nodes": [{"Name": "900a", "RegionID": 900, "HostName": "relay.example.com"}],
        },
        "901": {
            "RegionID": 901,
            "RegionCode": "far",
            "RegionName": "Far",
            "Avoid": True,
            "NoMeasureNoHome": True,
            "Nodes": [
                {"Name": "901a", "RegionID": 901, "HostName": "far.example.com", "STUNPort": -1}
            ],
        },
    }
    mine = replace(REGION, name="Mine")
    declared = told(deployed(relays=Relays((mine,))), "laptop")["DERPMap"]["Regions"]
    assert [region["RegionName"] for region in declared.values()] == ["Mine"]
    without = told(deployed(relays=Relays((far,), embedded=False)), "laptop")["DERPMap"]["Regions"]
    assert list(without) == ["901"]


def test_ports_can_be_randomized() -> None:
    """The setting becomes a capability of every node."""
    message = told(deployed(settings=Settings(randomize_client_port=True)), "laptop")
    assert message["Node"]["CapMap"]["randomize-client-port"] == []


def test_tagged_nodes_belong_to_the_pseudo_user() -> None:
    """The wire needs a profile for them; clients show it."""
    small = world("alice@example.com: laptop; tag:web: web1", declaration=declare(EVERYONE))
    message = told(small, "laptop")
    assert message["Peers"][0]["User"] == TAGGED_USER_ID
    assert message["UserProfiles"][1]["LoginName"] == "tagged-devices"


def test_an_exit_node_is_suggested_to_those_who_may_use_it() -> None:
    """Who may go through it is told so, others are not, and neither is an exit node unapproved."""
    rules = (Rule(("a@example.com",), ("internet",)), Rule(("*",), ("*",)))
    before = world(
        "a@example.com: a; b@example.com: b; tag:exit: exit", declaration=declare(*rules)
    )
    only_a = world(
        "a@example.com: a; b@example.com: b; tag:exit: exit",
        declaration=declare(rules[0], Rule(("b@example.com",), ("tag:exit",))),
    )
    for approved, suggested in ((True, {"suggest-exit-node": []}), (False, None)):
        after = routed(before, "exit", "0.0.0.0/0", "::/0", approved=approved)
        assert peers(after, "a")["exit"].get("CapMap") == suggested
        assert "CapMap" not in peers(after, "a")["b"]
    assert "CapMap" not in peers(routed(only_a, "exit", "0.0.0.0/0", "::/0"), "b")["exit"]
