"""A node's filter as flows: who may send which protocol to which ports of which address.

Sources are a set of bits: the IPv4 address of each node by slot, then its IPv6 address, and above
them stretches of addresses that no node has.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final, NamedTuple

from mergescale.domain.access import FilterRule, Sources
from mergescale.domain.node import Node
from mergescale.domain.snapshot import Snapshot
from mergescale.policy.ports import DEFAULT_PROTOCOLS
from mergescale.policy.selectors import Range, parse_range, range_of

#: Both families on one line; IPv6 comes after all of IPv4.
_BASE: Final = {4: 0, 6: 1 << 32}
_IPV6: Final = 6
_END: Final = {4: (1 << 32) - 1, 6: (1 << 32) + (1 << 128) - 1}


class Place(NamedTuple):
    """Where packets go: first..last of one family, on the line of both."""

    first: int
    last: int


class Flow(NamedTuple):
    """Packets of one protocol to ports first..last."""

    protocol: int
    first: int
    last: int


#: place -> flow -> who may send.
Flows = Mapping[Place, Mapping[Flow, int]]


@dataclass(slots=True)
class Census:
    """Who has which address, so that a list of texts becomes a set of bits.

    Attributes:
        slots: how many there are; twice as many bits are addresses of nodes.
        outside: stretches that no node has, in order; their bits come last.
    """

    slots: int
    outside: tuple[Place, ...]
    _addresses: tuple[int, ...] = ()
    _owners: tuple[int, ...] = ()
    _texts: Mapping[str, int] = field(default_factory=dict)
    _known: dict[int, tuple[tuple[str, ...], int]] = field(default_factory=dict)

    def bits(self, sources: Sources) -> int:
        """Return the bits of a source list."""
        return self.listed(sources.texts)

    def listed(self, texts: tuple[str, ...]) -> int:
        """Return the bits of addresses, CIDRs and ranges; many rules share one list."""
        held = self._known.get(id(texts))
        if held is None:
            bits, single = 0, self._texts
            for text in texts:
                bit = single.get(text)
                if bit is not None:
                    bits |= bit
                    continue
                for place in places_of(text):
                    bits |= self._within(place)
            held = self._known[id(texts)] = texts, bits
        return held[1]

    def _within(self, place: Place) -> int:
        bits = 0
        low = bisect_left(self._addresses, place.first)
        for at in range(low, bisect_right(self._addresses, place.last)):
            bits |= self._owners[at]
        start = bisect_left(self.outside, (place.first, 0))
        for number in range(start, len(self.outside)):
            if self.outside[number].first > place.last:
                break
            bits |= 1 << (2 * self.slots + number)
        return bits

    def whole(self, bits: int) -> int:
        """Return the slots of the nodes that are in it with both addresses."""
        return bits & bits >> self.slots & ((1 << self.slots) - 1)

    def nodes(self, bits: int) -> int:
        """Return the slots of the nodes that are in it with either address."""
        return (bits | bits >> self.slots) & ((1 << self.slots) - 1)


def census(snapshot: Snapshot, lists: Iterable[Sources]) -> Census:
    """Number the nodes, and the stretches that the lists' ranges cut the other addresses into."""
    slots = len(snapshot.slots.at)
    owners = sorted(
        (_BASE[one.version] + int(one), 1 << snapshot.slot(node) + slots * (one.version == _IPV6))
        for one, node in snapshot.addresses.items()
    )
    single = {
        str(one): 1 << snapshot.slot(node) + slots * (one.version == _IPV6)
        for one, node in snapshot.addresses.items()
    }
    texts = {text for one in lists for text in one.texts} - single.keys()
    places = [place for text in texts for place in places_of(text)]
    return Census(
        slots,
        tuple(cut(places)),
        tuple(address for address, _ in owners),
        tuple(bit for _, bit in owners),
        single,
    )


def cut(places: Iterable[Place]) -> list[Place]:
    """Cut overlapping stretches into stretches of which each lies in or out of any of them."""
    edges: dict[int, int] = {}
    for place in places:
        edges[place.first] = edges.get(place.first, 0) + 1
        edges[place.last + 1] = edges.get(place.last + 1, 0) - 1
    found, depth, start = [], 0, 0
    for at in sorted(edges):
        if depth:
            found.append(Place(start, at - 1))
        depth += edges[at]
        start = at
    return found


def joined(places: Iterable[Place]) -> list[Place]:
    """Join stretches of one family that touch; they must not overlap."""
    found: list[Place] = []
    for place in sorted(places):
        if found and found[-1].last + 1 == place.first != _BASE[_IPV6]:
            found[-1] = Place(found[-1].first, place.last)
        else:
            found.append(place)
    return found


def without(places: Iterable[Place], others: Iterable[Place]) -> list[Place] | None:
    """Return what is left of joined stretches without others; None if they have not all of them."""
    left = [*places]
    for other in others:
        holder = next((p for p in left if p.first <= other.first and other.last <= p.last), None)
        if holder is None:
            return None
        left.remove(holder)
        rests = Place(holder.first, other.first - 1), Place(other.last + 1, holder.last)
        left += (rest for rest in rests if rest.first <= rest.last)
    return sorted(left)


@lru_cache(maxsize=1 << 16)
def places_of(text: str) -> tuple[Place, ...]:
    """Read an address, a CIDR, a range or ``*`` as stretches."""
    if text == "*":
        return tuple(Place(_BASE[version], _END[version]) for version in (4, 6))
    found = parse_range(text)
    if not isinstance(found, Range):
        return ()
    base = _BASE[found.version]
    return (Place(base + found.first, base + found.last),)


def spelt(place: Place) -> str:
    """Return the text of a stretch."""
    version = 6 if place.first >= _BASE[6] else 4
    base = _BASE[version]
    return range_of(version, place.first - base, place.last - base).text


def flows_of(node: Node, chunks: Mapping[str, FilterRule], who: Census) -> Flows:
    """Return what a node lets through: to its own addresses, and into what it routes."""
    reachable = [
        *(_point(_BASE[one.version] + int(one)) for one in (node.ipv4, node.ipv6)),
        *(place for prefix in node.routes for place in places_of(str(prefix))),
    ]
    rules = [rule for rule in chunks.values() if rule.grant is None]
    written = {one.ip: places_of(one.ip) for rule in rules for one in rule.destinations}
    inside = [
        met
        for places in written.values()
        for place in places
        for own in reachable
        if (met := _meeting(place, own)) is not None
    ]
    line = cut(inside)
    found: dict[Place, dict[Flow, int]] = {place: {} for place in line}
    for rule in rules:
        bits = who.bits(rule.sources)
        for one in rule.destinations:
            for place in _covered(line, written[one.ip]):
                for protocol in rule.protocols or DEFAULT_PROTOCOLS:
                    flow = Flow(protocol, one.first, one.last)
                    found[place][flow] = found[place].get(flow, 0) | bits
    return found


def _covered(line: Sequence[Place], places: tuple[Place, ...]) -> Iterator[Place]:
    """Yield the stretches that lie in the places; each lies in or out of any, and they are in order."""
    for place in places:
        low = bisect_left(line, place.first, key=_first)
        yield from line[low : bisect_right(line, place.last, key=_first)]


def _first(place: Place) -> int:
    return place.first


def _point(address: int) -> Place:
    return Place(address, address)


def _meeting(one: Place, other: Place) -> Place | None:
    first, last = max(one.first, other.first), min(one.last, other.last)
    return Place(first, last) if first <= last else None
