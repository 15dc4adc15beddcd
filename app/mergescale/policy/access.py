"""A compiled policy resolved against the nodes of one snapshot: `domain.access.Access`.

Who sees whom, and each node's filter, are computed when asked for and kept; `refreshed` carries
over what the change did not touch, with the identity of every object, so that whoever compares
two accesses sees with ``is`` that nothing happened.

LIMIT(length): one class answers `domain.access.Access`; what it computes is in modules of its own.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Network
from typing import Final, NamedTuple

from mergescale.domain.access import (
    Access,
    FilterRule,
    NodeCapabilities,
    Sources,
    SshRule,
)
from mergescale.domain.node import Node
from mergescale.domain.posture import AttributeRule
from mergescale.domain.prefixes import Prefix, is_exit
from mergescale.domain.slots import Slots, each_bit
from mergescale.domain.snapshot import Snapshot
from mergescale.domain.user import User
from mergescale.kernel.ids import NodeId, Slot, UserId
from mergescale.policy.carryover import Index, Resolved, compare, index_of, packets_to
from mergescale.policy.compiled import CompiledPolicy, CompiledRule, TargetKind
from mergescale.policy.membership import (
    Moves,
    Seat,
    Table,
    Usher,
    fill,
    update,
)
from mergescale.policy.places import (
    ALL_SOURCES,
    filter_rule,
    is_written,
    leads_into,
    narrowed,
    written,
)
from mergescale.policy.ports import Ports
from mergescale.policy.principals import of_login, of_node
from mergescale.policy.ssh.resolve import SshAccess

_NO_ATTRIBUTES: Final[NodeCapabilities] = {}


class _Part(NamedTuple):
    """The part of a rule that concerns a node.

    Attributes:
        rule: the rule.
        targets: of its targets, those the node is among.
        key: the same for all nodes whose chunk is the same whoever they are, else None.
    """

    rule: CompiledRule
    targets: tuple[tuple[TargetKind, Ports], ...]
    key: tuple[int, int] | None


@dataclass(slots=True)
class _Memory:
    """What was computed so far; every entry is right for as long as it is here.

    Attributes:
        parts: targets of a seat -> its parts; depends on the policy only, so it is shared.
        sources: number -> its list.
        own_sources: slots of one user's devices -> their list.
        shared: by `_Part.key`, the chunks that several nodes have.
        visible: (sources, targets) of a seat -> slots, before its own nodes are added.
        users: (router, prefix) -> slots that it lets through.
        packets_to: by target, the slots that may send it something.
        senders: targets of a seat -> slots that may send it something, before its own nodes.
        without_ipv4: slots of the seats without an IPv4 address.
        capabilities: attributes of a seat -> what it is told; shared as `parts` is.
    """

    parts: dict[int, tuple[_Part, ...]] = field(default_factory=dict)
    sources: dict[int, Sources] = field(default_factory=dict)
    own_sources: dict[int, Sources] = field(default_factory=dict)
    chunks: dict[Slot, Mapping[str, FilterRule]] = field(default_factory=dict)
    shared: dict[tuple[int, int], FilterRule] = field(default_factory=dict)
    visible: dict[tuple[int, int], int] = field(default_factory=dict)
    users: dict[tuple[Slot, Prefix], int] = field(default_factory=dict)
    packets_to: tuple[int, ...] | None = None
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
    table = fill(policy, seats)
    access = ResolvedAccess(policy, snapshot.slots, table, _Memory(), SshAccess(policy, table))
    if isinstance(before, ResolvedAccess):
        access.take_over(before)
    return access


class ResolvedAccess:
    """Implements `domain.access.Access`."""

    __slots__ = ("_index", "_memory", "_policy", "_slots", "_ssh", "_table")

    def __init__(
        self,
        policy: CompiledPolicy,
        slots: Slots,
        table: Table,
        memory: _Memory,
        ssh: SshAccess,
    ) -> None:
        self._policy = policy
        self._slots = slots
        self._table = table
        self._memory = memory
        self._ssh = ssh
        self._index: Index | None = None

    @property
    def policy(self) -> CompiledPolicy:
        """The policy this was resolved from."""
        return self._policy

    def refreshed(self, snapshot: Snapshot, changed: Collection[NodeId]) -> Access:
        """Resolve again after the nodes `changed` were added, replaced or dropped."""
        if snapshot.slots.generation != self._slots.generation:
            return resolve(self._policy, snapshot)
        moved: dict[Slot, Seat | None] = {}
        usher = Usher(self._policy, snapshot)
        for node_id in changed:
            node = snapshot.nodes.get(node_id)
            slot = (self._slots if node is None else snapshot.slots).of.get(node_id)
            if slot is None:
                continue
            seat = None if node is None else usher.seat(node)
            if seat != self._table.seats.get(slot):
                moved[slot] = seat
        if not moved:
            return self
        table, moves = update(self._policy, self._table, moved)
        memory = self._carried(table, moves)
        ssh = self._ssh.refreshed(table, moves.slots)
        return ResolvedAccess(self._policy, snapshot.slots, table, memory, ssh)

    def visible(self, slot: Slot) -> int:
        """Return the slots this node sees and is seen by; symmetric, itself excluded."""
        seat = self._table.seats.get(slot)
        if seat is None:
            return 0
        key = seat.sources, seat.targets
        seen = self._memory.visible.get(key)
        if seen is None:
            seen = self._memory.visible[key] = self._seen(seat)
        if seat.owner is not None:
            for rule in self._policy.own_rules:
                senders = self._senders_of(rule, seat.owner)
                mine = self._table.own[seat.owner]
                seen |= mine if senders >> slot & 1 else senders
        return seen & ~(1 << slot)

    def chunks(self, slot: Slot) -> Mapping[str, FilterRule]:
        """Return the node's packet filter as named chunks."""
        found = self._memory.chunks.get(slot)
        if found is None:
            seat = self._table.seats.get(slot)
            found = {} if seat is None else dict(self._filter(seat))
            self._memory.chunks[slot] = found
        return found

    def users_of(self, router: NodeId, prefix: Prefix) -> int:
        """Return the slots that may send to some address of `prefix` through `router`."""
        slot = self._slots.of.get(router)
        seat = None if slot is None else self._table.seats.get(slot)
        if seat is None or slot is None or prefix not in seat.routes:
            return 0
        key = slot, prefix
        users = self._memory.users.get(key)
        if users is None:
            users = self._memory.users[key] = self._senders(seat, prefix) & ~(1 << slot)
        return users

    def senders(self, slot: Slot) -> int:
        """Return the slots that may send any packet to the node or into what it routes."""
        seat = self._table.seats.get(slot)
        if seat is None:
            return 0
        senders = self._memory.senders.get(seat.targets)
        if senders is None:
            if self._memory.packets_to is None:
                self._memory.packets_to = packets_to(self._policy, self._table)
            let_in, senders = self._memory.packets_to, 0
            for target in each_bit(seat.targets):
                senders |= let_in[target]
            self._memory.senders[seat.targets] = senders
        if seat.owner is not None:
            for rule in self._policy.own_rules:
                senders |= 0 if rule.capabilities else self._senders_of(rule, seat.owner)
        return senders & ~(1 << slot)

    @property
    def steered(self) -> bool:
        """Say whether a rule names the routers to go through."""
        return bool(self._policy.target_lookup.steered)

    def _senders(self, seat: Seat, prefix: Prefix) -> int:
        users = 0
        for rule, targets, _ in self._parts(seat.targets):
            if not rule.capabilities and any(leads_into(one, prefix) for one, _ in targets):
                users |= self._table.sources[rule.source]
        if is_exit(prefix):
            return users
        return users | self._answered_through(prefix) | self._table.routers(prefix)

    def attributes(self, slot: Slot) -> NodeCapabilities:
        """Return what ``nodeAttrs`` tells the node; one object for all nodes that are alike."""
        seat = self._table.seats.get(slot)
        if seat is None or not seat.attributes:
            return _NO_ATTRIBUTES
        found = self._memory.capabilities.get(seat.attributes)
        if found is None:
            found = self._policy.attributes.capabilities(seat.attributes)
            self._memory.capabilities[seat.attributes] = found
        return found

    @property
    def without_ipv4(self) -> int:
        """The slots of nodes whose IPv4 address nobody is told; none in most tailnets."""
        if not self._policy.attributes.without_ipv4:
            return 0
        found = self._memory.without_ipv4
        if found is None:
            seats = self._table.seats
            found = sum(1 << slot for slot, seat in seats.items() if not seat.ipv4)
            self._memory.without_ipv4 = found
        return found

    def address_pools(self, tags: tuple[str, ...], owner: User | None) -> tuple[IPv4Network, ...]:
        """Return where a new node of this owner takes its IPv4 address; empty for anywhere."""
        return self._policy.attributes.pools(of_node(tags, owner, self._policy.groups_of))

    def ssh_rules(self, slot: Slot) -> tuple[SshRule, ...]:
        """Return who may log in to the node over SSH, in the order that decides."""
        seat = self._table.seats.get(slot)
        return () if seat is None else self._ssh.rules(seat, self.visible(slot) | 1 << slot)

    def attribute_rule(self, name: str) -> AttributeRule | None:
        """Return what ``attrConfig`` says of a custom attribute."""
        return self._policy.document.attribute_configs.get(name)

    def may_take_tag(self, user: User, tag: str) -> bool:
        """Say whether `tagOwners` lets the user make nodes with this tag."""
        owners = self._policy.ownership.owners(tag)
        principals = of_login(user.login, user.role, self._policy.groups_of)
        return not user.suspended and not owners.isdisjoint(principals)

    def has_tag(self, tag: str) -> bool:
        """Say whether the tag is declared."""
        return tag in self._policy.ownership.tag_owners

    def approves(self, node: Node, owner: User | None, prefix: Prefix) -> bool:
        """Say whether `autoApprovers` lets this node route the prefix."""
        principals = of_node(node.tags, owner, self._policy.groups_of)
        return self._policy.ownership.approves(principals, prefix)

    @property
    def _rules(self) -> Index:
        """The index; made when it is first asked for."""
        if self._index is None:
            self._index = index_of(self._policy, self._table)
        return self._index

    def _seen(self, seat: Seat) -> int:
        """Return whom the rules let it reach or be reached by."""
        seen, index = 0, self._rules
        for source in each_bit(seat.sources):
            seen |= index.reached_from[source]
        for target in each_bit(seat.targets):
            seen |= index.let_in[target]
        return seen

    def _answered_through(self, prefix: Prefix) -> int:
        """Return whom a subnet may reach: their answers, too, go back through its router.

        SPEC(wireguard): a client drops what arrives from an address outside of AllowedIPs.
        """
        lookup = self._policy.source_lookup
        first, last = int(prefix.network_address), int(prefix.broadcast_address)
        inside = lookup.always | lookup.by_address.meeting(prefix.version, first, last)
        reached = 0
        for source in each_bit(inside):
            reached |= self._rules.reached_from[source]
        return reached

    def _parts(self, targets: int) -> tuple[_Part, ...]:
        found = self._memory.parts.get(targets)
        if found is None:
            rules, index = self._policy.rules, self._rules
            numbers = {one for target in each_bit(targets) for one in index.rules_to[target]}
            found = self._memory.parts[targets] = tuple(
                self._part(rules[number], targets) for number in sorted(numbers)
            )
        return found

    def _part(self, rule: CompiledRule, among: int) -> _Part:
        kinds = self._policy.targets
        targets = tuple((kinds[one], ports) for one, ports in rule.targets if among >> one & 1)
        hits = sum(1 << at for at, (one, _) in enumerate(rule.targets) if among >> one & 1)
        alike = not rule.capabilities and all(is_written(one) for one, _ in targets)
        return _Part(rule, targets, (id(rule), hits) if alike else None)

    def _filter(self, seat: Seat) -> Iterator[tuple[str, FilterRule]]:
        for rule, targets, key in self._parts(seat.targets):
            chunk = None if key is None else self._memory.shared.get(key)
            if chunk is None:
                chunk = self._chunk(rule, targets, seat)
                if key is not None:
                    self._memory.shared[key] = chunk
            if chunk.sources.texts:
                yield rule.name, chunk
        if seat.owner is None:
            return
        for rule in self._policy.own_rules:
            if senders := self._senders_of(rule, seat.owner):
                targets = tuple((self._policy.targets[one], ports) for one, ports in rule.targets)
                yield rule.name, filter_rule(rule, targets, seat, self._own_sources(senders))

    def _senders_of(self, rule: CompiledRule, user: UserId) -> int:
        """Return which of the user's devices a rule to ``autogroup:self`` lets send."""
        return self._table.own[user] & self._table.sources[rule.source]

    def _chunk(
        self, rule: CompiledRule, targets: tuple[tuple[TargetKind, Ports], ...], seat: Seat
    ) -> FilterRule:
        return filter_rule(rule, targets, seat, self._sources(rule.source))

    def _sources(self, number: int) -> Sources:
        found = self._memory.sources.get(number)
        if found is None:
            one = self._policy.sources[number]
            if one.anyone and not one.postures:
                found = Sources(ALL_SOURCES)
            else:
                texts = written(one, self._table.subnets)
                found = narrowed(one, self._listed(texts, self._table.listed[number]))
            self._memory.sources[number] = found
        return found

    def _own_sources(self, slots: int) -> Sources:
        found = self._memory.own_sources.get(slots)
        if found is None:
            found = self._memory.own_sources[slots] = self._listed((), slots)
        return found

    def _listed(self, texts: Collection[str], slots: int) -> Sources:
        """Return what is written, sorted, then the addresses of the slots in their order.

        Sorting thousands of addresses for each of hundreds of rules would be most of the work.
        """
        seats = [self._table.seats[Slot(slot)] for slot in each_bit(slots)]
        addresses = [*[one.ipv4 for one in seats if one.ipv4], *[one.ipv6 for one in seats]]
        if texts:
            return Sources(tuple(dict.fromkeys([*sorted(texts), *addresses])))
        return Sources(tuple(addresses))

    def take_over(self, before: ResolvedAccess) -> None:
        """Take over the filters of nodes that no rule concerns which differs from `before`."""
        if before._slots.generation != self._slots.generation:
            return
        alike, stale = compare(
            Resolved(before._policy, before._table, before._rules),
            Resolved(self._policy, self._table, self._rules),
        )
        lists = before._memory.sources
        self._memory.sources.update(
            {number: lists[other] for number, other in alike.items() if other in lists}
        )
        for slot, chunks in before._memory.chunks.copy().items():
            if not stale >> slot & 1:
                self._memory.chunks[slot] = chunks

    def _carried(self, table: Table, moves: Moves) -> _Memory:
        """Return what stays right in the next access."""
        old, rules = self._memory, self._policy.rules
        stale = moves.slots
        for user in moves.owners:
            stale |= table.own.get(user, 0)
        reached = 0
        for rule in rules:
            if moves.sources >> rule.source & 1:
                reached |= rule.among
        for target in each_bit(reached):
            stale |= table.targets[target]
        dirty = {id(rule) for rule in rules if moves.sources >> rule.source & 1}
        # Copies first: another thread may be filling the old access while this one is made.
        lists, own, chunks = old.sources.copy(), old.own_sources.copy(), old.chunks.copy()
        for slot in each_bit(stale):
            chunks.pop(Slot(slot), None)
        return _Memory(
            parts=old.parts,
            capabilities=old.capabilities,
            sources={at: one for at, one in lists.items() if not moves.sources >> at & 1},
            own_sources={slots: one for slots, one in own.items() if not slots & moves.slots},
            chunks=chunks,
            shared={key: one for key, one in old.shared.copy().items() if key[0] not in dirty},
        )
