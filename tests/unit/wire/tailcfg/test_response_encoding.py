"""Responses, byte for byte, and the rules Go and Rust clients put on them (spec 2.10, 3.2, 4, 5)."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest

from mergescale.kernel.errors import LocalProtocolError
from mergescale.wire.tailcfg.derpmap import (
    DERPAdmitClientResponse,
    DERPHomeParams,
    DERPMap,
    DERPNode,
    DERPRegion,
)
from mergescale.wire.tailcfg.dns import DNSConfig, DNSRecord, Resolver
from mergescale.wire.tailcfg.encode import (
    encode,
    encode_text,
    join_array,
    join_object,
    member,
    plain,
)
from mergescale.wire.tailcfg.filter import (
    ALL_PORTS,
    CapGrant,
    FilterRule,
    NetPortRange,
    PortRange,
)
from mergescale.wire.tailcfg.handshake import EarlyNoise, OverTLSPublicKeyResponse
from mergescale.wire.tailcfg.hostinfo import canonical
from mergescale.wire.tailcfg.hostviews import peer_view
from mergescale.wire.tailcfg.map_response import (
    KEEPALIVE,
    Debug,
    MapResponse,
    PingRequest,
)
from mergescale.wire.tailcfg.node import Node, PeerChange, legacy_derp
from mergescale.wire.tailcfg.register import (
    RegisterResponse,
    accepted,
    key_expired,
    pending,
    refused,
)
from mergescale.wire.tailcfg.ssh import SSHAction, SSHPolicy, SSHPrincipal, SSHRule
from mergescale.wire.tailcfg.users import Login, User, UserProfile

CORPUS = Path(__file__).parents[3] / "corpus" / "tailcfg"
CREATED = datetime(2026, 1, 1, tzinfo=UTC)

ANA = User(id=1, display_name="Ana")
ANA_LOGIN = Login(id=1, provider="oidc", login_name="ana@example.com", display_name="Ana")
DISCO = "discokey:" + "44" * 32
ALLOW_ALL = FilterRule(src_ips=("*",), dst_ports=(NetPortRange(ip="*", ports=ALL_PORTS),))


def self_node() -> Node:
    addresses = ("100.64.0.1/32", "fd7a:115c:a1e0::1/128")
    return Node(
        id=1,
        stable_id="n1",
        name="a.example.ts.test.",
        user=1,
        key="nodekey:" + "11" * 32,
        machine="mkey:" + "55" * 32,
        addresses=addresses,
        allowed_ips=addresses,
        hostinfo=msgspec.Raw(peer_view(canonical('{"Hostname":"tøwer","OS":"linux"}'.encode()))),
        created=CREATED,
        cap=130,
        online=True,
        machine_authorized=True,
        cap_map={"https://tailscale.com/cap/ssh": (), "default-auto-update": (False,)},
    )


def peer_node() -> Node:
    addresses = ("100.64.0.2/32", "fd7a:115c:a1e0::2/128")
    raw = b'{"Hostname":"b","OS":"linux","Services":[{"Proto":"peerapi4","Port":40123}]}'
    return Node(
        id=2,
        stable_id="n2",
        name="b.example.ts.test.",
        user=1,
        key="nodekey:" + "22" * 32,
        key_expiry=datetime(2026, 7, 1, tzinfo=UTC),
        machine="mkey:" + "66" * 32,
        disco_key=DISCO,
        addresses=addresses,
        allowed_ips=(*addresses, "10.0.0.0/8"),
        endpoints=("192.0.2.10:41641", "[2001:db8::1]:41641"),
        derp=legacy_derp(900),
        home_derp=900,
        hostinfo=msgspec.Raw(peer_view(canonical(raw))),
        created=CREATED,
        cap=145,
        tags=("tag:web",),
        primary_routes=("10.0.0.0/8",),
        last_seen=datetime(2026, 1, 2, tzinfo=UTC),
        online=False,
        machine_authorized=True,
    )


def derp_map() -> DERPMap:
    relay = DERPNode(
        name="900a",
        region_id=900,
        host_name="derp.example.com",
        ipv4="198.51.100.7",
        ipv6="none",
        stun_port=3478,
        derp_port=443,
        can_port80=True,
    )
    region = DERPRegion(region_id=900, region_code="lab", region_name="Lab", nodes=(relay,))
    return DERPMap(regions={900: region}, omit_default_regions=True)


def full_map() -> MapResponse:
    return MapResponse(
        node=self_node(),
        derp_map=derp_map(),
        peers=(peer_node(),),
        dns_config=DNSConfig(
            resolvers=(Resolver(addr="1.1.1.1"),),
            routes={"corp.example.": (Resolver(addr="10.0.0.53"),), "lab.example.": ()},
            domains=("example.ts.test",),
            proxied=True,
            extra_records=(DNSRecord(name="x.example.", value="100.64.0.9"),),
        ),
        domain="example.com",
        collect_services=False,
        packet_filter=(
            FilterRule(
                src_ips=("100.64.0.2", "fd7a:115c:a1e0::2"),
                dst_ports=(
                    NetPortRange(ip="100.64.0.1", ports=PortRange(first=22, last=22)),
                    NetPortRange(ip="*", ports=ALL_PORTS),
                ),
                ip_proto=(6, 17),
            ),
            FilterRule(
                src_ips=("100.64.0.2",),
                cap_grant=(
                    CapGrant(
                        dsts=("100.64.0.1/32",),
                        cap_map={
                            "example.com/cap/x": (msgspec.Raw(b'{"role":"admin"}'),),
                            "example.com/cap/y": (),
                        },
                    ),
                ),
            ),
        ),
        user_profiles=(UserProfile(id=1, login_name="ana@example.com", display_name="Ana"),),
        ssh_policy=SSHPolicy(
            rules=(
                SSHRule(
                    principals=(
                        SSHPrincipal(user_login="ana@example.com"),
                        SSHPrincipal(node_ip="100.64.0.5"),
                        SSHPrincipal(any=True),
                    ),
                    ssh_users={"root": "root", "*": "="},
                    action=SSHAction(
                        accept=True, session_duration=3_600_000_000_000, allow_agent_forwarding=True
                    ),
                ),
            )
        ),
        control_time=datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
        debug=Debug(disable_log_tail=True),
    )


def delta_map() -> MapResponse:
    return MapResponse(
        ping_request=PingRequest(
            url="https://unused/c2n/t1", url_is_noise=True, types="c2n", payload=b"GET /echo"
        ),
        peers_removed=(3,),
        peers_changed_patch=(
            PeerChange(node_id=2, derp_region=901, endpoints=(), disco_key=DISCO, online=True),
            PeerChange(
                node_id=4, cap_map={}, online=False, last_seen=datetime(2026, 1, 2, tzinfo=UTC)
            ),
        ),
        peer_seen_change={5: False},
        online_change={6: True},
        dns_config=DNSConfig(),
        packet_filter=(),
        packet_filters={"*": None, "r1": (ALLOW_ALL,)},
        health=(),
        ssh_policy=SSHPolicy(rules=()),
    )


def test_an_accepted_registration_has_all_seven_members() -> None:
    """Rust fails on a register answer with a member missing (pitfall 12)."""
    expected = (CORPUS / "register-accepted.json").read_bytes()
    assert encode(accepted(ANA, ANA_LOGIN)) == expected


def test_a_pending_registration_is_not_authorized() -> None:
    """AuthURL and MachineAuthorized exclude each other, and all seven members are there."""
    url = "https://control.example.com/register/abc"
    assert encode(pending(url)) == (CORPUS / "register-pending.json").read_bytes()
    with pytest.raises(LocalProtocolError):
        RegisterResponse(user=ANA, login=ANA_LOGIN, machine_authorized=True, auth_url=url)


def test_a_refusal_is_plain_text_in_the_error_member() -> None:
    """A refusal is an answer, never empty, and needs no escape."""
    assert refused('no "key"\n').error == "no 'key' "
    assert refused("").error == "refused"
    assert b"\\" not in encode(refused('a\\b"c'))


def test_an_expired_key_asks_for_a_new_one() -> None:
    """NodeKeyExpired stands alone."""
    answer = key_expired()
    assert (answer.node_key_expired, answer.machine_authorized, answer.auth_url) == (
        True,
        False,
        "",
    )


def test_an_accepted_registration_needs_a_login_name() -> None:
    """Without one the client never persists its identity (pitfall 19)."""
    with pytest.raises(LocalProtocolError):
        accepted(ANA, Login(id=1, provider="", login_name="", display_name=""))


def test_a_full_map_is_encoded_to_the_byte() -> None:
    """Members keep tailcfg's order, defaults are left out, text is UTF-8."""
    assert encode(full_map()) == (CORPUS / "map-full.json").read_bytes()


