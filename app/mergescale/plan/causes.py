"""Which rules a row comes from, so that a reader finds what made it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from mergescale.domain.access import FilterRule
from mergescale.domain.snapshot import Snapshot
from mergescale.kernel.ids import Slot
from mergescale.plan.difference import Row
from mergescale.plan.flows import Census, places_of
from mergescale.policy.compiled import CompiledPolicy
from mergescale.policy.diagnostics import Span
from mergescale.policy.ports import DEFAULT_PROTOCOLS, WITH_PORTS

#: LIMIT: destinations of rules that are held against rows, in a whole plan; some microseconds each. Of
#: larger changes nobody reads which rule each row is of.
_LOOKS: Final = 1_000_000


class Causes:
    """The rules of one side that the other does not have, or that mean something else there.

    Args:
        policy: of the side that lets more through.
        more, less: the tailnet under it and under the other one.
        who: the sources.
    """

    def __init__(self, policy: CompiledPolicy, more: Snapshot, less: Snapshot, who: Census) -> None:
        self._places = {
            one.name: one.origin for one in reversed((*policy.rules, *policy.own_rules))
        }
        self._more = more
        self._less = less
        self._who = who
        self._by_slot: dict[Slot, list[tuple[str, FilterRule]]] = {}
        self._sizes: dict[Slot, int] = {}
        self._left = _LOOKS

    def of(self, rows: Iterable[Row]) -> tuple[str, ...]:
        """Return where they stand, as ``file:line:column``, in the order of the files.

        Nothing where that would be too much work.
        """
        rows = list(rows)
        looks = sum(self._size(row.slot) for row in rows)
        if looks > self._left:
            return ()
        self._left -= looks
        names = {
            name for row in rows for name, rule in self._rules(row.slot) if self._is(rule, row)
        }
        spans = sorted({self._places[name] for name in names if name in self._places}, key=_place)
        return tuple(f"{one.file}:{one.start_line}:{one.start_column}" for one in spans)

    def _rules(self, slot: Slot) -> list[tuple[str, FilterRule]]:
        found = self._by_slot.get(slot)
        if found is None:
            theirs = self._less.access.chunks(slot)
            found = self._by_slot[slot] = [
                (name, rule)
                for name, rule in self._more.access.chunks(slot).items()
                if rule.grant is None and rule != theirs.get(name)
            ]
        return found

    def _size(self, slot: Slot) -> int:
        found = self._sizes.get(slot)
        if found is None:
            rules = self._rules(slot)
            found = self._sizes[slot] = sum(1 + len(rule.destinations) for _, rule in rules)
        return found

    def _is(self, rule: FilterRule, row: Row) -> bool:
        """Say whether the rule lets something of the row through."""
        protocols = rule.protocols or DEFAULT_PROTOCOLS
        return bool(self._who.bits(rule.sources) & row.sources) and any(
            place.first <= row.place.first and row.place.last <= place.last
            for one in rule.destinations
            if any(
                flow.protocol in protocols
                and (
                    flow.protocol not in WITH_PORTS
                    or (one.first <= flow.last and flow.first <= one.last)
                )
                for flow in row.flows
            )
            for place in places_of(one.ip)
        )


def _place(one: Span) -> tuple[str, int, int]:
    return one.file, one.start_line, one.start_column
