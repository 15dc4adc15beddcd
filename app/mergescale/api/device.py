"""A node as Tailscale's API shows it: the ``Device`` object.

Members and their types are those that tailscale-client-go-v2 reads; what Mergescale does not have
(updates, sharing, tailnet lock) has the value that says so.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address
from typing import Final

import msgspec
from msgspec import UNSET, Struct, UnsetType, field

from mergescale.domain.node import Node
from mergescale.domain.prefixes import sort_key
from mergescale.domain.snapshot import Snapshot
from mergescale.domain.user import TAGGED_LOGIN

#: Go's zero time: what the hosted service says of a key that does not expire.
_NEVER: Final = datetime(1, 1, 1, tzinfo=UTC)


class Distro(Struct, frozen=True, rename="camel"):
    """The Linux distribution a device runs."""

    name: str
    version: str
    code_name: str


class RegionLatency(Struct, frozen=True, omit_defaults=True):
    """How far a relay region is."""

    latency_ms: float = field(name="latencyMs")
    preferred: bool = False


class ClientSupports(Struct, frozen=True):
    """What the device's network can do; null where it did not find out."""

    hair_pinning: bool | None = field(name="hairPinning", default=None)
    ipv6: bool | None = None
    pcp: bool | None = None
    pmp: bool | None = None
    udp: bool | None = None
    upnp: bool | None = None


class ClientConnectivity(Struct, frozen=True, kw_only=True):
    """What a device's last network check found.

    Attributes:
        endpoints: ``ip:port`` where its UDP socket may be reached.
        derp: name of its home region, empty while unknown.
        mapping_varies_by_dest_ip: hard NAT; null where unknown.
        latency: by region name; the better one of IPv4 and IPv6.
    """

    endpoints: list[str]
    derp: str
    mapping_varies_by_dest_ip: bool | None = field(name="mappingVariesByDestIP")
    latency: dict[str, RegionLatency]
    client_supports: ClientSupports = field(name="clientSupports")


class Device(Struct, frozen=True, kw_only=True, rename="camel"):
    """A device.

    Attributes:
        addresses: IPv4, then IPv6.
        id: decimal; `node_id` is preferred.
        node_id: never changes; unique in the server.
        name: its MagicDNS name, without a dot at the end.
        hostname: as the device calls itself.
        user: login of its owner, ``tagged-devices`` for a tagged one.
        authorized: approved, where the tailnet asks for approval.
        expires: when its key expires; year 1 for never.
        last_seen: when it was last connected; absent while it is.
        blocks_incoming_connections: it has shields up.
        advertised_routes: only with ``fields=all``, as are all that follow.
        enabled_routes: what it may route, whether it advertises it or not.
    """

    addresses: list[str]
    id: str
    node_id: str
    name: str
    hostname: str
    user: str
    tags: list[str]
    os: str
    client_version: str
    created: datetime
    expires: datetime
    last_seen: datetime | UnsetType = UNSET
    key_expiry_disabled: bool
    authorized: bool
    connected_to_control: bool
    is_ephemeral: bool
    is_external: bool = False
    update_available: bool = False
    blocks_incoming_connections: bool
    machine_key: str
    node_key: str
    tailnet_lock_error: str = ""
    tailnet_lock_key: str = ""
    advertised_routes: list[str] | UnsetType = UNSET
    enabled_routes: list[str] | UnsetType = UNSET
    client_connectivity: ClientConnectivity | UnsetType = UNSET
    ssh_enabled: bool | UnsetType = UNSET
    distro: Distro | UnsetType = UNSET


class _Said(Struct, rename="pascal"):
    """The members of a stored Hostinfo that devices are shown with."""

    hostname: str = ""
    os: str = field(name="OS", default="")
    ipn_version: str = field(name="IPNVersion", default="")
    shields_up: bool = False


class _NetInfo(Struct, rename="pascal"):
    """The same of its NetInfo."""

    mapping_varies_by_dest_ip: bool | None = field(name="MappingVariesByDestIP", default=None)
    hair_pinning: bool | None = None
    working_ipv6: bool | None = field(name="WorkingIPv6", default=None)
    working_udp: bool | None = field(name="WorkingUDP", default=None)
    upnp: bool | None = field(name="UPnP", default=None)
    pmp: bool | None = field(name="PMP", default=None)
    pcp: bool | None = field(name="PCP", default=None)
    derp_latency: dict[str, float] = field(name="DERPLatency", default_factory=dict)


