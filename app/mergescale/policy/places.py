"""What sources and targets mean as addresses, in tailcfg's forms."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from ipaddress import ip_address
from typing import Final

from mergescale.domain.access import CapGrant, Destination, FilterRule, Sources
from mergescale.domain.prefixes import Prefix, is_exit
from mergescale.policy.compiled import CompiledRule, Held, SourceList, Steered, TargetKind, Wide
from mergescale.policy.membership import Seat
from mergescale.policy.ports import Ports
from mergescale.policy.selectors import Range

#: ``autogroup:danger-all`` as a source.
ALL_SOURCES: Final = ("*",)
#: SPEC(hosted service): ``*`` as a source: the tailnet's addresses without ChromeOS's 100.115.92/23.
TAILNET_SOURCES: Final = (
    "100.64.0.0-100.115.91.255",
    "100.115.94.0-100.127.255.255",
    "fd7a:115c:a1e0::/48",
)
#: What ``autogroup:internet`` leads to: no private (RFC 1918), link-local (RFC 3927) or shared
#: (RFC 6598) IPv4 address; of IPv6 what is globally routed (RFC 4291).
INTERNET: Final[Mapping[int, tuple[str, ...]]] = {
    4: (
        "0.0.0.0-9.255.255.255",
        "11.0.0.0-100.63.255.255",
        "100.128.0.0-169.253.255.255",
        "169.255.0.0-172.15.255.255",
        "172.32.0.0-192.167.255.255",
        "192.169.0.0-255.255.255.255",
    ),
    6: ("2000::/3",),
}


def addresses(target: TargetKind, seat: Seat) -> tuple[str, ...]:
    """Return what a target means at the node it concerns."""
    match target:
        case Range(text=text):
            return (text,)
        case Wide.ANYTHING:
            return ("*",)
        case Wide.INTERNET:
            return tuple(text for version in seat.exits for text in INTERNET[version])
        case Steered(to=to):
            return addresses(to, seat)
        case _:
            return seat.addresses


def written(one: SourceList, subnets: Iterable[str]) -> set[str]:
    """Return what a source list names besides the addresses of its nodes.

    Nothing where a posture is asked for: nobody knows the posture of an address.
    """
    if one.postures:
        return set()
    texts = {each.text for each in one.ranges}
    return texts.union(TAILNET_SOURCES, subnets) if one.everyone else texts


def narrowed(one: SourceList, listed: Sources) -> Sources:
    """Return what a source list lists; of written addresses with a posture, those only."""
    if not (one.postures and one.ranges):
        return listed
    inside = []
    for text in listed.texts:
        address = ip_address(text)
        if any(each.meets(address.version, int(address), int(address)) for each in one.ranges):
            inside.append(text)
    return Sources(tuple(inside))


def own_prefixes(target: TargetKind, seat: Seat) -> tuple[str, ...]:
    """Return the node's own addresses that a target means, as prefixes of one address each."""
    ips = [ip_address(text) for text in seat.addresses]
    match target:
        case Held(at):
            held = [ip for ip in ips if at.meets(ip.version, int(ip), int(ip))]
        case _:
            held = ips
    return tuple(f"{ip}/{ip.max_prefixlen}" for ip in held)


def leads_into(target: TargetKind, prefix: Prefix) -> bool:
    """Say whether a target that concerns a router leads to some address of its route."""
    match target:
        case Wide.ANYTHING:
            return True
        case Wide.INTERNET:
            return is_exit(prefix)
        case Steered(to=to):
            return leads_into(to, prefix)
        case Range() if not is_exit(prefix):
            first, last = int(prefix.network_address), int(prefix.broadcast_address)
            return target.meets(prefix.version, first, last)
        case _:
            return False


def filter_rule(
    rule: CompiledRule, targets: tuple[tuple[TargetKind, Ports], ...], seat: Seat, sources: Sources
) -> FilterRule:
    """Return what a rule means at the node of `seat`, which is among `targets`."""
    if rule.capabilities:
        own = dict.fromkeys(one for target, _ in targets for one in own_prefixes(target, seat))
        return FilterRule(sources, (), (), CapGrant(tuple(own), rule.capabilities))
    places = tuple(
        Destination(ip, ports.first, ports.last)
        for target, ports in targets
        for ip in addresses(target, seat)
    )
    return FilterRule(sources, places, rule.protocols)


def is_written(target: TargetKind) -> bool:
    """Say whether the target reads the same at every node it concerns."""
    match target:
        case Range() | Wide.ANYTHING:
            return True
        case Steered(to=to):
            return is_written(to)
        case _:
            return False
