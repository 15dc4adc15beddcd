"""All seats and, turned around, the nodes of every source and target, as bitsets.

Bringing the table up to date costs what the changed seats cost.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from mergescale.domain.prefixes import Prefix
from mergescale.domain.slots import each_bit
from mergescale.kernel.ids import Slot, UserId
from mergescale.policy.compiled import CompiledPolicy
from mergescale.policy.membership import Seat

#: LIMIT: columns that are made at once; each row of them is as many bytes of text meanwhile.
_BLOCK: Final = 256


@dataclass(frozen=True, slots=True)
class Table:
    """All seats, and the nodes of every source and target.

    Attributes:
        seats: slot -> seat.
        sources, targets: by number, the slots in it.
        listed: by number, the slots whose addresses the source lists.
        own: user -> the slots of its untagged nodes.
        subnets: texts of all approved subnet routes, sorted.
    """

    seats: Mapping[Slot, Seat]
    sources: tuple[int, ...]
    listed: tuple[int, ...]
    targets: tuple[int, ...]
    own: Mapping[UserId, int] = field(default_factory=dict)
    subnets: tuple[str, ...] = ()

    def routers(self, prefix: Prefix) -> int:
        """Return the slots of all that may route exactly this prefix."""
        bits = 0
        for slot, seat in self.seats.items():
            if seat.routes and prefix in seat.routes:
                bits |= 1 << slot
        return bits


@dataclass(frozen=True, slots=True)
class Moves:
    """What an update of a table moved.

    Attributes:
        slots: those whose seats differ.
        sources: bits of the sources whose lists may differ.
        owners: users whose own nodes differ.
    """

    slots: int
    sources: int
    owners: frozenset[UserId]


def fill(policy: CompiledPolicy, seats: Mapping[Slot, Seat]) -> Table:
    """Return the table of these seats, as `update` would make it from none, but in one go."""
    own: dict[UserId, int] = {}
    subnets: set[str] = set()
    for slot, seat in seats.items():
        if seat.owner is not None:
            own[seat.owner] = own.get(seat.owner, 0) | 1 << slot
        if seat.routes:
            subnets.update(str(one) for one in seat.subnets)
    rows = [seats.get(Slot(slot), _NOBODY) for slot in reversed(range(max(seats, default=-1) + 1))]
    return Table(
        seats,
        _columns([one.sources for one in rows], len(policy.sources)),
        _columns([one.listed for one in rows], len(policy.sources)),
        _columns([one.targets for one in rows], len(policy.targets)),
        own,
        tuple(sorted(subnets)),
    )


#: What stands in the place of a node that takes no part.
_NOBODY: Final = Seat("", "", (), None, 0, 0, 0, 0)


def _columns(rows: Sequence[int], width: int) -> tuple[int, ...]:
    """Turn rows of `width` bits, the one of the highest slot first, into a column for each bit.

    By way of text: setting millions of bits one by one would be most of the work of resolving.
    """
    columns: list[int] = []
    for low in range(0, width, _BLOCK):
        size = min(_BLOCK, width - low)
        mask = (1 << size) - 1
        text = "".join([f"{row >> low & mask:0{size}b}" for row in rows])
        columns += [int(text[at::size] or "0", 2) for at in reversed(range(size))]
    return tuple(columns)


def update(
    policy: CompiledPolicy, table: Table, changed: Mapping[Slot, Seat | None]
) -> tuple[Table, Moves]:
    """Return the table with the seats replaced; None takes a seat away."""
    seats = dict(table.seats)
    sources, listed, targets = [*table.sources], [*table.listed], [*table.targets]
    own = dict(table.own)
    slots, dirty, rerouted = 0, 0, False
    owners: set[UserId] = set()
    for slot, seat in changed.items():
        before = seats.pop(slot, None)
        if seat is not None:
            seats[slot] = seat
        _flip(sources, slot, _bits_of(before, "sources") ^ _bits_of(seat, "sources"))
        _flip(listed, slot, _bits_of(before, "listed") ^ _bits_of(seat, "listed"))
        _flip(targets, slot, _bits_of(before, "targets") ^ _bits_of(seat, "targets"))
        slots |= 1 << slot
        dirty |= _relisted(before, seat)
        rerouted |= (before.subnets if before else ()) != (seat.subnets if seat else ())
        _move_owner(own, owners, slot, before, seat)
        gated = _bits_of(before, "sources") ^ _bits_of(seat, "sources")
        if gated & policy.own_sources:
            owners.update(one.owner for one in (before, seat) if one and one.owner is not None)
    subnets = table.subnets
    if rerouted:
        texts = {str(one) for seat in seats.values() if seat.routes for one in seat.subnets}
        subnets = tuple(sorted(texts))
        dirty |= policy.source_lookup.always if subnets != table.subnets else 0
    after = Table(seats, tuple(sources), tuple(listed), tuple(targets), own, subnets)
    return after, Moves(slots, dirty, frozenset(owners))


def _bits_of(seat: Seat | None, name: str) -> int:
    bits: int = 0 if seat is None else getattr(seat, name)
    return bits


def _flip(sets: list[int], slot: Slot, numbers: int) -> None:
    for one in each_bit(numbers):
        sets[one] ^= 1 << slot


def _relisted(before: Seat | None, after: Seat | None) -> int:
    """Return the sources whose list of addresses differs."""
    if before is None or after is None:
        return _bits_of(before, "listed") | _bits_of(after, "listed")
    if (before.ipv4, before.ipv6) != (after.ipv4, after.ipv6):
        return before.listed | after.listed
    return before.listed ^ after.listed


def _move_owner(
    own: dict[UserId, int],
    moved: set[UserId],
    slot: Slot,
    before: Seat | None,
    after: Seat | None,
) -> None:
    old = None if before is None else before.owner
    new = None if after is None else after.owner
    same_addresses = (
        before is not None
        and after is not None
        and (before.ipv4, before.ipv6) == (after.ipv4, after.ipv6)
    )
    if old == new and same_addresses:
        return
    if old is not None:
        own[old] &= ~(1 << slot)
        moved.add(old)
    if new is not None:
        own[new] = own.get(new, 0) | 1 << slot
        moved.add(new)
