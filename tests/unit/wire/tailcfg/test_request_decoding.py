"""Requests of Go and Rust clients decode to the same typed values (spec 0.3, 2.10, 3.1, 4.1)."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest

from mergescale.kernel.errors import RemoteProtocolError
from mergescale.kernel.keys import DiscoKey, NodeKey
from mergescale.wire.tailcfg.derpmap import DERPAdmitClientRequest, decode_admit_request
from mergescale.wire.tailcfg.hostinfo import NetInfo, decode_hostinfo
from mergescale.wire.tailcfg.map_request import (
    MAX_ENDPOINTS,
    MapKind,
    MapRequest,
    decode_map_request,
)
from mergescale.wire.tailcfg.register import (
    RegisterRequest,
    RegisterResponseAuth,
    decode_register_request,
)

CORPUS = Path(__file__).parents[3] / "corpus" / "tailcfg"
NOW = datetime(2026, 1, 2, tzinfo=UTC)


def map_request(**members: Any) -> MapRequest:
    return decode_map_request(json.dumps(members).encode())


def register_request(**members: Any) -> RegisterRequest:
    return decode_register_request(json.dumps(members).encode())


def test_a_go_register_request_is_read_whole() -> None:
    """The body of a Go 1.90 client gives typed keys, prefixes, tags and no expiry."""
    request = decode_register_request((CORPUS / "go-1.90-register.json").read_bytes())
    assert request == RegisterRequest(
        version=130,
        node_key=NodeKey(b"\x11" * 32),
        old_node_key=NodeKey.zero(),
        nl_key="nlpub:" + "22" * 32,
        auth=RegisterResponseAuth(auth_key="mskey-auth-example"),
        hostinfo=request.hostinfo,
        ephemeral=True,
    )
    assert not request.old_node_key
    hostinfo = request.hostinfo
    assert (hostinfo.hostname, hostinfo.os, hostinfo.os_version) == (
        "tøwer",
        "linux",
        "6.8.0-31-generic",
    )
    assert hostinfo.routable_ips == ("10.0.0.0/8", "0.0.0.0/0", "::/0")
    assert hostinfo.routes == tuple(map(ip_network, hostinfo.routable_ips))
    assert hostinfo.request_tags == ("tag:ci", "tag:web")
    assert hostinfo.net_info == NetInfo(os_has_ipv6=True)
    assert (hostinfo.container, hostinfo.desktop) == (False, None)


def test_a_rust_map_request_is_read_like_a_go_one() -> None:
    """Rust's ``HostInfo``, ``PreferredDerp`` and the like are not lost (pitfall 46)."""
    request = decode_map_request((CORPUS / "rust-map-poll.json").read_bytes())
    assert (request.kind, request.wants_zstd) == (MapKind.POLL, False)
    assert request.node_key == NodeKey(b"\xaa" * 32)
    assert request.disco_key == DiscoKey(b"\xbb" * 32)
    assert request.endpoints == ("192.0.2.10:41641",)
    hostinfo = request.hostinfo
    assert hostinfo is not None
    assert hostinfo.ipn_version == "tailscale-rs-0.6.1"
    assert hostinfo.wol_macs == ("02:00:00:00:00:01",)
    assert hostinfo.ssh_host_keys == ("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIExample",)
    assert hostinfo.exit_node_id == "nExit"
    assert hostinfo.home_derp == 900
    assert hostinfo.net_info == NetInfo(
        preferred_derp=900,
        derp_latency={"900-v4": 0.0021},
        working_ipv6=False,
        os_has_ipv6=True,
        working_udp=True,
        working_icmpv4=True,
        upnp=False,
        pmp=False,
        pcp=False,
    )


def test_a_lite_update_is_read() -> None:
    """It applies, asks for zstd, and loses its IPv6 link-local endpoint."""
    request = decode_map_request((CORPUS / "go-1.90-lite-update.json").read_bytes())
    assert (request.kind, request.kind.applies, request.wants_zstd) == (MapKind.LITE, True, True)
    assert request.endpoints == (
        "198.51.100.4:41641",
        "192.168.1.5:41641",
        "172.17.0.1:41641",
        "[2001:db8::5]:41641",
    )
    assert request.endpoint_types == (2, 1, 1, 1, 1)
    assert request.hostinfo is not None
    assert request.hostinfo.home_derp == 900


@pytest.mark.parametrize(
    ("stream", "omit_peers", "read_only", "kind", "applies"),
    [
        (True, False, False, MapKind.POLL, False),
        (True, True, True, MapKind.POLL, False),
        (False, True, False, MapKind.LITE, True),
        (False, False, True, MapKind.READ, False),
        (False, True, True, MapKind.READ, False),
        (False, False, False, MapKind.FULL, True),
    ],
)
def test_the_flags_tell_the_kind_of_a_map_request(
    stream: bool, omit_peers: bool, read_only: bool, kind: MapKind, applies: bool
) -> None:
    """Each combination of spec 4.1 is one kind; only lite and full updates apply anything."""
    request = map_request(Stream=stream, OmitPeers=omit_peers, ReadOnly=read_only)
    assert (request.kind, request.kind.applies) == (kind, applies)


