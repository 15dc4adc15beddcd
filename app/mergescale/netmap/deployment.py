"""What every node of a tailnet is told alike: DERPMap, DNSConfig and Domain (spec 4.8 to 4.10)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from mergescale.domain.snapshot import Snapshot
from mergescale.domain.tailnet import Dns, RelayNode, RelayRegion
from mergescale.wire.tailcfg.derpmap import DERPMap, DERPNode, DERPRegion
from mergescale.wire.tailcfg.dns import DNSConfig, DNSRecord, Resolver
from mergescale.wire.tailcfg.encode import encode, encode_text


@dataclass(frozen=True, slots=True)
class Estate:
    """The tailnet-wide members of a map, encoded.

    Attributes:
        derp_map: tailcfg.DERPMap.
        dns: tailcfg.DNSConfig.
        domain: the tailnet's display name, a JSON string.
    """

    derp_map: bytes
    dns: bytes
    domain: bytes


def estate(snapshot: Snapshot, own_region: RelayRegion | None) -> Estate:
    """Encode what the deployment in force says; `own_region` is this server's own relay."""
    return Estate(
        derp_map=encode(_derp_map(snapshot, own_region)),
        dns=encode(_dns(snapshot.dns, snapshot.magic_dns_suffix)),
        domain=encode_text(snapshot.domain),
    )


def _derp_map(snapshot: Snapshot, own_region: RelayRegion | None) -> DERPMap:
    """Return the regions by id; a declared region wins over the server's own with its number.

    Sorted, because a client drops its connection to a region whose JSON differs (spec 4.8).
    """
    regions = {region.id: region for region in snapshot.relays.regions}
    if own_region is not None and snapshot.relays.embedded:
        regions.setdefault(own_region.id, own_region)
    return DERPMap(
        regions={number: _region(regions[number]) for number in sorted(regions)},
        omit_default_regions=True,
    )


def _region(region: RelayRegion) -> DERPRegion:
    # WIRE(capver 115): older clients know NoMeasureNoHome as Avoid.
    return DERPRegion(
        region_id=region.id,
        region_code=region.code,
        region_name=region.name,
        avoid=region.no_measure_no_home,
        no_measure_no_home=region.no_measure_no_home,
        nodes=tuple(_relay(region, relay) for relay in region.nodes),
    )


def _relay(region: RelayRegion, relay: RelayNode) -> DERPNode:
    return DERPNode(
        name=relay.name,
        region_id=region.id,
        host_name=relay.host_name,
        cert_name=relay.cert_name,
        ipv4=relay.ipv4,
        ipv6=relay.ipv6,
        stun_port=relay.stun_port,
        stun_only=relay.stun_only,
        derp_port=relay.derp_port,
        insecure_for_tests=relay.insecure_for_tests,
        can_port80=relay.can_port80,
    )


def _dns(dns: Dns, suffix: str) -> DNSConfig:
    """Return tailcfg.DNSConfig; peer names need nothing here, they come with the peers.

    Nameservers that do not override the device's own are only for systems that cannot split DNS
    without a default (FallbackResolvers).
    """
    servers = tuple(Resolver(addr=address) for address in dns.nameservers)
    routes: dict[str, tuple[Resolver, ...]] = {
        f"{zone}.": tuple(Resolver(addr=address) for address in dns.split[zone])
        for zone in sorted(dns.split)
    }
    optional: dict[str, Any] = {}
    if dns.override_local:
        optional["resolvers"] = servers
    else:
        optional["fallback_resolvers"] = servers
    return DNSConfig(
        routes=routes,
        domains=((suffix,) if dns.magic_dns else ()) + dns.search,
        proxied=dns.magic_dns,
        extra_records=tuple(
            DNSRecord(name=record.name, type=record.type, value=record.value)
            for record in dns.records
        ),
        **optional,
    )
