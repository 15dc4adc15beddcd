"""All peers of a snapshot in blocks, so that a map is a join of a few texts instead of thousands.

A block holds the faces of `BLOCK_SLOTS` neighbouring slots. What a viewer sees of it is a mask of
slots and, where it holds routers, the routes the viewer may use; most viewers see the same of a
block, so its text and its zstd frame are made once for all of them. A block is replaced as soon as
one of its faces is.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from operator import is_
from typing import Final

from mergescale.domain.prefixes import Prefix
from mergescale.domain.snapshot import Snapshot
from mergescale.kernel.ids import NodeId, Slot
from mergescale.netmap.face import Face, usable_routes
from mergescale.netmap.parts import Part, Shared, separated

#: Small enough that one changed peer costs little to compress again, large enough to compress well.
BLOCK_SLOTS: Final = 64
_MASK: Final = (1 << BLOCK_SLOTS) - 1
#: Fewer peers of a block than this are compressed with what stands beside them.
_FEW: Final = 8
#: LIMIT: what is kept of one block at most. A tailnet has a handful of kinds of viewers; when
#: they are many more, sharing does not pay anyway.
_VARIANTS: Final = 8

_Routes = tuple[tuple[Prefix, ...], ...]


class Block:
    """The faces of neighbouring slots; None where the slot is free.

    Attributes:
        faces: never changed.
        routers: offsets of those that carry routes.
    """

    __slots__ = ("_variants", "faces", "routers")

    def __init__(self, faces: tuple[Face | None, ...]) -> None:
        self.faces = faces
        self.routers = sum(
            1 << offset for offset, face in enumerate(faces) if face is not None and face.carried
        )
        self._variants: dict[tuple[int, _Routes], Shared] = {}

    def shared(self, snapshot: Snapshot, mask: int, viewer: Slot) -> Shared:
        """Return what the viewer sees of this block, for others who see the same."""
        routes = tuple(
            usable_routes(snapshot, face, viewer) for face in self._seen(mask & self.routers)
        )
        key = mask, routes
        found = self._variants.get(key)
        if found is None:
            if len(self._variants) >= _VARIANTS:
                self._variants.clear()
            found = self._variants[key] = Shared(self.items(snapshot, mask, viewer))
        return found

    def items(self, snapshot: Snapshot, mask: int, viewer: Slot) -> list[bytes]:
        """Return each peer of the mask as JSON, in slot order."""
        return [face.whole(usable_routes(snapshot, face, viewer)) for face in self._seen(mask)]

    def _seen(self, mask: int) -> Iterator[Face]:
        while mask:
            low = mask & -mask
            face = self.faces[low.bit_length() - 1]
            if face is not None:
                yield face
            mask ^= low


class Scene:
    """Every node of a snapshot as its peers see it.

    Attributes:
        snapshot: what the faces show.
        faces: node -> face; living nodes only.
        blocks: by slot number divided by `BLOCK_SLOTS`.
    """

    def __init__(
        self, snapshot: Snapshot, faces: Mapping[NodeId, Face], blocks: Sequence[Block] = ()
    ) -> None:
        """Build it, taking over each given face and block that still shows the truth."""
        self.snapshot = snapshot
        self.faces = _faces(snapshot, faces)
        at = snapshot.slots.at
        self.blocks: list[Block] = []
        for number, start in enumerate(range(0, len(at), BLOCK_SLOTS)):
            fresh = self._block_faces(at[start : start + BLOCK_SLOTS])
            same = number < len(blocks) and _same(blocks[number].faces, fresh)
            self.blocks.append(blocks[number] if same else Block(fresh))

    def _block_faces(self, nodes: Sequence[NodeId | None]) -> tuple[Face | None, ...]:
        faces = self.faces
        return tuple([None if node is None else faces[node] for node in nodes])

    def peers(self, slots: int, viewer: Slot) -> list[Part]:
        """Return the peers in `slots` as the viewer sees them: items of an array, in slot order.

        The viewer's own block is never shared: there it sees all but itself, which nobody else
        does.
        """
        groups: list[Sequence[Part]] = []
        own, number = viewer // BLOCK_SLOTS, 0
        while slots:
            mask = slots & _MASK
            if mask:
                block = self.blocks[number]
                if number == own or mask.bit_count() < _FEW:
                    groups.append([b",".join(block.items(self.snapshot, mask, viewer))])
                else:
                    groups.append([block.shared(self.snapshot, mask, viewer)])
            slots >>= BLOCK_SLOTS
            number += 1
        return separated(groups)


def _faces(snapshot: Snapshot, before: Mapping[NodeId, Face]) -> dict[NodeId, Face]:
    suffix, faces = snapshot.magic_dns_suffix, dict[NodeId, Face]()
    for node_id, node in snapshot.nodes.items():
        face = before.get(node_id)
        if face is None or not face.shows(snapshot, node, suffix):
            face = Face(snapshot, node)
        faces[node_id] = face
    return faces


def _same(old: Sequence[Face | None], new: Sequence[Face | None]) -> bool:
    """Compare by identity: a face is taken over whenever it still shows the truth."""
    return len(old) == len(new) and all(map(is_, old, new))
