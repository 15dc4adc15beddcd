"""Who can reach whom: answers to single questions, from what the nodes would be sent.

A packet arrives when its sender is told to send it to some node (its peers' AllowedIPs), and that
node's packet filter lets it in.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from mergescale.domain.node import Node
from mergescale.domain.prefixes import Address, Prefix
from mergescale.domain.snapshot import Snapshot
from mergescale.kernel.ids import NodeId
from mergescale.netmap.face import Face, shows_ipv4, usable_routes
from mergescale.policy.compiled import CompiledPolicy, CompiledRule
from mergescale.policy.nearmiss import Explainer, NearMiss
from mergescale.policy.packets import Filter, Packet

#: Farther than any near miss.
_FAR: Final = 1 << 30

#: A device, or an address that none has.
End = Node | Address


@dataclass(frozen=True, slots=True)
class Answer:
    """Whether packets get from one end to another.

    Attributes:
        packet: what was asked about, the one that gets through if there is one.
        rule: what lets it in; None when it does not arrive.
        through: the router that it goes to; None when it goes to a node itself or nowhere.
        obstacle: what no rule is to blame for, lower case; empty for nothing.
        miss: the rule that comes closest; None when one admits it or none is close.
    """

    source: End
    target: End
    packet: Packet
    rule: CompiledRule | None = None
    through: Node | None = None
    obstacle: str = ""
    miss: NearMiss | None = None


class Reach:
    """Answers questions about one snapshot."""

    def __init__(self, policy: CompiledPolicy, snapshot: Snapshot) -> None:
        """Take a snapshot whose access was resolved from `policy`."""
        self._policy = policy
        self._snapshot = snapshot
        self._explainer = Explainer(policy, snapshot)
        self._filters: dict[NodeId, Filter] = {}
        self._routers = [
            Face(snapshot, node)
            for node in snapshot.nodes.values()
            if node.routes and snapshot.takes_part(node)
        ]

    def ask(self, source: End, target: End, protocols: Iterable[int], port: int) -> Answer:
        """Say whether packets of one of the protocols get from `source` to `target`."""
        asked = tuple(protocols)
        answers: list[Answer] = []
        for one, other in _pairs(self.addresses(source), self.addresses(target)):
            for protocol in asked:
                answer = self._answer(source, target, Packet(one, other, protocol, port))
                if answer.rule is not None:
                    return answer
                answers.append(answer)
        if not answers:
            return self._unanswerable(source, target, asked[0], port)
        return min(answers, key=lambda one: one.miss.distance if one.miss else _FAR)

    def rules(self, sender: Node, receiver: Node) -> tuple[CompiledRule, ...]:
        """Return the rules that let `sender` do something at `receiver` or behind it."""
        if self._obstacle(sender, receiver):
            return ()
        return tuple(self.filter_of(receiver).rules_from(self.addresses(sender)))

    def filter_of(self, node: Node) -> Filter:
        """Return what a node is sent as its packet filter."""
        found = self._filters.get(node.id)
        if found is None:
            chunks = self._snapshot.access.chunks(self._snapshot.slot(node.id))
            found = self._filters[node.id] = Filter(self._policy, chunks)
        return found

    def addresses(self, end: End) -> tuple[Address, ...]:
        """Return the addresses of a device that others are told, or the address itself."""
        if not isinstance(end, Node):
            return (end,)
        if shows_ipv4(self._snapshot, end):
            return end.ipv4, end.ipv6
        return (end.ipv6,)

    def _answer(self, source: End, target: End, packet: Packet) -> Answer:
        sender = source if isinstance(source, Node) else None
        obstacle = self._obstacle(source, target)
        if obstacle:
            return Answer(source, target, packet, obstacle=obstacle)
        if isinstance(target, Node):
            rule = self.filter_of(target).deciding(packet)
            if rule is not None:
                return Answer(source, target, packet, rule)
            miss = self._explainer.closest(sender, target, packet)
            return Answer(source, target, packet, miss=miss)
        return self._routed(sender, Answer(source, target, packet))

    def _routed(self, sender: Node | None, asked: Answer) -> Answer:
        """Answer about an address that no node has."""
        packet = asked.packet
        routers = self._leading(sender, packet.target)
        for router in routers:
            rule = self.filter_of(router).deciding(packet)
            if rule is not None:
                return Answer(asked.source, asked.target, packet, rule, router)
        known = routers or [face.node for face in self._routers if _carries(face.node, packet)]
        if sender is not None and any(one.id == sender.id for one in known):
            told = f"{sender.name} routes {packet.target} itself"
            return Answer(asked.source, asked.target, packet, obstacle=told)
        nearest = known[0] if known else None
        miss = self._explainer.closest(sender, nearest, packet)
        obstacle = "" if known else f"no device may route {packet.target}"
        if known and miss is not None and not miss.gaps:
            # A subnet route that the rule meets brings it to an exit node as well.
            obstacle = f"no device routes {packet.target} for this source"
        return Answer(asked.source, asked.target, packet, None, nearest, obstacle, miss)

    def _leading(self, sender: Node | None, address: Address) -> list[Node]:
        """Return the routers that the sender is told to send packets for an address to.

        A client takes the longest prefix, and an exit node only where there is no other; which
        one of several exit nodes is its user's choice.
        """
        found: dict[Prefix, list[Node]] = {}
        for face in self._routers:
            for prefix in self._usable(face, sender):
                if address in prefix:
                    found.setdefault(prefix, []).append(face.node)
        longest = max(found, key=lambda prefix: prefix.prefixlen, default=None)
        return [] if longest is None else found[longest]

    def _usable(self, face: Face, sender: Node | None) -> tuple[Prefix, ...]:
        """Return the routes of a router for a sender; all that it carries for a stranger."""
        if sender is None:
            return face.carried
        if sender.id == face.node.id:
            return ()
        return usable_routes(self._snapshot, face, self._snapshot.slot(sender.id))

    def _obstacle(self, source: End, target: End) -> str:
        for end in (source, target):
            if isinstance(end, Node) and not self._snapshot.takes_part(end):
                owner = self._snapshot.owner(end)
                suspended = owner is not None and owner.suspended
                why = f"{owner.login} is suspended" if suspended and owner else "it is not approved"
                return f"{end.name} takes no part: {why}"
        if isinstance(source, Node) and isinstance(target, Node) and source.id == target.id:
            return f"{source.name} is both ends"
        return ""

    def _unanswerable(self, source: End, target: End, protocol: int, port: int) -> Answer:
        """Answer where the ends have no address of one family."""
        one, other = self.addresses(source)[-1], self.addresses(target)[-1]
        told = "one end has IPv4 only, the other one IPv6 only"
        return Answer(source, target, Packet(one, other, protocol, port), obstacle=told)


def _pairs(
    sources: tuple[Address, ...], targets: tuple[Address, ...]
) -> Iterator[tuple[Address, Address]]:
    for one in sources:
        for other in targets:
            if one.version == other.version:
                yield one, other


def _carries(node: Node, packet: Packet) -> bool:
    return any(packet.target in prefix for prefix in node.routes)
