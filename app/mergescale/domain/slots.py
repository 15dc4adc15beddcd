"""Dense indexes for nodes, so that a set of nodes is one int.

A slot is given to a node for as long as it lives in this process. Slots of dropped nodes are not
given out again until a compaction renumbers everything under a new generation, so a bitset is
only ever read with the table of its own generation.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from mergescale.kernel.ids import NodeId, Slot

#: LIMIT: compaction is linear in nodes, so it runs only once half of the slots are dead.
_DEAD_SLOTS_TOLERATED = 256


#: The offsets of the bits of each byte.
_OFFSETS: Final = tuple(
    tuple(offset for offset in range(8) if byte >> offset & 1) for byte in range(256)
)
#: A set with fewer members than one in so many bits is read bit by bit, else byte by byte.
_SPARSE: Final = 64


def each_bit(bits: int) -> Iterator[int]:
    """Yield the numbers of the bits that are set, ascending.

    Taking the lowest bit off costs the length of the whole set each time, so large sets are read
    by bytes.
    """
    if bits.bit_count() * _SPARSE < bits.bit_length():
        while bits:
            low = bits & -bits
            yield low.bit_length() - 1
            bits ^= low
        return
    base = 0
    for byte in bits.to_bytes((bits.bit_length() + 7) // 8, "little"):
        for offset in _OFFSETS[byte]:
            yield base + offset
        base += 8


@dataclass(frozen=True, slots=True)
class Slots:
    """Which node has which slot.

    Attributes:
        of: node -> slot, living nodes only.
        at: slot -> node, None where the node is gone.
        generation: grows when slots are renumbered.
    """

    of: Mapping[NodeId, Slot] = field(default_factory=dict)
    at: tuple[NodeId | None, ...] = ()
    generation: int = 0

    def changed(self, added: Iterable[NodeId], dropped: Iterable[NodeId]) -> Slots:
        """Return the table after nodes came and went."""
        of, at = dict(self.of), list(self.at)
        for node in dropped:
            at[of.pop(node)] = None
        for node in added:
            of[node] = Slot(len(at))
            at.append(node)
        if len(at) - len(of) > max(_DEAD_SLOTS_TOLERATED, len(of)):
            living = [node for node in at if node is not None]
            of = {node: Slot(index) for index, node in enumerate(living)}
            return Slots(of, tuple(living), self.generation + 1)
        return Slots(of, tuple(at), self.generation)

    def nodes(self, bits: int) -> Iterator[NodeId]:
        """Yield the living nodes of a bitset of this generation, in slot order."""
        for slot in each_bit(bits):
            node = self.at[slot]
            if node is not None:
                yield node

    def bits(self, nodes: Iterable[NodeId]) -> int:
        """Return the bitset of these nodes; those without a slot are left out."""
        bits = 0
        for node in nodes:
            slot = self.of.get(node)
            if slot is not None:
                bits |= 1 << slot
        return bits
