"""IP addresses and prefixes, and the two default routes that make an exit node."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_network
from typing import Final

Address = IPv4Address | IPv6Address
Prefix = IPv4Network | IPv6Network

#: Where node addresses come from (spec 4.7: Tailscale SSH refuses anything else).
TAILNET_V4: Final = IPv4Network("100.64.0.0/10")
TAILNET_V6: Final = IPv6Network("fd7a:115c:a1e0::/48")
#: Reserved inside 100.64.0.0/10 for ChromeOS; never given to a node.
CHROMEOS_V4: Final = IPv4Network("100.115.92.0/23")
#: Reserved for MagicDNS (100.100.100.100) and its neighbours; never given to a node.
SERVICE_V4: Final = IPv4Network("100.100.100.0/24")
SERVICE_V6: Final = IPv6Network("fd7a:115c:a1e0::53/128")

EXIT_ROUTES: Final[tuple[Prefix, ...]] = (IPv4Network("0.0.0.0/0"), IPv6Network("::/0"))


def is_exit(prefix: Prefix) -> bool:
    """Say whether the prefix is a default route, which makes its router an exit node."""
    return prefix.prefixlen == 0


def parse_prefix(text: str) -> Prefix:
    """Read ``10.0.0.0/8`` or a bare address; raise ValueError on host bits or garbage."""
    return ip_network(text, strict=True)


def covers(outer: Prefix, inner: Prefix) -> bool:
    """Say whether every address of `inner` lies in `outer`; families never mix."""
    match outer, inner:
        case IPv4Network(), IPv4Network():
            return inner.subnet_of(outer)
        case IPv6Network(), IPv6Network():
            return inner.subnet_of(outer)
        case _:
            return False


def sort_key(prefix: Prefix) -> tuple[int, int, int]:
    """Order prefixes by family, address, length, so that lists are the same every time."""
    return prefix.version, int(prefix.network_address), prefix.prefixlen
