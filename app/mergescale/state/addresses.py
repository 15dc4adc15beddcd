"""Addresses for nodes.

An address follows from the node's id: node 7 gets 100.64.0.7 and fd7a:115c:a1e0::7. Ids are never
used again, so neither is an address before four million nodes came and went, and whatever still
remembers a deleted node (known_hosts, a firewall elsewhere) does not meet another one in its place.
Nothing is scanned: the first candidate is free unless the range was used up once.

Where the policy names a pool for the node's owner (``ipPool``), its IPv4 address is from there, at
the same offset; its IPv6 address is what it would have been. An address once given stays, whatever
the policy says later.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Final

from mergescale.domain.prefixes import (
    CHROMEOS_V4,
    SERVICE_V4,
    SERVICE_V6,
    TAILNET_V4,
    TAILNET_V6,
)
from mergescale.domain.snapshot import Snapshot
from mergescale.kernel.errors import Conflict, Invalid
from mergescale.kernel.ids import NodeId

#: LIMIT: candidates tried, some 20 ms. With half of the range free two are enough on average; with
#: a hundredth of it free all of them are in use once in 10^17 cases.
_CANDIDATES: Final = 4096
#: Steps from one candidate to the next, so that a long run of neighbours in use is left at once.
#: Odd, as the size of the range is a power of two: so every offset comes up in the end.
_STRIDE: Final = 1_664_525


@dataclass(frozen=True, slots=True)
class Pool:
    """Two ranges that give a node the same offset in both.

    Attributes:
        v4: the smaller one; its size bounds the number of nodes.
        v6: at least as large.
        reserved: never given out, of either family.
    """

    v4: IPv4Network
    v6: IPv6Network
    reserved: tuple[IPv4Network | IPv6Network, ...] = ()

    def pair(self, offset: int) -> tuple[IPv4Address, IPv6Address]:
        """Return the addresses at an offset."""
        return self.v4[offset], self.v6[offset]

    def allows(self, address: IPv4Address | IPv6Address) -> bool:
        """Say whether a node may have the address: inside, not reserved, not at an IPv4 edge."""
        if address in {self.v4.network_address, self.v4.broadcast_address}:
            return False
        if any(address in prefix for prefix in self.reserved):
            return False
        return address in self.v4 or address in self.v6


#: Where all tailnets take their addresses; nothing crosses between them, so all take the same.
TAILNET: Final = Pool(TAILNET_V4, TAILNET_V6, (CHROMEOS_V4, SERVICE_V4, SERVICE_V6))


def allocate(
    snapshot: Snapshot,
    node: NodeId,
    pool: Pool = TAILNET,
    *,
    parts: Sequence[IPv4Network] = (),
) -> tuple[IPv4Address, IPv6Address]:
    """Return a free address of each family for a new node.

    Args:
        snapshot: where the addresses must be free.
        node: the new node.
        pool: the whole range.
        parts: where in the range the IPv4 address has to be, the preferred one first; empty for
            anywhere.

    Raises:
        Conflict: the range, or each of its parts, is used up.
    """
    ipv4, ipv6 = _pair(snapshot, node, pool)
    return (_within(snapshot, node, pool, parts) if parts else ipv4), ipv6


def _within(
    snapshot: Snapshot, node: NodeId, pool: Pool, parts: Sequence[IPv4Network]
) -> IPv4Address:
    for part in parts:
        size = part.num_addresses
        offset = node % size
        for _ in range(min(size, _CANDIDATES)):
            address = part[offset]
            if address not in snapshot.addresses and pool.allows(address):
                return address
            offset = (offset + _STRIDE) % size
    named = ", ".join(map(str, parts))
    raise Conflict(
        f"all addresses of {named} are in use", help="make the ipPool in the policy larger"
    )


def _pair(snapshot: Snapshot, node: NodeId, pool: Pool) -> tuple[IPv4Address, IPv6Address]:
    size = pool.v4.num_addresses
    offset = node % size
    for _ in range(min(size, _CANDIDATES)):
        pair = pool.pair(offset)
        if all(a not in snapshot.addresses and pool.allows(a) for a in pair):
            return pair
        offset = (offset + _STRIDE) % size
    raise Conflict(
        f"all addresses of {pool.v4} are in use", help="delete nodes that are no longer needed"
    )


def check_free(
    snapshot: Snapshot, node: NodeId, address: IPv4Address | IPv6Address, pool: Pool = TAILNET
) -> None:
    """Check that an operator may give this address to the node.

    Raises:
        Invalid: outside of the tailnet's range, or reserved.
        Conflict: another node has it.
    """
    if not pool.allows(address):
        raise Invalid(
            f"{address} is not an address for a node", help=f"choose one inside {pool.v4}"
        )
    holder = snapshot.addresses.get(address, node)
    if holder != node:
        raise Conflict(f'{address} belongs to "{snapshot.nodes[holder].name}"')
