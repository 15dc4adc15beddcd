"""The first message of a stream: everything (spec 4.4)."""

from __future__ import annotations

from datetime import datetime
from typing import Final

from mergescale.domain.snapshot import Snapshot
from mergescale.kernel.ids import NodeId
from mergescale.netmap.cache import Cache
from mergescale.netmap.parts import Part, join_parts
from mergescale.netmap.selfnode import self_node
from mergescale.wire.tailcfg.encode import encode, member
from mergescale.wire.tailcfg.map_response import Debug, MapResponse

_NODE: Final = member(MapResponse, "node")
_DERP_MAP: Final = member(MapResponse, "derp_map")
_DNS_CONFIG: Final = member(MapResponse, "dns_config")
_DOMAIN: Final = member(MapResponse, "domain")
_COLLECT_SERVICES: Final = member(MapResponse, "collect_services")
_PACKET_FILTERS: Final = member(MapResponse, "packet_filters")
_USER_PROFILES: Final = member(MapResponse, "user_profiles")
_SSH_POLICY: Final = member(MapResponse, "ssh_policy")
_PEERS: Final = member(MapResponse, "peers")
_CONTROL_TIME: Final = member(MapResponse, "control_time")
_DEBUG: Final = member(MapResponse, "debug")

#: Port lists of its nodes are of no use to this server; without them clients send fewer updates.
_NO_SERVICES: Final = b"false"
#: Whoever hosts the server keeps its own network's logs: clients are told not to send theirs to
#: the vendor. Safe, because no node is ever given the data-plane-audit-logs capability, with which
#: this would make it turn itself off (spec 4.10).
_NO_LOG_UPLOAD: Final = encode(Debug(disable_log_tail=True))


def full_parts(cache: Cache, snapshot: Snapshot, viewer: NodeId, now: datetime) -> list[Part]:
    """Return the full map of one node; `now` is the server's time (ControlTime).

    ``Peers`` is there even when empty. WIRE(rust): a client that comes back keeps the peers of its
    last stream otherwise; a Go client starts each stream from nothing and takes it for no peers.
    """
    node = snapshot.nodes[viewer]
    slot = snapshot.slot(viewer)
    visible = snapshot.access.visible(slot)
    estate = cache.estate(snapshot)
    return join_parts(
        [
            (_NODE, [self_node(snapshot, node)]),
            (_DERP_MAP, [estate.derp_map]),
            (_DNS_CONFIG, [estate.dns]),
            (_DOMAIN, [estate.domain]),
            (_COLLECT_SERVICES, [_NO_SERVICES]),
            (_CONTROL_TIME, [encode(now)]),
            (_DEBUG, [_NO_LOG_UPLOAD]),
            (_PACKET_FILTERS, cache.filters.fresh(snapshot.access.chunks(slot))),
            (_SSH_POLICY, cache.ssh.whole(snapshot.access.ssh_rules(slot))),
            (_USER_PROFILES, cache.owners(snapshot, visible | 1 << slot)),
            (_PEERS, [b"[", *cache.scene(snapshot).peers(visible, slot), b"]"]),
        ]
    )
