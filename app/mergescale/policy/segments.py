"""Which address ranges cover an address: a sweep done once, a bisection per question."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from mergescale.policy.selectors import Range


@dataclass(frozen=True, slots=True)
class Segments:
    """The address space of both families, cut where some range starts or ends.

    Attributes:
        cuts: where a segment starts, ascending; addresses of IPv6 come after all of IPv4.
        masks: bit i is set where range i covers the segment; one longer than `cuts`, the first
            one for what lies before the first cut.
    """

    cuts: tuple[int, ...]
    masks: tuple[int, ...]

    def meeting(self, version: int, first: int, last: int) -> int:
        """Return the bits of all ranges that share an address with first..last."""
        base = _BASE[version]
        start = bisect_right(self.cuts, base + first)
        mask = self.masks[start]
        if first != last:
            for one in self.masks[start + 1 : bisect_right(self.cuts, base + last) + 1]:
                mask |= one
        return mask


#: The segments of no ranges.
NOWHERE = Segments((), (0,))

#: One number line for both families.
_BASE = {4: 0, 6: 1 << 32}


def cut(ranges: Iterable[tuple[int, Range]]) -> Segments:
    """Build the segments of numbered ranges; several ranges may have one number."""
    edges: dict[int, list[tuple[int, int]]] = {}
    for bit, one in ranges:
        base = _BASE[one.version]
        edges.setdefault(base + one.first, []).append((bit, 1))
        edges.setdefault(base + one.last + 1, []).append((bit, -1))
    covering: Counter[int] = Counter()
    mask, masks = 0, [0]
    for at in sorted(edges):
        for bit, step in edges[at]:
            covering[bit] += step
        for bit, _ in edges[at]:
            mask = mask | 1 << bit if covering[bit] else mask & ~(1 << bit)
        masks.append(mask)
    return Segments(tuple(sorted(edges)), tuple(masks))
