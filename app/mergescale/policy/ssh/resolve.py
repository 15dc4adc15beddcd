"""Entries of ``ssh`` resolved against the nodes of one snapshot."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from mergescale.domain.access import SshRule
from mergescale.domain.slots import each_bit
from mergescale.kernel.ids import Slot, UserId
from mergescale.policy.compiled import CompiledPolicy
from mergescale.policy.membership import Seat
from mergescale.policy.table import Table


class _Key(NamedTuple):
    """What the rules made of one entry depend on, besides the seats of the nodes it names.

    Attributes:
        entry: index of the entry.
        sources, recorders: slots of the nodes.
    """

    entry: int
    sources: int
    recorders: int


_Known = Mapping[_Key, tuple[SshRule, ...]]


@dataclass(frozen=True, slots=True)
class _Earlier:
    """What the access before this one was asked; right where no node moved."""

    known: _Known
    moved: int


class SshAccess:
    """Who may log in where; viewers that see the same sources get the same objects."""

    __slots__ = ("_among", "_earlier", "_known", "_lists", "_policy", "_table")

    def __init__(
        self, policy: CompiledPolicy, table: Table, earlier: _Earlier | None = None
    ) -> None:
        self._policy = policy
        self._table = table
        self._earlier = earlier or _Earlier({}, 0)
        self._known: dict[_Key, tuple[SshRule, ...]] = {}
        self._lists: dict[tuple[int, UserId | None, int], tuple[SshRule, ...]] = {}
        self._among = 0
        for entry in policy.ssh:
            self._among |= entry.among

    def refreshed(self, table: Table, moved: int) -> SshAccess:
        """Return what holds under another table, in which the seats `moved` differ."""
        return SshAccess(self._policy, table, _Earlier(self._known, moved))

    def rules(self, seat: Seat, seen: int) -> tuple[SshRule, ...]:
        """Return the rules of a node.

        Args:
            seat: the node's.
            seen: slots that it sees, its own included.
        """
        # Nodes with the same tags that see the same have the same rules; a number as long as the
        # tailnet is wide is hashed once for all of them.
        key = seat.targets & self._among, seat.owner, seen
        found = self._lists.get(key)
        if found is None:
            found = self._lists[key] = self._listed(seat, seen)
        return found

    def _listed(self, seat: Seat, seen: int) -> tuple[SshRule, ...]:
        table, found = self._table, list[SshRule]()
        own = 0 if seat.owner is None else table.own[seat.owner]
        for number, entry in enumerate(self._policy.ssh):
            sources = table.listed[entry.source] & seen
            if not entry.among & seat.targets:
                # SPEC(hosted service): who may log in by the local part of a login may do so at
                # the own devices, too.
                sources &= own if entry.own or entry.logins.domain else 0
            if sources:
                found += self._made(_Key(number, sources, self._recorders(entry.recorders) & seen))
        return tuple(found)

    def _recorders(self, targets: int) -> int:
        slots = 0
        for target in each_bit(targets):
            slots |= self._table.targets[target]
        return slots

    def _made(self, key: _Key) -> tuple[SshRule, ...]:
        made = self._known.get(key)
        if made is None:
            earlier = self._earlier
            if not earlier.moved & (key.sources | key.recorders):
                made = earlier.known.get(key)
            self._known[key] = made = made or tuple(self._rules(key))
        return made

    def _rules(self, key: _Key) -> Iterator[SshRule]:
        entry = self._policy.ssh[key.entry]
        recorders = tuple(self._addresses(key.recorders))
        for slots, logins in self._parts(key):
            yield SshRule(
                principals=tuple(sorted(self._addresses(slots))),
                logins=tuple(sorted(logins.items())),
                check_period=entry.check_period,
                accept_env=entry.accept_env,
                recorders=recorders,
                recorded=entry.recorded,
            )

    def _parts(self, key: _Key) -> Iterator[tuple[int, dict[str, str]]]:
        """Yield sources that may log in as the same users, in the order that decides.

        Where the local part of a login counts, each person is a part, and so are tagged nodes.
        """
        logins = self._policy.ssh[key.entry].logins
        if not logins.domain:
            yield key.sources, logins.mapping()
            return
        people: dict[UserId | None, int] = {}
        for slot in each_bit(key.sources):
            owner = self._table.seats[Slot(slot)].owner
            people[owner] = people.get(owner, 0) | 1 << slot
        for owner in sorted(people, key=lambda one: (one is None, one or 0)):
            slots = people[owner]
            yield slots, logins.mapping()
            local = self._table.seats[Slot(slots.bit_length() - 1)].local_part
            if local:
                yield slots, {local: local}

    def _addresses(self, slots: int) -> Iterable[str]:
        for slot in each_bit(slots):
            seat = self._table.seats[Slot(slot)]
            yield from seat.addresses