class _SaidMore(_Said, rename="pascal"):
    """What only ``fields=all`` needs."""

    distro: str = ""
    distro_version: str = ""
    distro_code_name: str = ""
    ssh_host_keys: list[str] = field(name="sshHostKeys", default_factory=list)
    net_info: _NetInfo = field(default_factory=_NetInfo)


_SAID: Final = msgspec.json.Decoder(_Said)
_SAID_MORE: Final = msgspec.json.Decoder(_SaidMore)


def brief(snapshot: Snapshot, node: Node) -> Device:
    """Return the device with the members that a listing has when nothing is said."""
    try:
        said = _SAID.decode(node.hostinfo)
    except msgspec.DecodeError:
        # One bad row must not take everybody else's from the operator.
        said = _Said()
    owner = snapshot.owner(node)
    online = snapshot.online(node.id)
    return Device(
        addresses=[_address(node.ipv4), _address(node.ipv6)],
        id=str(node.id),
        node_id=node.stable_id,
        name=f"{node.name}.{snapshot.magic_dns_suffix}",
        hostname=said.hostname,
        user=TAGGED_LOGIN if owner is None else owner.login,
        tags=list(node.tags),
        os=said.os,
        client_version=said.ipn_version,
        created=node.created,
        expires=node.key_expiry or _NEVER,
        last_seen=UNSET if online or node.last_seen is None else node.last_seen,
        key_expiry_disabled=node.key_expiry is None,
        authorized=node.authorized,
        connected_to_control=online,
        is_ephemeral=node.ephemeral,
        blocks_incoming_connections=said.shields_up,
        machine_key=str(node.machine_key),
        node_key=str(node.node_key),
    )


def full(snapshot: Snapshot, node: Node, regions: Mapping[int, str]) -> Device:
    """Return the device with all members.

    Args:
        snapshot: that the node is in.
        node: the node.
        regions: names of the relay regions.
    """
    try:
        said = _SAID_MORE.decode(node.hostinfo)
    except msgspec.DecodeError:
        said = _SaidMore()
    return msgspec.structs.replace(
        brief(snapshot, node),
        advertised_routes=[str(prefix) for prefix in node.advertised],
        enabled_routes=[str(prefix) for prefix in sorted(node.approved, key=sort_key)],
        client_connectivity=_connectivity(node, said.net_info, regions),
        ssh_enabled=bool(said.ssh_host_keys),
        distro=Distro(said.distro, said.distro_version, said.distro_code_name),
    )


def region_names(snapshot: Snapshot, own: Mapping[int, str]) -> dict[int, str]:
    """Return the names of all relay regions of a tailnet; `own` are the server's."""
    return {**own, **{region.id: region.name for region in snapshot.relays.regions}}


@lru_cache(maxsize=1 << 16)
def _address(address: IPv4Address | IPv6Address) -> str:
    """Return the text of an address; half of the time of a listing if it is made each time."""
    return str(address)


def _connectivity(node: Node, found: _NetInfo, regions: Mapping[int, str]) -> ClientConnectivity:
    return ClientConnectivity(
        endpoints=list(node.endpoints),
        derp=_region(node.home_derp, regions) if node.home_derp else "",
        mapping_varies_by_dest_ip=found.mapping_varies_by_dest_ip,
        latency=_latency(node.home_derp, found, regions),
        client_supports=ClientSupports(
            hair_pinning=found.hair_pinning,
            ipv6=found.working_ipv6,
            pcp=found.pcp,
            pmp=found.pmp,
            udp=found.working_udp,
            upnp=found.upnp,
        ),
    )


def _latency(home: int, found: _NetInfo, regions: Mapping[int, str]) -> dict[str, RegionLatency]:
    """Return the latencies by region name; a device states seconds as ``<region>-v4`` or ``-v6``."""
    nearest: dict[int, float] = {}
    for key, latency_s in found.derp_latency.items():
        text = key.partition("-")[0]
        if text.isascii() and text.isdigit():
            region = int(text)
            nearest[region] = min(latency_s, nearest.get(region, latency_s))
    return {
        _region(region, regions): RegionLatency(round(latency_s * 1000, 3), region == home)
        for region, latency_s in sorted(nearest.items())
    }


def _region(region: int, regions: Mapping[int, str]) -> str:
    return regions.get(region) or f"region {region}"
