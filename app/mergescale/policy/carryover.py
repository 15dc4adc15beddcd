"""What two policies over one tailnet have in common, so that an edit costs what it concerns.

Only bitsets and names are compared, never filters: the work is proportional to rules and nodes,
not to pairs of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from mergescale.domain.slots import each_bit
from mergescale.policy.compiled import CompiledRule
from mergescale.policy.resolved import Resolved


class Common(NamedTuple):
    """What two policies over slots of one generation have in common, and where they differ.

    A rule is the same in both when it has the same name, which says what it says, and its source
    list comes out the same.

    Attributes:
        lists: source lists that come out the same, number in the new one -> in the old one.
        moved: slots of nodes whose filters may have nothing in common.
        dropped: the name of a rule that is no more, and the slots that it led to.
        renewed: a rule, and the slots at which what it means may differ from before.
        own: slots at which what rules to ``autogroup:self`` mean may differ.
    """

    lists: Mapping[int, int]
    moved: int
    dropped: tuple[tuple[str, int], ...]
    renewed: tuple[tuple[CompiledRule, int], ...]
    own: int

    @property
    def stale(self) -> int:
        """The slots whose filter may differ."""
        stale = self.moved | self.own
        for _, slots in (*self.dropped, *self.renewed):
            stale |= slots
        return stale


def compare(old: Resolved, new: Resolved) -> Common:
    """Compare two policies over slots of one generation."""
    moved = _moved(old, new)
    numbers = {one: number for number, one in enumerate(old.policy.sources)}
    routed = new.table.subnets == old.table.subnets
    lists: dict[int, int] = {}
    for number, one in enumerate(new.policy.sources):
        other = numbers.get(one)
        if other is None or (one.everyone and not routed):
            continue
        mine = new.table.listed[number]
        if mine == old.table.listed[other] and not mine & moved:
            lists[number] = other
    kept = _kept(old, new, lists)
    own = _own(old, new, moved)
    dropped = [
        (rule.name, slots)
        for rule, slots in zip(old.policy.rules, old.index.reach, strict=True)
        if rule.name not in kept
    ]
    dropped += [(rule.name, own) for rule in old.policy.own_rules]
    return Common(lists, moved, tuple(dropped), _renewed(old, new, kept), own)


def _moved(old: Resolved, new: Resolved) -> int:
    """Return the slots of nodes that came, went, or have other addresses, routes or owners."""
    seats, others = new.table.seats, old.table.seats
    moved = 0
    for slot in seats.keys() | others.keys():
        one, other = seats.get(slot), others.get(slot)
        if one is None or other is None or one.place != other.place:
            moved |= 1 << slot
    return moved


def _kept(old: Resolved, new: Resolved, lists: Mapping[int, int]) -> frozenset[str]:
    """Return the names of the rules that are the same in both."""
    was = {rule.name: rule.source for rule in old.policy.rules}
    return frozenset(
        rule.name
        for rule in new.policy.rules
        if rule.name in was and lists.get(rule.source) == was[rule.name]
    )


def _renewed(
    old: Resolved, new: Resolved, kept: frozenset[str]
) -> tuple[tuple[CompiledRule, int], ...]:
    """Return rules that are not the same wherever they lead, others where their targets differ."""
    numbers = {one: number for number, one in enumerate(old.policy.targets)}
    differing = tuple(
        mine if (other := numbers.get(one)) is None else mine ^ old.table.targets[other]
        for one, mine in zip(new.policy.targets, new.table.targets, strict=True)
    )
    renewed: list[tuple[CompiledRule, int]] = []
    for rule, reach in zip(new.policy.rules, new.index.reach, strict=True):
        slots = 0 if rule.name in kept else reach
        if rule.name in kept:
            for target in each_bit(rule.among):
                slots |= differing[target]
        renewed.append((rule, slots))
    return tuple((rule, slots) for rule, slots in renewed if slots)


def _own(old: Resolved, new: Resolved, moved: int) -> int:
    """Return whom rules to ``autogroup:self`` concern, where they or the own nodes differ."""
    mine, theirs = (
        {rule.name: one.table.sources[rule.source] for rule in one.policy.own_rules}
        for one in (new, old)
    )
    differing = moved
    for name in mine.keys() | theirs.keys():
        differing |= mine.get(name, 0) ^ theirs.get(name, 0)
    stale = 0
    if mine or theirs:
        for user, now in new.table.own.items():
            if (now | old.table.own.get(user, 0)) & differing:
                stale |= now
    return stale