def test_a_delta_tells_empty_from_absent() -> None:
    """``[]`` and ``{}`` are sent where they mean something, and null deletes a chunk only."""
    assert encode(delta_map()) == (CORPUS / "map-delta.json").read_bytes()


def test_an_empty_map_has_no_members() -> None:
    """What is absent changes nothing, so the default of every member is absence."""
    assert encode(MapResponse()) == b"{}"
    assert encode(MapResponse(keep_alive=True)) == KEEPALIVE


def test_only_chunk_deletion_is_null() -> None:
    """Rust fails on null strings, lists and maps; no struct of a map has a None elsewhere."""
    assert b"null" not in encode(full_map())
    assert encode(delta_map()).count(b"null") == 1


def test_members_that_rust_needs_are_always_sent() -> None:
    """Zero values of required members are on the wire."""
    assert encode(PingRequest(url="u", url_is_noise=False, types="")) == (
        b'{"URL":"u","URLIsNoise":false,"Types":""}'
    )
    assert encode(PortRange(first=0, last=0)) == b'{"First":0,"Last":0}'
    node = self_node()
    unapproved = msgspec.structs.replace(node, machine_authorized=False, allowed_ips=())
    assert b'"MachineAuthorized":false' in encode(unapproved)
    assert b'"AllowedIPs":[]' in encode(unapproved)


