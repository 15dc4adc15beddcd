"""A policy with the table of its nodes, and its rules by what they start from and lead to."""

from __future__ import annotations

from typing import NamedTuple

from mergescale.domain.slots import each_bit
from mergescale.policy.compiled import CompiledPolicy
from mergescale.policy.table import Table


class Index(NamedTuple):
    """Rules by what they start from and lead to, for one table.

    Attributes:
        reach: by rule, the slots it leads to.
        reached_from: by source, the slots that its rules lead to.
        let_in: by target, the slots that its rules let in.
        packets_to: by target, the slots that its rules about packets let in.
        rules_to: by target, its rules.
    """

    reach: tuple[int, ...]
    reached_from: tuple[int, ...]
    let_in: tuple[int, ...]
    packets_to: tuple[int, ...]
    rules_to: tuple[tuple[int, ...], ...]


class Resolved:
    """A policy with the table of its nodes."""

    __slots__ = ("_index", "policy", "table")

    def __init__(self, policy: CompiledPolicy, table: Table) -> None:
        self.policy = policy
        self.table = table
        self._index: Index | None = None

    @property
    def index(self) -> Index:
        """The index; made when it is first asked for."""
        if self._index is None:
            self._index = _index_of(self.policy, self.table)
        return self._index


def _index_of(policy: CompiledPolicy, table: Table) -> Index:
    reach: list[int] = []
    reached_from = [0] * len(table.sources)
    let_in = [0] * len(table.targets)
    packets_to = [0] * len(table.targets)
    rules_to: list[list[int]] = [[] for _ in table.targets]
    for number, rule in enumerate(policy.rules):
        slots = 0
        for target in each_bit(rule.among):
            slots |= table.targets[target]
            let_in[target] |= table.sources[rule.source]
            packets_to[target] |= 0 if rule.capabilities else table.sources[rule.source]
            rules_to[target].append(number)
        reach.append(slots)
        reached_from[rule.source] |= slots
    return Index(
        tuple(reach),
        tuple(reached_from),
        tuple(let_in),
        tuple(packets_to),
        tuple(map(tuple, rules_to)),
    )
