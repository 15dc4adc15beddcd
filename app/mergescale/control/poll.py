"""``POST /machine/map``: map polls, lite updates and one-shot maps (spec 4).

INVARIANT(machine owns node): a node key is looked up together with the machine key that the Noise
handshake proved; node keys are public.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass

import structlog

from mergescale.domain.node import Node
from mergescale.domain.snapshot import Snapshot
from mergescale.fanout.hub import Hub
from mergescale.kernel.clock import Clock
from mergescale.kernel.errors import Invalid, NotFound
from mergescale.kernel.ids import NodeId, TailnetName
from mergescale.kernel.keys import MachineKey
from mergescale.state import attributes, lookup, nodes
from mergescale.state.outcome import Decision
from mergescale.state.tailnets import Tailnets
from mergescale.wire.mapframe import Compression
from mergescale.wire.tailcfg import capver
from mergescale.wire.tailcfg.device_attr import SetDeviceAttributesRequest
from mergescale.wire.tailcfg.map_request import MapKind, MapRequest

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Poller:
    """Answers map requests.

    Attributes:
        hubs: the hub of each of `tailnets`.
    """

    tailnets: Tailnets
    hubs: Mapping[TailnetName, Hub]
    clock: Clock

    async def answer(
        self, machine: MachineKey, request: MapRequest
    ) -> AsyncGenerator[bytes, None] | bytes:
        """Return a stream of frames for a map poll, else one body; empty for a lite update.

        INVARIANT(streams are closed): whoever takes a stream closes it, whatever happens; until
        then its node counts as connected.

        Raises:
            NotFound: this machine has no node with that key.
            Invalid: the client is too old.
            StoreUnavailable: an update could not be stored; the client tries again.
        """
        if not capver.is_supported(request.version):
            raise Invalid(capver.refuse_text(request.version))
        found = self.tailnets.of_node(machine, request.node_key)
        if found is None:
            await self.tailnets.freshen()
            found = self.tailnets.of_node(machine, request.node_key)
        if found is None:
            raise NotFound("node not found")
        engine, node = found
        hub = self.hubs[engine.snapshot.tailnet]
        compression = Compression.ZSTD if request.wants_zstd else Compression.NONE
        kind = request.kind
        if kind is MapKind.POLL:
            return self._stream(hub, engine.snapshot, node.id, compression)
        if kind.applies:
            await engine.apply(_update(node, request))
        if kind is MapKind.LITE:
            return b""
        # It may have been deleted while the update was being stored.
        lookup.node(engine.snapshot, node.id)
        return hub.encoder.full(engine.snapshot, node.id, compression, self.clock.now())

    async def set_attributes(self, machine: MachineKey, wire: SetDeviceAttributesRequest) -> None:
        """Set posture attributes as a device asks for itself.

        Raises:
            NotFound: this machine has no node with that key.
            Forbidden, Invalid, Conflict: it may not, see ``state.attributes``.
        """
        found = self.tailnets.of_node(machine, wire.node_key)
        if found is None:
            raise NotFound("node not found")
        engine, node = found
        await engine.apply(attributes.set_by_node(node.id, wire.update))

    async def _stream(
        self, hub: Hub, known: Snapshot, node: NodeId, compression: Compression
    ) -> AsyncGenerator[bytes, None]:
        """Yield frames until the node is deleted, a newer stream opens or the client leaves.

        Resuming after a yield means that the frame was written whole. Nothing is attached before
        the first step, because nobody closes an iterator that was never begun.

        Args:
            hub: the streams of the node's tailnet.
            known: a snapshot that holds the node.
            node: whose stream it is.
            compression: what the request asked for.
        """
        if node not in hub.snapshot.nodes:
            # Deleted while the headers waited for a full socket; never an empty 200 (spec 4.1).
            yield hub.encoder.farewell(known, node, compression)
            return
        with hub.attach(node, compression) as client:
            frame: bytes | None = client.first(self.clock.now())
            said = "full"
            while frame is not None:
                yield frame
                client.delivered()
                log.debug(
                    "map.sent",
                    node=node,
                    kind=said,
                    size_bytes=len(frame),
                    revision=client.revision,
                )
                # Not held while waiting: the first frame is a whole map.
                said, frame = "delta", None
                frame = await client.next()


def _update(node: Node, request: MapRequest) -> Decision[Node]:
    said = nodes.MapUpdate(
        capability_version=request.version,
        hostinfo=request.hostinfo,
        endpoints=request.endpoints,
        disco_key=request.disco_key,
    )
    return nodes.update(node.id, said)
