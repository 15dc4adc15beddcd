"""The packet filters of nodes as named chunks, one for each rule that concerns a node.

They are computed when asked for and kept. After a change of the nodes (`refreshed`) or of the policy
(`take_over`) what did not change is the same object as before, so that whoever compares sees with
``is`` that nothing happened.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from mergescale.domain.access import FilterRule, Sources
from mergescale.domain.slots import each_bit
from mergescale.kernel.ids import Slot, UserId
from mergescale.policy.carryover import Common, compare
from mergescale.policy.compiled import CompiledRule, TargetKind
from mergescale.policy.membership import Seat
from mergescale.policy.places import ALL_SOURCES, filter_rule, is_written, narrowed, written
from mergescale.policy.ports import Ports
from mergescale.policy.resolved import Resolved
from mergescale.policy.table import Moves

#: A node's filter.
Chunks = Mapping[str, FilterRule]


class Part(NamedTuple):
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
        filters: slot -> its filter.
        shared: by `Part.key`, the chunks that several nodes have.
    """

    parts: dict[int, tuple[Part, ...]] = field(default_factory=dict)
    sources: dict[int, Sources] = field(default_factory=dict)
    own_sources: dict[int, Sources] = field(default_factory=dict)
    filters: dict[Slot, Chunks] = field(default_factory=dict)
    shared: dict[tuple[int, int], FilterRule] = field(default_factory=dict)


