"""``nodeAttrs`` compiled: which entries concern a node, and what follows from them.

Entries are numbered by their targets, so that what a node is to the whole section is one int; nodes
with the same int have the same attributes, as one object.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv4Network
from typing import TYPE_CHECKING, Final

from mergescale.domain.access import NodeCapabilities
from mergescale.domain.node import Node
from mergescale.policy.device import attributes_of
from mergescale.policy.document import NodeAttribute
from mergescale.policy.principals import Principal

if TYPE_CHECKING:
    from mergescale.policy.compiled import Lookup

_CAP: Final = "https://tailscale.com/cap/"
#: SPEC(hosted service, "CGNAT conflicts"): the node keeps its IPv4 address, but nobody is told it.
DISABLE_IPV4: Final = "disable-ipv4"
_HTTPS: Final = "https"
_FUNNEL: Final = "funnel"
#: SPEC(hosted service): the ports that may be published with funnel.
_FUNNEL_PORTS: Final = f"{_CAP}funnel-ports?ports=443,8443,10000"
#: SPEC(hosted service): a node that may publish but can not have a certificate is told so.
_FUNNEL_NO_HTTPS: Final = f"{_CAP}warn-funnel-no-https"


@dataclass(frozen=True, slots=True, eq=False)
class Attributes:
    """All entries that say something, in order.

    Attributes:
        entries: number of the target list, and the entry.
        lookup: from what a node is to the numbers of the target lists it is in.
        by_system: operating system, as ``node:os`` has it -> bits of what is for it.
        without_ipv4: bits of the entries that take the IPv4 address away.
    """

    entries: tuple[tuple[int, NodeAttribute], ...]
    lookup: Lookup
    by_system: Mapping[str, int]
    without_ipv4: int

    def named(self, principals: frozenset[Principal]) -> int:
        """Return the bits of the target lists that mean a node by its names, or every node."""
        return self.lookup.always | self.lookup.named(principals)

    def of_node(self, node: Node) -> int:
        """Return the bits of those that mean the node by its own addresses or its system.

        A subnet is not its router: the hosts behind it are told nothing.
        """
        bits = 0
        if self.lookup.by_address.cuts:
            for address in (node.ipv4, node.ipv6):
                bits |= self.lookup.by_address.meeting(address.version, int(address), int(address))
        if self.by_system:
            bits |= self.by_system.get(str(attributes_of(node).get("node:os")), 0)
        return bits

    def capabilities(self, bits: int) -> NodeCapabilities:
        """Return what the nodes with these bits are told, by capability."""
        found: dict[str, dict[bytes, None]] = {}
        for number, entry in self.entries:
            if bits >> number & 1:
                for name in entry.names:
                    found.setdefault(name, {})
                for name, values in entry.apps:
                    found.setdefault(name, {}).update(dict.fromkeys(values))
        if _FUNNEL in found:
            found.setdefault(_FUNNEL_PORTS, {})
            if _HTTPS not in found:
                found.setdefault(_FUNNEL_NO_HTTPS, {})
        return {name: tuple(found[name]) for name in sorted(found)}

    def pools(self, principals: frozenset[Principal]) -> tuple[IPv4Network, ...]:
        """Return where a new node takes its IPv4 address: ``ipPool`` of the first entry for it."""
        bits = self.named(principals)
        return next((one.pools for at, one in self.entries if one.pools and bits >> at & 1), ())
