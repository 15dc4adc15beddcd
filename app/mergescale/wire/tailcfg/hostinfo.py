"""tailcfg.Hostinfo: what a node says of itself, typed and as it is stored (spec 3.6).

A received Hostinfo becomes a typed view for the server's own use, with the whole of it as
`canonical` JSON in ``Hostinfo.raw``: keys respelled as Go's (Rust has ``IpnVersion``), nulls
dropped, members sorted, unknown members kept. That is what is stored; equal content gives equal
bytes. What other nodes see of it is `hostviews`' business.
"""

from __future__ import annotations

import re
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta, field

from mergescale.kernel.errors import RemoteProtocolError
from mergescale.wire.tailcfg.decode import Shape, convert, each, listed, parse_json, texted
from mergescale.wire.tailcfg.names import Wire

#: LIMIT: canonical JSON of a Hostinfo. A Go client's has 1 to 3 kB and grows with its open ports;
#: it is kept for each of a thousand pending logins, which anybody may begin.
MAX_HOSTINFO_BYTES: Final = 64 << 10

Network = IPv4Network | IPv6Network
#: tailcfg's opt.Bool: true, false, or None for unset.
OptBool = bool | None
#: Regions above 65535 are cut to 16 bits by clients (spec 4.8).
RegionID = Annotated[int, Meta(ge=0, le=65535)]

#: Where a converted tree carries the canonical JSON; set after the client's members, so that no
#: client can forge it.
_RAW: Final = "<raw>"
_PREFIX: Final = re.compile("[0-9A-Fa-f:.]{2,45}/[0-9]{1,3}")
_SORTED: Final = msgspec.json.Encoder(order="sorted")


class Service(Wire, frozen=True, kw_only=True):
    """tailcfg.Service as received.

    Attributes:
        proto: ``tcp``, ``udp`` or a PeerAPI service.
        port: 0 to 65535.
        description: process name.
    """

    proto: str = ""
    port: Annotated[int, Meta(ge=0, le=65535)] = 0
    description: str = ""


class Location(Wire, frozen=True, kw_only=True):
    """tailcfg.Location: where a node says it is; exit nodes are suggested by it.

    Attributes:
        country: name.
        country_code: ISO 3166-1 alpha-2.
        city: name.
        city_code: unique for the city within the tailnet.
        latitude: degrees.
        longitude: degrees.
        priority: WIRE(capver 119): the highest wins; never negative.
    """

    country: str = ""
    country_code: str = ""
    city: str = ""
    city_code: str = ""
    latitude: float = 0.0
    longitude: float = 0.0
    priority: Annotated[int, Meta(ge=0, le=2**31 - 1)] = 0


class TPMInfo(Wire, frozen=True, kw_only=True):
    """tailcfg.TPMInfo: not used; typed loosely because Go and Rust disagree about it."""

    manufacturer: Any = ""
    vendor: Any = ""
    model: Any = 0
    firmware_version: Any = 0
    spec_revision: Any = 0
    family_indicator: Any = ""


class NetInfo(Wire, frozen=True, kw_only=True):
    """tailcfg.NetInfo: what a network check found; None in a Hostinfo until the first finished.

    Attributes:
        mapping_varies_by_dest_ip: hard NAT.
        working_ipv6: IPv6 internet works.
        os_has_ipv6: the OS has IPv6 at all.
        working_udp: UDP internet works.
        working_icmpv4: ICMPv4 works.
        have_port_map: a port mapping is open.
        upnp: on the LAN.
        pmp: NAT-PMP, on the LAN.
        pcp: on the LAN.
        preferred_derp: home region; 0 is unknown (Rust can send latencies without it).
        link_type: ``wired``, ``wifi``, ``mobile`` or empty.
        derp_latency: seconds by ``<region id>-v4`` or ``-v6``.
        firewall_mode: ``nft-…`` or ``ipt-…`` with its reason.
    """

    mapping_varies_by_dest_ip: OptBool = None
    working_ipv6: OptBool = None
    os_has_ipv6: OptBool = None
    working_udp: OptBool = None
    working_icmpv4: OptBool = None
    have_port_map: bool = False
    upnp: OptBool = None
    pmp: OptBool = None
    pcp: OptBool = None
    preferred_derp: RegionID = 0
    link_type: str = ""
    derp_latency: dict[str, float] = field(default_factory=dict)
    firewall_mode: str = ""


