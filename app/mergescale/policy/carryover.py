"""What two policies over one tailnet have in common, so that an edit costs what it concerns.

Only bitsets and names are compared, never filters: the work is proportional to rules and nodes,
not to pairs of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from mergescale.domain.slots import each_bit
from mergescale.policy.compiled import CompiledPolicy
from mergescale.policy.membership import Table


class Index(NamedTuple):
    """Rules by what they start from and lead to, for one table.

    Attributes:
        reach: by rule, the slots it leads to.
        reached_from: by source, the slots that its rules lead to.
        let_in: by target, the slots that its rules let in.
        rules_to: by target, its rules.
    """

    reach: tuple[int, ...]
    reached_from: tuple[int, ...]
    let_in: tuple[int, ...]
    rules_to: tuple[tuple[int, ...], ...]


class Resolved(NamedTuple):
    """A policy with the table of its nodes."""

    policy: CompiledPolicy
    table: Table
    rules: Index


def index_of(policy: CompiledPolicy, table: Table) -> Index:
    """Make the index of a table."""
    reach: list[int] = []
    reached_from = [0] * len(table.sources)
    let_in = [0] * len(table.targets)
    rules_to: list[list[int]] = [[] for _ in table.targets]
    for number, rule in enumerate(policy.rules):
        slots = 0
        for target in each_bit(rule.among):
            slots |= table.targets[target]
            let_in[target] |= table.sources[rule.source]
            rules_to[target].append(number)
        reach.append(slots)
        reached_from[rule.source] |= slots
    return Index(tuple(reach), tuple(reached_from), tuple(let_in), tuple(map(tuple, rules_to)))


def packets_to(policy: CompiledPolicy, table: Table) -> tuple[int, ...]:
    """Return, by target, the slots that rules about packets let in."""
    let_in = [0] * len(table.targets)
    for rule in policy.rules:
        if not rule.capabilities:
            for target in each_bit(rule.among):
                let_in[target] |= table.sources[rule.source]
    return tuple(let_in)


def compare(old: Resolved, new: Resolved) -> tuple[dict[int, int], int]:
    """Compare two policies over slots of one generation.

    A rule is the same in both when it has the same name, which says what it says, and its source
    list comes out the same.

    Returns:
        The source lists of `new` that come out the same, number -> their number in `old`; and the
        slots whose filter may differ.
    """
    numbers = {one: number for number, one in enumerate(old.policy.sources)}
    routed = new.table.subnets == old.table.subnets
    alike: dict[int, int] = {}
    for number, one in enumerate(new.policy.sources):
        other = numbers.get(one)
        if other is None or (one.everyone and not routed):
            continue
        if new.table.listed[number] == old.table.listed[other]:
            alike[number] = other
    moved = _moved(old, new)
    alike = {mine: other for mine, other in alike.items() if not new.table.listed[mine] & moved}
    return alike, moved | _ruled(old, new, alike) | _own(old, new, moved)


def _moved(old: Resolved, new: Resolved) -> int:
    """Return the slots of nodes that came, went, or have other addresses, routes or owners."""
    seats, others = new.table.seats, old.table.seats
    moved = 0
    for slot in seats.keys() | others.keys():
        one, other = seats.get(slot), others.get(slot)
        if one is None or other is None or one.place != other.place:
            moved |= 1 << slot
    return moved


def _ruled(old: Resolved, new: Resolved, alike: Mapping[int, int]) -> int:
    """Return whom a rule concerns that is not the same, or is not among the same targets."""
    numbers = {one: number for number, one in enumerate(old.policy.targets)}
    differing = tuple(
        mine if (other := numbers.get(one)) is None else mine ^ old.table.targets[other]
        for one, mine in zip(new.policy.targets, new.table.targets, strict=True)
    )
    was = {rule.name: number for number, rule in enumerate(old.policy.rules)}
    stale = 0
    for number, rule in enumerate(new.policy.rules):
        other = was.get(rule.name)
        if other is not None and alike.get(rule.source) == old.policy.rules[other].source:
            del was[rule.name]
            for target in each_bit(rule.among):
                stale |= differing[target]
        else:
            stale |= new.rules.reach[number]
    for number in was.values():
        stale |= old.rules.reach[number]
    return stale


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
        for user in new.table.own.keys() | old.table.own.keys():
            now, was = new.table.own.get(user, 0), old.table.own.get(user, 0)
            if now != was or (now | was) & differing:
                stale |= now | was
    return stale
