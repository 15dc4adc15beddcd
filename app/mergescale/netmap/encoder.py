"""The entrance: messages for one tailnet's clients, ready to be written."""

from __future__ import annotations

from collections import deque
from datetime import datetime
from typing import Final

from mergescale.domain.change import Change
from mergescale.domain.snapshot import Snapshot
from mergescale.domain.tailnet import RelayRegion
from mergescale.kernel.ids import NodeId
from mergescale.netmap.cache import Cache
from mergescale.netmap.delta import Diff
from mergescale.netmap.full import full_parts
from mergescale.netmap.parts import join_parts, seal
from mergescale.netmap.selfnode import expired_self
from mergescale.wire.mapframe import Compression
from mergescale.wire.tailcfg.encode import member
from mergescale.wire.tailcfg.map_response import MapResponse

#: LIMIT: steps kept for the next client that takes the same one; fast clients share the newest.
_STEPS: Final = 4
_NODE: Final = member(MapResponse, "node")


class Encoder:
    """Makes the messages of one tailnet; same arguments, same bytes, whatever it remembers.

    One per tailnet. Not for several threads.
    """

    def __init__(self, own_region: RelayRegion | None = None, server_url: str = "") -> None:
        """Take what depends on the server.

        Args:
            own_region: of its own relay, None if it has none.
            server_url: what clients are told to use, without a slash at its end.
        """
        self._cache = Cache(own_region, server_url)
        self._steps: deque[Diff] = deque(maxlen=_STEPS)

    def full(
        self, snapshot: Snapshot, viewer: NodeId, compression: Compression, now: datetime
    ) -> bytes:
        """Return the viewer's whole map as the first message of its stream.

        Args:
            snapshot: must hold the viewer.
            viewer: whose map it is.
            compression: what its map request asked for.
            now: the server's time.
        """
        return seal(full_parts(self._cache, snapshot, viewer, now), compression)

    def delta(
        self,
        sent: Snapshot,
        now: Snapshot,
        change: Change,
        viewer: NodeId,
        compression: Compression,
    ) -> bytes | None:
        """Return what turns the viewer's map at `sent` into the one at `now`; None for nothing.

        Args:
            sent: INVARIANT(ledger): the snapshot whose full map the viewer holds.
            now: must hold the viewer too.
            change: names at least what differs between the two.
            viewer: whose map it is.
            compression: what its map request asked for.
        """
        return self._step(sent, now, change).message(viewer, compression)

    def farewell(self, snapshot: Snapshot, viewer: NodeId, compression: Compression) -> bytes:
        """Return the last message of a stream whose node was deleted.

        Args:
            snapshot: the last one that holds the viewer.
            viewer: the node that is gone.
            compression: what its map request asked for.
        """
        expired = expired_self(snapshot, snapshot.nodes[viewer])
        return seal(join_parts([(_NODE, [expired])]), compression)

    def _step(self, sent: Snapshot, now: Snapshot, change: Change) -> Diff:
        for step in self._steps:
            if step.sent is sent and step.now is now and step.change == change:
                return step
        step = Diff(self._cache, sent, now, change)
        self._steps.appendleft(step)
        return step