class Hostinfo(Wire, frozen=True, kw_only=True):
    """tailcfg.Hostinfo as received; every member may be absent (spec 3.6).

    Attributes:
        routable_ips: advertised prefixes as canonical text, host bits cleared; `routes` has them
            as networks.
        request_tags: ``tag:x`` names asked for, unchecked.
        raw: the whole object as `canonical` JSON; not a member on the wire.
    """

    ipn_version: str = ""
    frontend_log_id: str = ""
    backend_log_id: str = ""
    os: str = ""
    os_version: str = ""
    container: OptBool = None
    env: str = ""
    distro: str = ""
    distro_version: str = ""
    distro_code_name: str = ""
    app: str = ""
    desktop: OptBool = None
    package: str = ""
    device_model: str = ""
    push_device_token: str = ""
    hostname: str = ""
    shields_up: bool = False
    sharee_node: bool = False
    no_logs_no_support: bool = False
    remote_config: bool = False
    wire_ingress: bool = False
    ingress_enabled: bool = False
    allows_update: bool = False
    machine: str = ""
    go_arch: str = ""
    go_arch_var: str = ""
    go_version: str = ""
    routable_ips: tuple[str, ...] = ()
    request_tags: tuple[str, ...] = ()
    wol_macs: tuple[str, ...] = ()
    services: tuple[Service, ...] = ()
    net_info: NetInfo | None = None
    ssh_host_keys: tuple[str, ...] = field(name="sshHostKeys", default=())
    cloud: str = ""
    userspace: OptBool = None
    userspace_router: OptBool = None
    app_connector: OptBool = None
    services_hash: str = ""
    peer_relay: bool = False
    exit_node_id: str = ""
    location: Location | None = None
    tpm: TPMInfo | None = None
    state_encrypted: OptBool = None
    raw: bytes = field(name=_RAW, default=b"{}")

    @property
    def routes(self) -> tuple[Network, ...]:
        """Return the advertised prefixes as networks, in the client's order."""
        return tuple(map(ip_network, self.routable_ips))

    @property
    def home_derp(self) -> int:
        """Return the home region, 0 while unknown."""
        return 0 if self.net_info is None else self.net_info.preferred_derp


def decode_hostinfo(raw: bytes) -> Hostinfo:
    """Return the typed view of a Hostinfo; raise `RemoteProtocolError` if malformed."""
    return convert(read_hostinfo(parse_json(raw)), Hostinfo)


def stored_hostinfo(raw: bytes) -> Hostinfo:
    """Return the typed view of a Hostinfo that was kept; of bytes that are none, one of nothing."""
    try:
        return decode_hostinfo(raw)
    except RemoteProtocolError:
        return Hostinfo()


def canonical(raw: bytes) -> bytes:
    """Return a Hostinfo's JSON with Go's keys, sorted, without nulls; unknown members are kept."""
    return decode_hostinfo(raw).raw


def read_hostinfo(value: Any) -> dict[str, Any]:
    """Read a Hostinfo inside a request: respell it and note its canonical JSON under ``raw``."""
    tree = _HOSTINFO(value)
    tree.pop(_RAW, None)
    try:
        tree[_RAW] = _SORTED.encode(tree)
    except RecursionError:
        # The parser ran a few frames higher, so what it could just nest may not be written again.
        raise RemoteProtocolError("a hostinfo is nested too deep") from None
    if len(tree[_RAW]) > MAX_HOSTINFO_BYTES:
        raise RemoteProtocolError("a hostinfo is too long")
    return tree


def _prefixes(value: Any) -> list[str]:
    return [_prefix(texted(item)) for item in listed(value)]


@lru_cache(maxsize=4096)
def _prefix(text: str) -> str:
    """Return a prefix as canonical text; raise `RemoteProtocolError` where Go's parser would."""
    try:
        return str(ip_network(text if _PREFIX.fullmatch(text) else "", strict=False))
    except ValueError:
        raise RemoteProtocolError("an address prefix was expected") from None


_HOSTINFO: Final = Shape(
    Hostinfo,
    {
        "routable_ips": _prefixes,
        "services": each(Shape(Service)),
        "net_info": Shape(NetInfo),
        "location": Shape(Location),
        "tpm": Shape(TPMInfo),
    },
)
