"""What is stored of a Hostinfo, and what peers and the node itself see of it (spec 3.6)."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mergescale.kernel.errors import RemoteProtocolError
from mergescale.wire.tailcfg.hostinfo import canonical
from mergescale.wire.tailcfg.hostviews import (
    HOST_KEY_CHARS,
    PEER_HOST_KEYS,
    PEER_TEXT_CHARS,
    peer_view,
    self_view,
)
from mergescale.wire.tailcfg.map_request import decode_map_request
from mergescale.wire.tailcfg.register import decode_register_request

CORPUS = Path(__file__).parents[3] / "corpus" / "tailcfg"


def test_rust_spelling_is_stored_as_go_spells_it() -> None:
    """Keys are respelled at every modelled level, map keys stay as they are."""
    hostinfo = decode_map_request((CORPUS / "rust-map-poll.json").read_bytes()).hostinfo
    assert hostinfo is not None
    assert json.loads(hostinfo.raw) == {
        "ExitNodeID": "nExit",
        "Hostname": "crab",
        "IPNVersion": "tailscale-rs-0.6.1",
        "NetInfo": {
            "DERPLatency": {"900-v4": 0.0021},
            "OSHasIPv6": True,
            "PCP": False,
            "PMP": False,
            "PreferredDERP": 900,
            "UPnP": False,
            "WorkingICMPv4": True,
            "WorkingIPv6": False,
            "WorkingUDP": True,
        },
        "OS": "linux",
        "OSVersion": "6.8",
        "RequestTags": ["tag:rust"],
        "RoutableIPs": ["192.168.7.0/24"],
        "WoLMACs": ["02:00:00:00:00:01"],
        "sshHostKeys": ["ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIExample"],
    }


def test_unknown_members_are_stored_and_nulls_are_not() -> None:
    """The stored object keeps what a newer client says; unset booleans of Go 1.90 vanish."""
    raw = decode_register_request((CORPUS / "go-1.90-register.json").read_bytes()).hostinfo.raw
    stored = json.loads(raw)
    assert stored["FutureField"] == {"nested": [1, None]}
    assert stored["NetInfo"] == {"OSHasIPv6": True}
    assert stored["TPM"]["FirmwareVersion"] == 9223372036854775807
    assert "tøwer".encode() in raw


def test_canonical_json_is_stable() -> None:
    """Order and spelling make no difference, and canonical JSON is its own canonical form."""
    one = canonical(b'{"OS":"linux","Hostname":"a","x":{"b":1,"a":2},"NetInfo":null}')
    two = canonical(b' {"x":{"a":2,"b":1},"hostname":"a","os":"linux"} ')
    assert one == two == b'{"Hostname":"a","OS":"linux","x":{"a":2,"b":1}}'
    assert canonical(one) == one


def test_a_client_cannot_forge_the_stored_form() -> None:
    """The slot that carries the canonical JSON is no member on the wire."""
    assert canonical(b'{"OS":"linux","<raw>":"AAAA","<RAW>":"BBBB"}') == b'{"OS":"linux"}'


def test_peers_see_the_members_they_need_and_no_more() -> None:
    """Versions, log ids, tags, routes, NetInfo, open ports, TPM and unknown members stay here."""
    raw = decode_register_request((CORPUS / "go-1.90-register.json").read_bytes()).hostinfo.raw
    assert (
        peer_view(raw)
        == (
            '{"Hostname":"tøwer","OS":"linux","Services":['
            '{"Proto":"peerapi4","Port":40123,"Description":""},'
            '{"Proto":"peerapi6","Port":40124,"Description":""}]}'
        ).encode()
    )


def test_host_keys_location_and_app_connector_reach_peers() -> None:
    """SSH, exit-node suggestions and app connectors depend on them."""
    raw = canonical(
        b'{"sshHostKeys":["ssh-ed25519 AAAA"],"AppConnector":true,'
        b'"Location":{"Country":"Canada","Latitude":45,"Priority":10,"Secret":1}}'
    )
    assert peer_view(raw) == (
        b'{"sshHostKeys":["ssh-ed25519 AAAA"],"AppConnector":true,'
        b'"Location":{"Country":"Canada","Latitude":45.0,"Priority":10}}'
    )


def test_the_node_sees_its_routes_as_well() -> None:
    """Its own Hostinfo has RoutableIPs beside what peers see."""
    raw = canonical(b'{"OS":"linux","RoutableIPs":["10.0.0.0/8"],"BackendLogID":"x"}')
    assert self_view(raw) == b'{"OS":"linux","RoutableIPs":["10.0.0.0/8"]}'
    assert peer_view(raw) == b'{"OS":"linux"}'


def test_views_need_no_json_escape() -> None:
    """Whatever text a node sends, peers get it without escapes, so Rust can read it."""
    nasty = 'a"b\\c\nd\te\x00f\x7fg/é'
    raw = canonical(
        json.dumps(
            {
                "Hostname": nasty,
                "OS": nasty,
                "sshHostKeys": [nasty],
                "Services": [{"Proto": "peerapi4", "Port": 1, "Description": nasty}],
                "Location": {"City": nasty},
            }
        ).encode()
    )
    view = peer_view(raw)
    assert b"\\" not in view
    clean = "a'b/c d e f g/é"
    assert json.loads(view) == {
        "Hostname": clean,
        "OS": clean,
        "sshHostKeys": [clean],
        "Services": [{"Proto": "peerapi4", "Port": 1, "Description": clean}],
        "Location": {"City": clean},
    }


def test_views_are_bounded() -> None:
    """One node cannot make every peer's map long."""
    raw = canonical(
        json.dumps(
            {
                "Hostname": "h" * 1000,
                "sshHostKeys": ["x" * (HOST_KEY_CHARS + 1), *["k"] * 100],
                "Services": [{"Proto": "peerapi4", "Port": n} for n in range(1, 1000)],
            }
        ).encode()
    )
    assert json.loads(peer_view(raw)) == {
        "Hostname": "h" * PEER_TEXT_CHARS,
        "sshHostKeys": ["k"] * PEER_HOST_KEYS,
        "Services": [{"Proto": "peerapi4", "Port": 999, "Description": ""}],
    }


@pytest.mark.parametrize("raw", [b"", b"null", b"[]", b'{"OS":5}'])
def test_a_bad_row_gives_an_empty_view(raw: bytes) -> None:
    """One unreadable Hostinfo cannot break the map of everyone else (pitfall 47)."""
    assert peer_view(raw) == self_view(raw) == b"{}"
    with pytest.raises(RemoteProtocolError):
        canonical(raw)