class FilterAccess:
    """What each node lets in."""

    __slots__ = ("_memory", "_resolved")

    def __init__(self, resolved: Resolved, memory: _Memory | None = None) -> None:
        self._resolved = resolved
        self._memory = memory or _Memory()

    def chunks(self, slot: Slot) -> Chunks:
        """Return the node's packet filter as named chunks; none for a node that takes no part."""
        found = self._memory.filters.get(slot)
        if found is None:
            seat = self._resolved.table.seats.get(slot)
            found = self._memory.filters[slot] = {} if seat is None else self._filter(seat)
        return found

    def parts(self, targets: int) -> tuple[Part, ...]:
        """Return what concerns the nodes with these bits of targets, in the order of the rules."""
        found = self._memory.parts.get(targets)
        if found is None:
            rules, index = self._resolved.policy.rules, self._resolved.index
            numbers = {one for target in each_bit(targets) for one in index.rules_to[target]}
            found = self._memory.parts[targets] = tuple(
                self._part(rules[number], targets) for number in sorted(numbers)
            )
        return found

    def senders_of(self, rule: CompiledRule, user: UserId) -> int:
        """Return which of the user's devices a rule to ``autogroup:self`` lets send."""
        table = self._resolved.table
        return table.own[user] & table.sources[rule.source]

    def _part(self, rule: CompiledRule, among: int) -> Part:
        kinds = self._resolved.policy.targets
        targets = tuple((kinds[one], ports) for one, ports in rule.targets if among >> one & 1)
        hits = sum(1 << at for at, (one, _) in enumerate(rule.targets) if among >> one & 1)
        alike = not rule.capabilities and all(is_written(one) for one, _ in targets)
        return Part(rule, targets, (id(rule), hits) if alike else None)

    def _filter(self, seat: Seat) -> Chunks:
        found: dict[str, FilterRule] = {}
        for part in self.parts(seat.targets):
            self._put(found, part, seat)
        self._put_own(found, seat)
        return found

    def _put_own(self, found: dict[str, FilterRule], seat: Seat) -> None:
        """Put what rules to ``autogroup:self`` mean at the node."""
        if seat.owner is None:
            return
        kinds = self._resolved.policy.targets
        for rule in self._resolved.policy.own_rules:
            if senders := self.senders_of(rule, seat.owner):
                targets = tuple((kinds[one], ports) for one, ports in rule.targets)
                sources = self._own_sources(senders)
                found[rule.name] = filter_rule(rule, targets, seat, sources)

    def _put(self, found: dict[str, FilterRule], part: Part, seat: Seat) -> None:
        """Put what a rule means at the node, unless nobody is let in by it."""
        chunk = None if part.key is None else self._memory.shared.get(part.key)
        if chunk is None:
            chunk = filter_rule(part.rule, part.targets, seat, self._sources(part.rule.source))
            if part.key is not None:
                self._memory.shared[part.key] = chunk
        if chunk.sources.texts:
            found[part.rule.name] = chunk

    def _sources(self, number: int) -> Sources:
        found = self._memory.sources.get(number)
        if found is None:
            table, one = self._resolved.table, self._resolved.policy.sources[number]
            if one.anyone and not one.postures:
                found = Sources(ALL_SOURCES)
            else:
                texts = written(one, table.subnets)
                found = narrowed(one, self._listed(texts, table.listed[number]))
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
        seats = [self._resolved.table.seats[Slot(slot)] for slot in each_bit(slots)]
        addresses = [*[one.ipv4 for one in seats if one.ipv4], *[one.ipv6 for one in seats]]
        if texts:
            return Sources(tuple(dict.fromkeys([*sorted(texts), *addresses])))
        return Sources(tuple(addresses))

    def take_over(self, before: FilterAccess) -> None:
        """Take over the filters that were computed under another policy over the same nodes.

        Of a filter that differs, only the chunks of rules that differ are made anew, unless most
        rules do: then it is quicker to make it when it is asked for.
        """
        common = compare(before._resolved, self._resolved)
        # A copy: another thread may be filling the old filters while these are made.
        filters, lists = before._memory.filters.copy(), before._memory.sources
        for number, other in common.lists.items():
            if other in lists:
                self._memory.sources[number] = lists[other]
        stale = common.stale
        mending = 2 * len(common.renewed) <= len(self._resolved.policy.rules)
        for slot, chunks in filters.items():
            if not stale >> slot & 1:
                self._memory.filters[slot] = chunks
            elif mending and not common.moved >> slot & 1:
                self._memory.filters[slot] = self._mended(chunks, slot, common)

    def _mended(self, chunks: Chunks, slot: Slot, common: Common) -> Chunks:
        """Return what a node's filter has become, given what it was."""
        seat = self._resolved.table.seats[slot]
        gone = {name for name, slots in common.dropped if slots >> slot & 1}
        found = {name: chunk for name, chunk in chunks.items() if name not in gone}
        for rule, slots in common.renewed:
            if slots >> slot & 1:
                found.pop(rule.name, None)
                if rule.among & seat.targets:
                    self._put(found, self._part(rule, seat.targets), seat)
        if common.own >> slot & 1:
            self._put_own(found, seat)
        return found

    def refreshed(self, resolved: Resolved, moves: Moves) -> FilterAccess:
        """Return what holds under another table of the same policy."""
        old, rules = self._memory, resolved.policy.rules
        stale = moves.slots
        for user in moves.owners:
            stale |= resolved.table.own[user]
        dirty = [rule for rule in rules if moves.sources >> rule.source & 1]
        reached = 0
        for rule in dirty:
            reached |= rule.among
        for target in each_bit(reached):
            stale |= resolved.table.targets[target]
        unshared = {id(rule) for rule in dirty}
        # Copies first: another thread may be filling the old filters while these are made.
        lists, own, filters = old.sources.copy(), old.own_sources.copy(), old.filters.copy()
        for slot in each_bit(stale):
            filters.pop(Slot(slot), None)
        memory = _Memory(
            parts=old.parts,
            sources={at: one for at, one in lists.items() if not moves.sources >> at & 1},
            own_sources={slots: one for slots, one in own.items() if not slots & moves.slots},
            filters=filters,
            shared={key: one for key, one in old.shared.copy().items() if key[0] not in unshared},
        )
        return FilterAccess(resolved, memory)