def test_null_and_absence_leave_the_zero_value() -> None:
    """Every member may be null or missing at every level."""
    nulls = dict.fromkeys(
        ("Version", "NodeKey", "DiscoKey", "Stream", "Endpoints", "DebugFlags", "Hostinfo")
    )
    assert map_request(**nulls) == map_request() == MapRequest()
    inner = {"OS": None, "NetInfo": {"WorkingUDP": None, "DERPLatency": None}, "Services": None}
    hostinfo = map_request(Hostinfo=inner).hostinfo
    assert hostinfo is not None
    assert (hostinfo.os, hostinfo.services, hostinfo.net_info) == ("", (), NetInfo())


def test_a_missing_hostinfo_is_told_from_an_empty_one() -> None:
    """A map request without Hostinfo must not clear what is known."""
    assert map_request().hostinfo is None
    empty = map_request(Hostinfo={}).hostinfo
    assert empty is not None
    assert empty.raw == b"{}"


def test_names_match_in_any_case_and_the_later_spelling_wins() -> None:
    """Keys fold at every level, as in encoding/json."""
    body = (
        b'{"VERSION":1,"version":130,"hostinfo":{"os":"a","OS":"b","netinfo":{"preferredderp":7}}}'
    )
    request = decode_map_request(body)
    assert request.version == 130
    assert request.hostinfo is not None
    assert (request.hostinfo.os, request.hostinfo.home_derp) == ("b", 7)


def test_zero_keys_are_falsy() -> None:
    """A key of zeros, null and no key at all are the same "none"."""
    zeros = map_request(NodeKey="nodekey:" + "0" * 64, DiscoKey=None)
    assert zeros == MapRequest()
    assert not zeros.node_key
    assert not zeros.disco_key


@pytest.mark.parametrize(
    "expiry",
    ["0001-01-01T00:00:00Z", "0001-01-01T00:00:00+01:00", "0001-01-01T00:00:00.000Z", None],
)
def test_the_zero_time_is_no_expiry(expiry: str | None) -> None:
    """Go's zero time in any spelling means none."""
    request = register_request(Expiry=expiry)
    assert request.expiry is None
    assert not request.asks_logout(NOW)


def test_a_past_expiry_asks_for_logout() -> None:
    """The logout of Go clients is Unix second 123 in their local offset, whatever Auth says."""
    request = register_request(Expiry="1970-01-01T01:02:03+01:00", Auth={"AuthKey": "k"})
    assert request.expiry == datetime(1970, 1, 1, 0, 2, 3, tzinfo=UTC)
    assert request.asks_logout(NOW)


def test_a_future_expiry_is_no_logout() -> None:
    """Nanoseconds are read and rounded; the offset becomes UTC."""
    request = register_request(Expiry="2026-06-01T02:00:00.123456789+02:00")
    assert request.expiry == datetime(2026, 6, 1, 0, 0, 0, 123457, tzinfo=UTC)
    assert not request.asks_logout(NOW)
    assert request.asks_logout(NOW + timedelta(days=365))


def test_signatures_are_base64_or_null() -> None:
    """Go's []byte is base64 text; null is none; the signature's kind is text or a number."""
    request = register_request(NodeKeySignature="AAEC", SignatureType="signature-v2")
    assert (request.node_key_signature, request.signature_type) == (b"\0\1\2", "signature-v2")
    rust = register_request(NodeKeySignature=None, SignatureType=0)
    assert (rust.node_key_signature, rust.signature_type) == (b"", 0)


def test_the_auth_key_is_not_in_the_repr() -> None:
    """A request that ends in a log shows no secret."""
    request = register_request(
        Auth={"AuthKey": "mskey-secret", "Oauth2Token": {"access_token": "token-secret"}}
    )
    assert request.auth_key == "mskey-secret"
    assert "secret" not in repr(request)
    assert register_request().auth_key == ""


def test_useless_endpoints_are_dropped() -> None:
    """Link-local, zoned, unspecified, multicast and malformed endpoints go; others are canonical."""
    request = map_request(
        Endpoints=[
            "192.0.2.1:1",
            "[2001:DB8:0:0::1]:65535",
            "169.254.1.1:9",
            "[fe80::1]:41641",
            "[fe80::1%eth0]:41641",
            "[2001:db8::1%eth0]:1",
            "0.0.0.0:1",
            "[::]:1",
            "224.0.0.1:1",
            "192.0.2.1:0",
            "192.0.2.1:65536",
            "192.0.2.01:5",
            "192.0.2.1",
            "2001:db8::1:41641",
            "[192.0.2.1]:5",
            "host.example:5",
            " 192.0.2.1:5",
            "192.0.2.1:\N{ARABIC-INDIC DIGIT FIVE}",
            "",
        ]
    )
    assert request.endpoints == ("192.0.2.1:1", "[2001:db8::1]:65535", "169.254.1.1:9")


