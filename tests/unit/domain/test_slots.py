from __future__ import annotations

import pytest

from mergescale.domain.slots import Slots
from mergescale.kernel.ids import NodeId


def ids(*numbers: int) -> list[NodeId]:
    return [NodeId(number) for number in numbers]


def test_slots_are_dense_and_stay() -> None:
    """Nodes get the next slots; a dropped node's slot stays empty."""
    before = Slots().changed(ids(5, 7, 9), [])
    assert before == Slots({NodeId(5): 0, NodeId(7): 1, NodeId(9): 2}, tuple(ids(5, 7, 9)))  # type: ignore[dict-item]
    after = before.changed(ids(11), ids(7))
    assert after.of == {5: 0, 9: 2, 11: 3}
    assert after.at == (5, None, 9, 11)
    assert after.generation == 0


def test_bitset_and_nodes_are_inverse() -> None:
    """A bitset of living nodes reads back as them; dead and unknown ones are left out."""
    slots = Slots().changed(ids(1, 2, 3, 4), []).changed([], ids(2))
    assert slots.bits(ids(1, 2, 4, 99)) == 0b1001
    assert list(slots.nodes(0b1111)) == [1, 3, 4]
    assert list(slots.nodes(0)) == []


@pytest.mark.parametrize(("dropped", "generation"), [(256, 0), (257, 1)])
def test_dead_slots_are_compacted_when_most_are(dropped: int, generation: int) -> None:
    """Renumbering happens under a new generation, once dead slots outweigh."""
    slots = Slots().changed(ids(*range(1, 300)), [])
    after = slots.changed([], ids(*range(1, dropped + 1)))
    assert after.generation == generation
    assert set(after.of) == set(range(dropped + 1, 300))
    if generation:
        assert after.at == tuple(range(dropped + 1, 300))
    for node, slot in after.of.items():
        assert after.at[slot] == node
