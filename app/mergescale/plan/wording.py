"""Sets of nodes in the words of a policy: the fewest and coarsest selectors that make them up."""

from __future__ import annotations

from collections.abc import Iterable

from mergescale.domain.slots import each_bit
from mergescale.domain.snapshot import Snapshot
from mergescale.plan.flows import Census, Flow, spelt
from mergescale.policy.compiled import CompiledPolicy
from mergescale.policy.ports import ALL_PORTS, DEFAULT_PROTOCOLS, PROTOCOLS, Ports
from mergescale.policy.principals import of_node

_NAMES = {number: name for name, number in reversed(PROTOCOLS.items())}
#: Of equal sets the one is told whose name people chose; logins come before the last two.
_ORDER = ("*", "group:", "tag:", "", "autogroup:", "user:")


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
        outside = bits >> 2 * who.slots
        found += [spelt(who.outside[one]) for one in each_bit(outside)]
        return (*self.words(whole), *found)


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
