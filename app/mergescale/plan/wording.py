"""Sets of nodes in the words of a policy: the fewest and coarsest selectors that make them up."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from mergescale.domain.prefixes import is_exit
from mergescale.domain.slots import each_bit
from mergescale.domain.snapshot import Snapshot
from mergescale.kernel.ids import Slot
from mergescale.plan.flows import Census, Flow, Place, cut, joined, places_of, spelt, without
from mergescale.policy.compiled import CompiledPolicy
from mergescale.policy.places import INTERNET, TAILNET_SOURCES
from mergescale.policy.ports import ALL_PORTS, DEFAULT_PROTOCOLS, PROTOCOLS, Ports
from mergescale.policy.principals import of_node

_NAMES = {number: name for name, number in reversed(PROTOCOLS.items())}
#: Of equal sets the one is told whose name people chose; logins come before the last two.
_ORDER = ("*", "group:", "tag:", "", "autogroup:", "user:")


#: Addresses of the tailnet that no device has, or not yet.
UNASSIGNED: Final = "unassigned addresses"
_ANYBODY: Final = "autogroup:danger-all"
_EVERYWHERE: Final = "autogroup:internet"
_ALL: Final = {4: "0.0.0.0/0", 6: "::/0"}


class Wording:
    """Words for sets of slots, which mean the same before and after the change.

    A name that the change redefines would say two things in one plan, so it is not used.

    Attributes:
        sets: selector -> its slots.
    """

    def __init__(self, snapshot: Snapshot, *others: Snapshot) -> None:
        self._snapshot = snapshot
        sets = _sets(snapshot)
        for other in others:
            theirs = _sets(other)
            sets = {name: slots for name, slots in sets.items() if theirs.get(name) == slots}
        self.sets = sets
        self._sets = sorted(sets.items(), key=_coarsest)

    def words(self, slots: int) -> tuple[str, ...]:
        """Return selectors, then names of nodes, that together mean exactly these slots."""
        left, found = slots, list[str]()
        for name, members in self._sets:
            if members & left and not members & ~slots:
                found.append(name)
                left &= ~members
        nodes = self._snapshot.nodes
        found += sorted(nodes[node].name for node in self._snapshot.slots.nodes(left))
        return tuple(found)

    def sources(self, bits: int, who: Census) -> tuple[str, ...]:
        """Return the same of sources: nodes, single addresses of nodes, and other addresses."""
        whole, found = who.whole(bits), list[str]()
        for node_id in self._snapshot.slots.nodes(who.nodes(bits) & ~whole):
            node, slot = self._snapshot.nodes[node_id], self._snapshot.slot(node_id)
            address = node.ipv4 if bits >> slot & 1 else node.ipv6
            found.append(f"{node.name} ({address})")
        outside = joined(who.outside[one] for one in each_bit(bits >> 2 * who.slots))
        if whole == self.sets.get("*") and outside == _places(_ALL.values()):
            return (_ANYBODY,)
        return (*self.words(whole), *found, *self._outside(outside, whole))

    def _outside(self, places: list[Place], whole: int) -> list[str]:
        """Return addresses that no node has; ``*`` among the words says what every source is."""
        left = without(places, _places(TAILNET_SOURCES))
        if left is None:
            return [*map(spelt, places)]
        if whole == self.sets.get("*"):
            behind = without(left, joined(cut(self._subnets())))
            return [UNASSIGNED, *map(spelt, left)] if behind is None else [*map(spelt, behind)]
        return [UNASSIGNED, *map(spelt, left)]

    def _subnets(self) -> set[Place]:
        snapshot = self._snapshot
        prefixes = (
            prefix
            for node in snapshot.nodes.values()
            if snapshot.takes_part(node)
            for prefix in node.routes
            if not is_exit(prefix)
        )
        return {place for prefix in prefixes for place in places_of(str(prefix))}

    def targets(self, by_slot: Mapping[Slot, set[Place]]) -> tuple[str, ...]:
        """Return what is reached: whole nodes first, then single addresses and what is behind."""
        nodes, texts = 0, dict[str, list[str]]()
        for slot, places in by_slot.items():
            node_id = self._snapshot.slots.at[slot]
            if node_id is None:
                continue
            node = self._snapshot.nodes[node_id]
            own = {place for one in (node.ipv4, node.ipv6) for place in places_of(str(one))}
            if own <= places:
                nodes |= 1 << slot
            else:
                texts.update((f"{node.name} ({spelt(place)})", []) for place in places & own)
            exits: set[int] = {prefix.version for prefix in node.routes if is_exit(prefix)}
            for text in _behind(joined(places), own, exits):
                texts.setdefault(text, []).append(node.name)
        return (
            *self.words(nodes),
            *(
                f"{text} via {', '.join(sorted(names))}" if names else text
                for text, names in sorted(texts.items())
            ),
        )


def _behind(places: list[Place], own: set[Place], exits: set[int]) -> list[str]:
    """Return what lies behind a router; the stretches may have its own addresses in them."""
    rest = [place for place in places if place not in own]
    internet = _places(text for version in sorted(exits) for text in INTERNET[version])
    left = without(rest, internet) if internet else None
    whole = {place for version in exits for place in places_of(_ALL[version])}
    if left is None or whole <= {*rest}:
        return [*map(spelt, rest)]
    return [_EVERYWHERE, *(spelt(place) for place in left if place not in own)]


def _places(texts: Iterable[str]) -> list[Place]:
    return [place for text in texts for place in places_of(text)]


def _sets(snapshot: Snapshot) -> dict[str, int]:
    policy = snapshot.policy
    groups = policy.groups_of if isinstance(policy, CompiledPolicy) else {}
    everybody, sets = 0, dict[str, int]()
    for node_id, slot in snapshot.slots.of.items():
        node = snapshot.nodes[node_id]
        if snapshot.takes_part(node):
            everybody |= 1 << slot
            for name in of_node(node.tags, snapshot.owner(node), groups):
                sets[name] = sets.get(name, 0) | 1 << slot
    return {**sets, "*": everybody}


def _coarsest(one: tuple[str, int]) -> tuple[int, int, str]:
    name, members = one
    kind, colon, _ = name.partition(":")
    prefix = "*" if name == "*" else f"{kind}:" if colon else ""
    return -members.bit_count(), _ORDER.index(prefix), name


def ports(flows: Iterable[Flow]) -> tuple[str, ...]:
    """Return flows as ``ip`` of a grant spells them: ``*``, ``22``, ``tcp:443``, ``icmp:*``."""
    by_ports: dict[Ports, set[int]] = {}
    for flow in flows:
        by_ports.setdefault(Ports(flow.first, flow.last), set()).add(flow.protocol)
    anywhere = by_ports.get(ALL_PORTS, set())
    if anywhere >= DEFAULT_PROTOCOLS:
        others = sorted(anywhere - DEFAULT_PROTOCOLS)
        return ("*", *(f"{_name(one)}:*" for one in others))
    found = []
    plain = anywhere & {1, 58} == {1, 58}
    for part in sorted(by_ports):
        protocols = set(by_ports[part])
        if plain and part == ALL_PORTS:
            protocols -= {1, 58}
        if protocols >= {6, 17} and plain:
            found.append(str(part))
            protocols -= {6, 17}
        found += [f"{_name(one)}:{part}" for one in sorted(protocols)]
    if plain and not any(":" not in one for one in found):
        found.append("icmp:*")
    return tuple(found)


def _name(protocol: int) -> str:
    return _NAMES.get(protocol, str(protocol))