def test_endpoints_are_bounded() -> None:
    """One node cannot make every peer's map long."""
    request = map_request(Endpoints=[f"192.0.2.1:{port}" for port in range(1, 1000)])
    assert len(request.endpoints) == MAX_ENDPOINTS


SECRET = "echo-me-not"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"[]",
        b'"echo-me-not"',
        b"{",
        b'{"NodeKey":"echo-me-not"}',
        b'{"NodeKey":"nodekey:echo-me-not"}',
        b'{"NodeKey":"discokey:' + b"1" * 64 + b'"}',
        b'{"NodeKey":""}',
        b'{"NodeKey":5}',
        b'{"Version":"echo-me-not"}',
        b'{"Version":true}',
        b'{"Version":-1}',
        b'{"Version":65536}',
        b'{"Version":1e999}',
        b'{"Hostinfo":"echo-me-not"}',
        b'{"Hostinfo":{"OS":["echo-me-not"]}}',
        b'{"Hostinfo":{"RoutableIPs":"echo-me-not"}}',
        b'{"Hostinfo":{"RoutableIPs":["echo-me-not"]}}',
        b'{"Hostinfo":{"RoutableIPs":["10.0.0.1"]}}',
        b'{"Hostinfo":{"RoutableIPs":["10.0.0.0/33"]}}',
        b'{"Hostinfo":{"RoutableIPs":["10.0.0.0/255.0.0.0"]}}',
        b'{"Hostinfo":{"RoutableIPs":["fe80::1%echo-me-not/64"]}}',
        b'{"Hostinfo":{"Container":"true"}}',
        b'{"Hostinfo":{"Services":[{"Proto":"tcp","Port":65536}]}}',
        b'{"Hostinfo":{"NetInfo":{"DERPLatency":{"echo-me-not":"x"}}}}',
        b'{"Hostinfo":{"NetInfo":{"PreferredDERP":70000}}}',
        b'{"OS":"\xff echo-me-not"}',
        b'{"OS":"\\ud800 echo-me-not"}',
        b'{"a":' + b"[" * 100_000,
        b'{"a":' * 100_000,
    ],
)
@pytest.mark.parametrize("decode", [decode_map_request, decode_register_request])
def test_garbage_is_the_peers_fault_and_not_echoed(
    body: bytes, decode: Callable[[bytes], object]
) -> None:
    """Whatever is wrong with a body, it is a RemoteProtocolError that repeats none of it."""
    with pytest.raises(RemoteProtocolError) as caught:
        decode(body)
    assert SECRET not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


def test_unknown_members_may_hold_anything() -> None:
    """Depth and size of what we do not model are no reason to turn a client away."""
    body = b'{"Hostinfo":{"Future":' + b'[{"a":' * 50 + b"9" * 30 + b"}]" * 50 + b"}}"
    hostinfo = decode_map_request(body).hostinfo
    assert hostinfo is not None
    assert hostinfo.raw == body.removeprefix(b'{"Hostinfo":').removesuffix(b"}")


def test_depth_beyond_the_stack_is_the_peers_fault() -> None:
    """Every depth either decodes or is refused, at the edge of the stack too.

    Where that edge is depends on the Python version; a body has up to 1 MiB.
    """
    outcomes = []
    for depth in (*range(1, 1200), *range(5_000, 20_000, 500), 500_000):
        body = b'{"Hostinfo":{"a":' + b"[" * depth + b"]" * depth + b"}}"
        try:
            decode_map_request(body)
        except RemoteProtocolError:
            outcomes.append(False)
        else:
            outcomes.append(True)
    assert outcomes == sorted(outcomes, reverse=True)
    assert (outcomes[0], outcomes[-1]) == (True, False)


def test_a_wrong_type_names_the_member() -> None:
    """The message tells a client's author where to look."""
    with pytest.raises(
        RemoteProtocolError, match=r"wrong type at \$\.Hostinfo\.NetInfo\.LinkType$"
    ):
        map_request(HostInfo={"netinfo": {"linktype": 5}})


@pytest.mark.parametrize(
    "text", ["2026-01-01", "2026-01-01T00:00:00", "soon", "9999-12-31T23:59:59-10:00"]
)
def test_a_time_needs_an_offset(text: str) -> None:
    """A time without offset, or outside what can be told, is refused."""
    with pytest.raises(RemoteProtocolError):
        register_request(Expiry=text)


def test_a_hostinfo_decodes_alone() -> None:
    """What is stored reads back to the same typed view and the same bytes."""
    request = decode_map_request((CORPUS / "rust-map-poll.json").read_bytes())
    assert request.hostinfo is not None
    assert decode_hostinfo(request.hostinfo.raw) == request.hostinfo


def test_an_admission_request_decodes() -> None:
    """A relay's question names the key and the source."""
    body = json.dumps({"NodePublic": "nodekey:" + "11" * 32, "Source": "192.0.2.1"}).encode()
    assert decode_admit_request(body) == DERPAdmitClientRequest(
        node_public=NodeKey(b"\x11" * 32), source="192.0.2.1"
    )
