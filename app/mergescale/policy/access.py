"""A compiled policy resolved against the nodes of one snapshot: `domain.access.Access`.

Who sees whom is computed when asked for and kept; the filters are in ``chunks``, who may log in over
SSH in ``ssh``.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Network
from typing import Final

from mergescale.domain.access import Access, FilterRule, NodeCapabilities, SshRule
from mergescale.domain.node import Node
from mergescale.domain.posture import AttributeRule
from mergescale.domain.prefixes import Prefix, is_exit
from mergescale.domain.slots import Slots, each_bit
from mergescale.domain.snapshot import Snapshot
from mergescale.domain.user import User
from mergescale.kernel.ids import NodeId, Slot
from mergescale.policy.chunks import FilterAccess
from mergescale.policy.compiled import CompiledPolicy
from mergescale.policy.membership import Seat, Usher
from mergescale.policy.places import leads_into
from mergescale.policy.principals import of_login, of_node
from mergescale.policy.resolved import Resolved
from mergescale.policy.ssh.resolve import SshAccess
from mergescale.policy.table import fill, update

_NO_ATTRIBUTES: Final[NodeCapabilities] = {}


@dataclass(slots=True)
class _Memory:
    """What was computed so far; every entry is right for as long as it is here.

    Attributes:
        visible: (sources, targets) of a seat -> slots, before its own nodes are added.
        users: (router, prefix) -> slots that it lets through.
        senders: targets of a seat -> slots that may send it something, before its own nodes.
        without_ipv4: slots of the seats without an IPv4 address.
        capabilities: attributes of a seat -> what it is told; depends on the policy only, so it is
            shared.
    """

    visible: dict[tuple[int, int], int] = field(default_factory=dict)
    users: dict[tuple[Slot, Prefix], int] = field(default_factory=dict)
    senders: dict[int, int] = field(default_factory=dict)
    capabilities: dict[int, NodeCapabilities] = field(default_factory=dict)
    without_ipv4: int | None = None


def resolve(
    policy: CompiledPolicy, snapshot: Snapshot, before: Access | None = None
) -> ResolvedAccess:
    """Resolve against all nodes of the snapshot.

    Args:
        policy: what to resolve.
        snapshot: its nodes and users.
        before: what was in force; filters that come out the same are taken over with their
            identity.
    """
    usher = Usher(policy, snapshot)
    seats = {
        slot: seat
        for node, slot in snapshot.slots.of.items()
        if (seat := usher.seat(snapshot.nodes[node])) is not None
    }
    resolved = Resolved(policy, fill(policy, seats))
    filters, ssh = FilterAccess(resolved), SshAccess(policy, resolved.table)
    access = ResolvedAccess(resolved, snapshot.slots, filters, ssh, _Memory())
    if isinstance(before, ResolvedAccess):
        access.take_over(before)
    return access


class ResolvedAccess:
    """Implements `domain.access.Access`."""

    __slots__ = ("_filters", "_memory", "_resolved", "_slots", "_ssh")

    def __init__(
        self,
        resolved: Resolved,
        slots: Slots,
        filters: FilterAccess,
        ssh: SshAccess,
        memory: _Memory,
    ) -> None:
        self._resolved = resolved
        self._slots = slots
        self._filters = filters
        self._ssh = ssh
        self._memory = memory

    @property
    def policy(self) -> CompiledPolicy:
        """The policy this was resolved from."""
        return self._resolved.policy

    def refreshed(self, snapshot: Snapshot, changed: Collection[NodeId]) -> Access:
        """Resolve again after the nodes `changed` were added, replaced or dropped."""
        if snapshot.slots.generation != self._slots.generation:
            return resolve(self._resolved.policy, snapshot)
        moved: dict[Slot, Seat | None] = {}
        usher = Usher(self._resolved.policy, snapshot)
        for node_id in changed:
            node = snapshot.nodes.get(node_id)
            slot = (self._slots if node is None else snapshot.slots).of.get(node_id)
            if slot is None:
                continue
            seat = None if node is None else usher.seat(node)
            if seat != self._resolved.table.seats.get(slot):
                moved[slot] = seat
        if not moved:
            return self
        table, moves = update(self._resolved.policy, self._resolved.table, moved)
        resolved = Resolved(self._resolved.policy, table)
        filters = self._filters.refreshed(resolved, moves)
        ssh = self._ssh.refreshed(table, moves.slots)
        memory = _Memory(capabilities=self._memory.capabilities)
        return ResolvedAccess(resolved, snapshot.slots, filters, ssh, memory)

    def take_over(self, before: ResolvedAccess) -> None:
        """Take over the filters of an access under another policy, where slots mean the same."""
        if before._slots.generation == self._slots.generation:
            self._filters.take_over(before._filters)

    def visible(self, slot: Slot) -> int:
        """Return the slots this node sees and is seen by; symmetric, itself excluded."""
        seat = self._resolved.table.seats.get(slot)
        if seat is None:
            return 0
        key = seat.sources, seat.targets
        seen = self._memory.visible.get(key)
        if seen is None:
            seen = self._memory.visible[key] = self._seen(seat)
        if seat.owner is not None:
            for rule in self._resolved.policy.own_rules:
                senders = self._filters.senders_of(rule, seat.owner)
                mine = self._resolved.table.own[seat.owner]
                seen |= mine if senders >> slot & 1 else senders
        return seen & ~(1 << slot)

    def chunks(self, slot: Slot) -> Mapping[str, FilterRule]:
        """Return the node's packet filter as named chunks."""
        return self._filters.chunks(slot)

    def users_of(self, router: NodeId, prefix: Prefix) -> int:
        """Return the slots that may send to some address of `prefix` through `router`."""
        slot = self._slots.of.get(router)
        seat = None if slot is None else self._resolved.table.seats.get(slot)
        if seat is None or slot is None or prefix not in seat.routes:
            return 0
        key = slot, prefix
        users = self._memory.users.get(key)
        if users is None:
            users = self._memory.users[key] = self._senders(seat, prefix) & ~(1 << slot)
        return users

    def senders(self, slot: Slot) -> int:
        """Return the slots that may send any packet to the node or into what it routes."""
        seat = self._resolved.table.seats.get(slot)
        if seat is None:
            return 0
        senders = self._memory.senders.get(seat.targets)
        if senders is None:
            packets_to, senders = self._resolved.index.packets_to, 0
            for target in each_bit(seat.targets):
                senders |= packets_to[target]
            self._memory.senders[seat.targets] = senders
        if seat.owner is not None:
            for rule in self._resolved.policy.own_rules:
                own = self._filters.senders_of(rule, seat.owner)
                senders |= 0 if rule.capabilities else own
        return senders & ~(1 << slot)

    @property
    def steered(self) -> bool:
        """Say whether a rule names the routers to go through."""
        return bool(self._resolved.policy.target_lookup.steered)

    def _senders(self, seat: Seat, prefix: Prefix) -> int:
        users = 0
        for rule, targets, _ in self._filters.parts(seat.targets):
            if not rule.capabilities and any(leads_into(one, prefix) for one, _ in targets):
                users |= self._resolved.table.sources[rule.source]
        if is_exit(prefix):
            return users
        return users | self._answered_through(prefix) | self._resolved.table.routers(prefix)

    def attributes(self, slot: Slot) -> NodeCapabilities:
        """Return what ``nodeAttrs`` tells the node; one object for all nodes that are alike."""
        seat = self._resolved.table.seats.get(slot)
        if seat is None or not seat.attributes:
            return _NO_ATTRIBUTES
        found = self._memory.capabilities.get(seat.attributes)
        if found is None:
            found = self._resolved.policy.attributes.capabilities(seat.attributes)
            self._memory.capabilities[seat.attributes] = found
        return found

    @property
    def without_ipv4(self) -> int:
        """The slots of nodes whose IPv4 address nobody is told; none in most tailnets."""
        if not self._resolved.policy.attributes.without_ipv4:
            return 0
        found = self._memory.without_ipv4
        if found is None:
            seats = self._resolved.table.seats
            found = sum(1 << slot for slot, seat in seats.items() if not seat.ipv4)
            self._memory.without_ipv4 = found
        return found

    def address_pools(self, tags: tuple[str, ...], owner: User | None) -> tuple[IPv4Network, ...]:
        """Return where a new node of this owner takes its IPv4 address; empty for anywhere."""
        return self._resolved.policy.attributes.pools(
            of_node(tags, owner, self._resolved.policy.groups_of)
        )

    def ssh_rules(self, slot: Slot) -> tuple[SshRule, ...]:
        """Return who may log in to the node over SSH, in the order that decides."""
        seat = self._resolved.table.seats.get(slot)
        return () if seat is None else self._ssh.rules(seat, self.visible(slot) | 1 << slot)

    def attribute_rule(self, name: str) -> AttributeRule | None:
        """Return what ``attrConfig`` says of a custom attribute."""
        return self._resolved.policy.document.attribute_configs.get(name)

    def may_take_tag(self, user: User, tag: str) -> bool:
        """Say whether `tagOwners` lets the user make nodes with this tag."""
        owners = self._resolved.policy.ownership.owners(tag)
        principals = of_login(user.login, user.role, self._resolved.policy.groups_of)
        return not user.suspended and not owners.isdisjoint(principals)

    def has_tag(self, tag: str) -> bool:
        """Say whether the tag is declared."""
        return tag in self._resolved.policy.ownership.tag_owners

    def approves(self, node: Node, owner: User | None, prefix: Prefix) -> bool:
        """Say whether `autoApprovers` lets this node route the prefix."""
        principals = of_node(node.tags, owner, self._resolved.policy.groups_of)
        return self._resolved.policy.ownership.approves(principals, prefix)

    def _seen(self, seat: Seat) -> int:
        """Return whom the rules let it reach or be reached by."""
        seen, index = 0, self._resolved.index
        for source in each_bit(seat.sources):
            seen |= index.reached_from[source]
        for target in each_bit(seat.targets):
            seen |= index.let_in[target]
        return seen

    def _answered_through(self, prefix: Prefix) -> int:
        """Return whom a subnet may reach: their answers, too, go back through its router.

        SPEC(wireguard): a client drops what arrives from an address outside of AllowedIPs.
        """
        lookup = self._resolved.policy.source_lookup
        first, last = int(prefix.network_address), int(prefix.broadcast_address)
        inside = lookup.always | lookup.by_address.meeting(prefix.version, first, last)
        reached = 0
        for source in each_bit(inside):
            reached |= self._resolved.index.reached_from[source]
        return reached
