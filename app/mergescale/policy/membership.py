"""What one node is to the whole policy: its seat, with the sources it is in and the targets it is among."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

from mergescale.domain.node import Node
from mergescale.domain.prefixes import Prefix, is_exit
from mergescale.domain.snapshot import Snapshot
from mergescale.kernel.ids import UserId
from mergescale.policy.compiled import CompiledPolicy, Lookup, Wide
from mergescale.policy.device import attributes_of
from mergescale.policy.principals import Principal, of_node
from mergescale.policy.selectors import Range
from mergescale.policy.ssh.compiled import local_parts


@dataclass(frozen=True, slots=True)
class Seat:
    """One node that takes part.

    Attributes:
        ipv4, ipv6: its addresses as text; no IPv4 address where the policy takes it away.
        routes: what it routes, exit routes included.
        owner: None for a tagged node.
        listed: bits of the sources that list its addresses.
        sources: bits of the sources it is in: those, ``*``, and ranges it has an address in.
        targets: bits of the targets it is among.
        attributes: bits of the target lists of ``nodeAttrs`` it is in.
        local_part: the user that its owner's login stands for over SSH, empty for none.
    """

    ipv4: str
    ipv6: str
    routes: tuple[Prefix, ...]
    owner: UserId | None
    listed: int
    sources: int
    targets: int
    attributes: int
    local_part: str = ""

    @property
    def addresses(self) -> tuple[str, ...]:
        """Its addresses, IPv4 first."""
        return (self.ipv4, self.ipv6) if self.ipv4 else (self.ipv6,)

    @property
    def place(self) -> tuple[str, str, tuple[Prefix, ...], UserId | None]:
        """What its filter depends on besides the sources and targets it is in."""
        return self.ipv4, self.ipv6, self.routes, self.owner

    @property
    def subnets(self) -> tuple[Prefix, ...]:
        """Its routes without the exit routes."""
        return tuple(one for one in self.routes if not is_exit(one))

    @property
    def exits(self) -> tuple[int, ...]:
        """The address families it is an exit node for."""
        return tuple(one.version for one in self.routes if is_exit(one))


class _Names(NamedTuple):
    """What nodes of one owner and the same tags answer to, and the bits that gives them."""

    principals: frozenset[Principal]
    sources: int
    targets: int
    attributes: int


class Usher:
    """Gives the nodes of one snapshot their seats.

    Nodes of one owner and the same tags have the same names, so what those are in is looked up once
    for all of them.
    """

    def __init__(self, policy: CompiledPolicy, snapshot: Snapshot) -> None:
        self._policy = policy
        self._snapshot = snapshot
        self._local_parts = local_parts(policy.ssh)
        self._named: dict[tuple[UserId | None, tuple[str, ...]], _Names] = {}
        self._opened: dict[str, int] = {}

    def seat(self, node: Node) -> Seat | None:
        """Return the node's seat; None when it does not take part."""
        if not self._snapshot.takes_part(node):
            return None
        policy, routes = self._policy, node.routes
        names = self._by_name(node)
        listed, targets = names.sources, names.targets
        targets |= _addressed(policy.target_lookup, node)
        if any(is_exit(one) for one in routes):
            targets |= policy.internet
        if routes:
            targets |= _led(policy.target_lookup, names.principals, routes)
        attributes = names.attributes | policy.attributes.of_node(node)
        sources = listed | _addressed(policy.source_lookup, node)
        if gated := policy.gates.gated:
            opened = sources & self._opened_to(node)
            sources, listed = sources & ~gated | opened, listed & ~gated | opened
        return Seat(
            ipv4="" if attributes & policy.attributes.without_ipv4 else _text(node.ipv4),
            ipv6=_text(node.ipv6),
            routes=routes,
            owner=node.user,
            listed=listed,
            sources=sources,
            targets=targets,
            attributes=attributes,
            local_part=self._local_part(node),
        )

    def _opened_to(self, node: Node) -> int:
        """Return the gated sources that the device's posture opens; looked up once for equal ones."""
        attributes = attributes_of(node)
        # INVARIANT(types): as keys true and 1 were the same; written they are not.
        key = repr(attributes)
        found = self._opened.get(key)
        if found is None:
            found = self._opened[key] = self._policy.gates.opened(attributes)
        return found

    def _local_part(self, node: Node) -> str:
        if self._local_parts is None:
            return ""
        owner = self._snapshot.owner(node)
        return "" if owner is None else self._local_parts.local_part(owner.login)

    def _by_name(self, node: Node) -> _Names:
        """Return what the node is in by its names."""
        key = node.user, node.tags
        found = self._named.get(key)
        if found is None:
            owner, policy = self._snapshot.owner(node), self._policy
            principals = of_node(node.tags, owner, policy.groups_of)
            found = self._named[key] = _Names(
                principals,
                policy.source_lookup.named(principals),
                policy.target_lookup.named(principals),
                policy.attributes.named(principals),
            )
        return found


#: LIMIT: two for each of 16,000 nodes. Spelling an IPv6 address takes as long as the rest of a seat.
_text = lru_cache(maxsize=32_768)(str)


def _addressed(lookup: Lookup, node: Node) -> int:
    """Return the bits a node has by its addresses and subnet routes, or always.

    An exit node is not at every address of the internet: only ``*`` and ``autogroup:internet``
    lead through it.
    """
    bits = lookup.always
    if not (lookup.by_address.cuts or lookup.by_own_address.cuts):
        return bits
    for address in (node.ipv4, node.ipv6):
        version, number = address.version, int(address)
        bits |= lookup.by_address.meeting(version, number, number)
        bits |= lookup.by_own_address.meeting(version, number, number)
    for one in node.routes:
        if not is_exit(one):
            first, last = int(one.network_address), int(one.broadcast_address)
            bits |= lookup.by_address.meeting(one.version, first, last)
    return bits


def _led(lookup: Lookup, principals: frozenset[Principal], routes: tuple[Prefix, ...]) -> int:
    """Return the bits of what the node leads to because it is a router that a ``via`` names."""
    bits = 0
    for bit, target in lookup.steered:
        if not principals.isdisjoint(target.via) and any(_leads(target.to, one) for one in routes):
            bits |= bit
    return bits


def _leads(target: Range | Wide, route: Prefix) -> bool:
    match target:
        case Wide.INTERNET:
            return is_exit(route)
        case Range() if not is_exit(route):
            first, last = int(route.network_address), int(route.broadcast_address)
            return target.meets(route.version, first, last)
        case _:
            return target is Wide.ANYTHING
