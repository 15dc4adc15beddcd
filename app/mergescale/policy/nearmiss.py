"""Which rule would admit a packet if only one thing were different, and what that is.

Only explains a refusal: whether a packet is let in, the compiled filters say (``packets``).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from mergescale.domain.node import Node
from mergescale.domain.prefixes import is_exit
from mergescale.domain.snapshot import Snapshot
from mergescale.policy.compiled import (
    CompiledPolicy,
    CompiledRule,
    SourceList,
    Steered,
    TargetKind,
    Wide,
)
from mergescale.policy.membership import Seat, Usher
from mergescale.policy.packets import Packet, holds, spoken
from mergescale.policy.places import INTERNET, addresses
from mergescale.policy.ports import WITH_PORTS
from mergescale.policy.principals import of_node
from mergescale.policy.selectors import Range


class Gap(StrEnum):
    """What keeps a rule from admitting a packet."""

    PORT = "port"
    PROTOCOL = "protocol"
    POSTURE = "posture"
    VIA = "via"
    SOURCE = "src"
    DESTINATION = "dst"


#: How far away each keeps a rule; a rule that is about neither end is not close at all.
_DISTANCE: Final = {
    Gap.PORT: 2,
    Gap.PROTOCOL: 2,
    Gap.POSTURE: 2,
    Gap.VIA: 3,
    Gap.SOURCE: 5,
    Gap.DESTINATION: 5,
}


@dataclass(frozen=True, slots=True)
class NearMiss:
    """A rule that does not admit a packet, and all that keeps it from doing so."""

    rule: CompiledRule
    gaps: tuple[Gap, ...]

    @property
    def distance(self) -> int:
        """How far the rule is from admitting the packet."""
        return sum(_DISTANCE[one] for one in self.gaps)


class Explainer:
    """Finds near misses in one snapshot, whose policy `policy` is."""

    def __init__(self, policy: CompiledPolicy, snapshot: Snapshot) -> None:
        self._policy = policy
        self._snapshot = snapshot
        self._usher = Usher(policy, snapshot)

    def closest(
        self, sender: Node | None, receiver: Node | None, packet: Packet
    ) -> NearMiss | None:
        """Return the rule that comes closest to admitting a packet that is refused.

        Args:
            sender: None where no node has the source address.
            receiver: the node, or the router, that the packet goes to; None where there is none.
            packet: what is refused.
        """
        seat = None if receiver is None else self._usher.seat(receiver)
        best: NearMiss | None = None
        for rule in (*self._policy.rules, *self._policy.own_rules):
            if rule.capabilities:
                continue
            at_source = self._source_gap(rule, sender, packet)
            for at_target in self._target_gaps(rule, (sender, receiver, seat), packet):
                if Gap.SOURCE in at_source and Gap.DESTINATION in at_target:
                    continue
                protocol = () if spoken(rule, packet.protocol) else (Gap.PROTOCOL,)
                found = NearMiss(rule, (*at_source, *at_target, *protocol))
                if best is None or found.distance < best.distance:
                    best = found
        return best

    def _source_gap(
        self, rule: CompiledRule, sender: Node | None, packet: Packet
    ) -> tuple[Gap, ...]:
        one = self._policy.sources[rule.source]
        if not self._is_meant(one, sender, packet):
            return (Gap.SOURCE,)
        if not one.postures:
            return ()
        seat = None if sender is None else self._usher.seat(sender)
        return () if seat is not None and seat.sources >> rule.source & 1 else (Gap.POSTURE,)

    def _is_meant(self, one: SourceList, sender: Node | None, packet: Packet) -> bool:
        """Say whether a source list names the sender, whatever its posture."""
        address = packet.source
        number = int(address)
        if one.anyone or any(each.meets(address.version, number, number) for each in one.ranges):
            return True
        if sender is None:
            return one.everyone and self._is_routed(packet)
        owner = self._snapshot.owner(sender)
        principals = of_node(sender.tags, owner, self._policy.groups_of)
        return one.everyone or not principals.isdisjoint(one.principals)

    def _is_routed(self, packet: Packet) -> bool:
        return any(
            packet.source in prefix
            for node in self._snapshot.nodes.values()
            for prefix in node.routes
            if not is_exit(prefix)
        )

    def _target_gaps(
        self,
        rule: CompiledRule,
        ends: tuple[Node | None, Node | None, Seat | None],
        packet: Packet,
    ) -> Iterator[tuple[Gap, ...]]:
        sender, receiver, seat = ends
        for number, ports in rule.targets:
            kind = self._policy.targets[number]
            wrong = packet.protocol in WITH_PORTS and packet.port not in ports
            port = (Gap.PORT,) if wrong else ()
            if kind is Wide.OWN_DEVICES:
                own = sender is not None and receiver is not None and sender.user is not None
                there = own and sender.user == receiver.user  # type: ignore[union-attr]
            elif seat is not None:
                among = bool(seat.targets >> number & 1)
                there = among and any(holds(one, packet.target) for one in addresses(kind, seat))
            else:
                there = _may_lead(kind, packet)
            if there:
                yield port
            elif isinstance(kind, Steered) and _may_lead(kind.to, packet):
                yield (Gap.VIA, *port)
            else:
                yield (Gap.DESTINATION, *port)


def _may_lead(kind: TargetKind, packet: Packet) -> bool:
    """Say whether some router could make a target lead to an address that no node has."""
    address = packet.target
    match kind:
        case Wide.ANYTHING:
            return True
        case Wide.INTERNET:
            return any(holds(text, address) for text in INTERNET[address.version])
        case Range():
            return kind.meets(address.version, int(address), int(address))
        case Steered(to=to):
            return _may_lead(to, packet)
        case _:
            return False