def test_exit_zero_is_told_from_no_exit() -> None:
    """Debug.Exit ends the client even at 0, so it is absent unless asked for (pitfall 41)."""
    assert encode(Debug()) == b"{}"
    assert encode(Debug(exit=0)) == b'{"Exit":0}'


def test_home_scores_are_unchanged_or_reset() -> None:
    """Absent leaves the client's scores, empty resets them."""
    assert encode(DERPHomeParams()) == b"{}"
    assert encode(DERPHomeParams(region_score={})) == b'{"RegionScore":{}}'
    assert encode(DERPMap(regions={})) == b'{"Regions":{}}'


def test_the_answers_outside_noise_have_all_members() -> None:
    """`/key`, the early payload and the admission answer."""
    assert encode(OverTLSPublicKeyResponse(legacy_public_key="mkey:a", public_key="mkey:b")) == (
        b'{"legacyPublicKey":"mkey:a","publicKey":"mkey:b"}'
    )
    assert encode(EarlyNoise(node_key_challenge="chalpub:a")) == b'{"nodeKeyChallenge":"chalpub:a"}'
    assert encode(DERPAdmitClientResponse(allow=False)) == b'{"Allow":false}'


def test_a_rule_has_packets_or_capabilities() -> None:
    """Rust ends its stream on a rule with both or neither."""
    ports = (NetPortRange(ip="*", ports=ALL_PORTS),)
    grant = (CapGrant(dsts=("100.64.0.1/32",), cap_map={"x": ()}),)
    with pytest.raises(LocalProtocolError):
        FilterRule(src_ips=("*",))
    with pytest.raises(LocalProtocolError):
        FilterRule(src_ips=("*",), dst_ports=ports, cap_grant=grant)
    with pytest.raises(LocalProtocolError):
        FilterRule(src_ips=("*",), cap_grant=grant, ip_proto=(6,))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain é 日本 </>&\u2028", "plain é 日本 </>&\u2028"),
        ('say "hi"', "say 'hi'"),
        ("C:\\dir", "C:/dir"),
        ("a\r\nb\x00\x1f\x7f\x9b", "a  b    "),
        ("\ud83d half", "\ufffd half"),
        ("", ""),
    ],
)
def test_plain_text_needs_no_escape(text: str, expected: str) -> None:
    """Characters JSON must escape are replaced one for one, others stay."""
    assert plain(text) == expected
    assert encode_text(text) == encode(expected)
    assert b"\\" not in encode_text(text)


def test_names_of_people_are_plain() -> None:
    """A display name with quotes cannot end a Rust client's stream (pitfall 45)."""
    profile = UserProfile(id=1, login_name='a"b', display_name='Ana "Anita"\t')
    assert (profile.login_name, profile.display_name) == ("a'b", "Ana 'Anita' ")
    assert User(id=1, display_name='"x"').display_name == "'x'"
    assert DERPRegion(region_id=1, region_code='"', region_name="\\", nodes=()).region_name == "/"


def test_a_map_joins_to_the_bytes_it_encodes_to() -> None:
    """Members encoded apart and joined are the map encoded whole."""
    whole = MapResponse(node=self_node(), peers_changed=(peer_node(), peer_node()), domain="d")
    joined = join_object(
        [
            (member(MapResponse, "node"), encode(self_node())),
            (member(MapResponse, "peers_changed"), join_array([encode(peer_node())] * 2)),
            (member(MapResponse, "domain"), encode_text("d")),
        ]
    )
    assert joined == encode(whole)
    assert (join_object([]), join_array([])) == (b"{}", b"[]")


def test_a_misspelt_member_cannot_be_joined() -> None:
    """Keys come from the structs only."""
    with pytest.raises(LocalProtocolError):
        member(MapResponse, "peers_chnaged")


def test_maps_read_back() -> None:
    """A test client can decode what we send to the same structs."""
    for response in (full_map(), delta_map()):
        assert encode(msgspec.json.decode(encode(response), type=MapResponse)) == encode(response)


def test_an_unknown_home_has_no_legacy_text() -> None:
    """Region 0 is not sendable."""
    assert (legacy_derp(0), legacy_derp(12)) == ("", "127.3.3.40:12")
