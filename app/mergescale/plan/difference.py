"""Flows that two policies do not have in common, over the same nodes."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

from mergescale.domain.access import CapGrant
from mergescale.domain.snapshot import Snapshot
from mergescale.kernel.ids import Slot
from mergescale.plan.flows import Census, Flow, Flows, Place, census, cut, flows_of
from mergescale.policy.ports import WITH_PORTS


class Row(NamedTuple):
    """What one address of one node gains or loses.

    Attributes:
        slot: the node that lets it through.
        place: one of its addresses, or a part of what it routes.
        flows: protocols and ports, sorted.
        sources: who, as bits of the `Census`.
    """

    slot: Slot
    place: Place
    flows: tuple[Flow, ...]
    sources: int


@dataclass(frozen=True, slots=True)
class Difference:
    """All of it.

    Attributes:
        who: what the bits of sources mean.
        filters: slots whose filter means something else than before.
        reached, left: by slot, who could send it anything before, and who still can.
    """

    who: Census
    gained: tuple[Row, ...]
    lost: tuple[Row, ...]
    filters: int
    reached: Mapping[Slot, int]
    left: Mapping[Slot, int]


def difference(before: Snapshot, after: Snapshot) -> Difference:
    """Compare what two snapshots of the same nodes let through.

    Filters that the later one took over from the earlier are the same object and not looked at.
    """
    touched = [
        slot
        for slot in after.slots.of.values()
        if before.access.chunks(slot) is not after.access.chunks(slot)
        and before.access.chunks(slot) != after.access.chunks(slot)
    ]
    # Many nodes share a list, which may name all of them: each is looked at once.
    lists = {
        id(rule.sources): rule.sources
        for slot in touched
        for snapshot in (before, after)
        for rule in snapshot.access.chunks(slot).values()
    }
    who = census(after, lists.values())
    gained: list[Row] = []
    lost: list[Row] = []
    reached: dict[Slot, int] = {}
    left: dict[Slot, int] = {}
    filters = 0
    for slot in touched:
        node_id = after.slots.at[slot]
        if node_id is None:
            continue
        node = after.nodes[node_id]
        was = flows_of(node, before.access.chunks(slot), who)
        now = flows_of(node, after.access.chunks(slot), who)
        reached[slot], left[slot] = _anything(was), _anything(now)
        lines = list(was), list(now)
        for place in cut([*was, *now]):
            there, here = _at(was, lines[0], place), _at(now, lines[1], place)
            gained += _rows(slot, place, here, there)
            lost += _rows(slot, place, there, here)
        if grants(before, after, slot) != grants(after, before, slot):
            filters |= 1 << slot
    for row in (*gained, *lost):
        filters |= 1 << row.slot
    return Difference(who, tuple(gained), tuple(lost), filters, reached, left)


def grants(
    snapshot: Snapshot, other: Snapshot, slot: Slot
) -> set[tuple[tuple[str, ...], CapGrant]]:
    """Return the capabilities that a node is told of, but for chunks that are the other's too."""
    theirs = other.access.chunks(slot)
    return {
        (rule.sources.texts, rule.grant)
        for name, rule in snapshot.access.chunks(slot).items()
        if rule.grant is not None and rule != theirs.get(name)
    }


def _anything(flows: Flows) -> int:
    bits = 0
    for by_flow in flows.values():
        for sources in by_flow.values():
            bits |= sources
    return bits


def _at(flows: Flows, line: list[Place], place: Place) -> Mapping[Flow, int]:
    """Return the flows of the stretch that a place lies in; they do not overlap, and are in order."""
    near = bisect_right(line, place.first, key=_first) - 1
    if near >= 0 and place.last <= line[near].last:
        return flows[line[near]]
    return {}


def _first(place: Place) -> int:
    return place.first


def _rows(
    slot: Slot, place: Place, more: Mapping[Flow, int], less: Mapping[Flow, int]
) -> Iterable[Row]:
    """Yield what `more` has and `less` has not, one row for each set of sources."""
    by_sources: dict[int, list[Flow]] = {}
    for protocol in {flow.protocol for flow in more}:
        theirs = [(flow, bits) for flow, bits in less.items() if flow.protocol == protocol]
        mine = [(flow, bits) for flow, bits in more.items() if flow.protocol == protocol]
        if protocol not in WITH_PORTS:
            bits = _union(mine) & ~_union(theirs)
            if bits:
                by_sources.setdefault(bits, []).append(Flow(protocol, 0, 65535))
            continue
        edges = _edges([*mine, *theirs])
        over = zip(pairwise(edges), _unions(mine, edges), _unions(theirs, edges), strict=True)
        for (first, after), have, had in over:
            bits = have & ~had
            if bits:
                by_sources.setdefault(bits, []).append(Flow(protocol, first, after - 1))
    for bits, flows in by_sources.items():
        yield Row(slot, place, _joined(flows), bits)


def _union(flows: Iterable[tuple[Flow, int]]) -> int:
    bits = 0
    for _, sources in flows:
        bits |= sources
    return bits


def _edges(flows: Iterable[tuple[Flow, int]]) -> list[int]:
    """Return where ports begin, and behind where they end, in order."""
    return sorted({edge for flow, _ in flows for edge in (flow.first, flow.last + 1)})


def _unions(flows: Iterable[tuple[Flow, int]], edges: list[int]) -> list[int]:
    """Return who may send to the ports between two edges each.

    A tree of intervals over the edges: a policy may name some ten thousand ports, and to look at all
    of them for each of them would hold up the server.
    """
    count = len(edges) - 1
    tree = [0] * (2 * count)
    for flow, bits in flows:
        low = bisect_left(edges, flow.first) + count
        high = bisect_left(edges, flow.last + 1) + count
        while low < high:
            if low & 1:
                tree[low] |= bits
                low += 1
            if high & 1:
                high -= 1
                tree[high] |= bits
            low, high = low >> 1, high >> 1
    for at in range(1, count):
        tree[2 * at] |= tree[at]
        tree[2 * at + 1] |= tree[at]
    return tree[count:]


def _joined(flows: list[Flow]) -> tuple[Flow, ...]:
    """Join intervals of one protocol that touch."""
    joined: list[Flow] = []
    for flow in sorted(flows):
        last = joined[-1] if joined else None
        if last and last.protocol == flow.protocol and last.last + 1 == flow.first:
            joined[-1] = Flow(flow.protocol, last.first, flow.last)
        else:
            joined.append(flow)
    return tuple(joined)
