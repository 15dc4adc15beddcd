"""tailcfg.Node and tailcfg.PeerChange: peers and the self node, whole and as a patch (spec 4.6, 4.7).

Keys, addresses and prefixes are text here: messages are built from texts that were made once per
node version. Text that users control (`name` is sanitised, tags are checked) needs no escape.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgspec
from msgspec import UNSET, UnsetType, field

from mergescale.wire.tailcfg.dns import Resolver
from mergescale.wire.tailcfg.names import Wire

#: Capability to its values: ``()`` for one without, never None; values may be ``msgspec.Raw``.
CapMap = dict[str, tuple[Any, ...]]


class Node(Wire, frozen=True, kw_only=True):
    """tailcfg.Node.

    Attributes:
        id: above 0, at most 2^53 - 1.
        stable_id: not empty, never changes.
        name: FQDN with trailing dot.
        user: owner; has a UserProfile in this or an earlier message.
        sharer: left out when 0.
        key: ``nodekey:`` text.
        key_expiry: absent means never; never a time in the past by accident.
        key_signature: left out when empty.
        machine: ``mkey:`` text; left out when empty.
        disco_key: ``discokey:`` text; left out when empty or unknown, and then the peer is silent.
        addresses: IPv4/32 then IPv6/128. WIRE(rust): anything else ends its stream.
        allowed_ips: absent means `addresses` (from capability version 112), empty means nothing.
        endpoints: ``ip:port``; left out when empty.
        derp: `legacy_derp` text for capability versions below 111; left out when empty.
        home_derp: left out when 0, unknown: then only direct endpoints reach it.
        hostinfo: JSON of ``hostviews.peer_view``; absent means none known.
        created: always sent.
        cap: the node's capability version; left out when 0.
        tags: left out when empty.
        primary_routes: subset of `allowed_ips` it is primary for; left out when empty.
        last_seen: absent while online.
        online: absent means unknown; False is sent.
        machine_authorized: always sent; False on the self node means "needs approval".
        capabilities: deprecated since 74; never set.
        cap_map: left out when empty. The self node's replaces the whole, so it is always complete.
        unsigned_peer_api_only: outside tailnet lock.
        computed_name: clients compute their own; never set.
        computed_name_with_host: the same.
        data_plane_audit_log_id: left out when empty.
        expired: the server says its key has expired.
        self_node_v4_masq_addr_for_this_peer: address the receiver has towards this peer.
        self_node_v6_masq_addr_for_this_peer: the same.
        is_wire_guard_only: no disco, no DERP; needs `endpoints` and full `allowed_ips`.
        is_jailed: may not open connections to the receiver.
        exit_node_dns_resolvers: for a WireGuard-only exit node.
    """

    id: int
    stable_id: str
    name: str
    user: int
    sharer: int = 0
    key: str
    key_expiry: datetime | UnsetType = UNSET
    key_signature: bytes = b""
    machine: str = ""
    disco_key: str = ""
    addresses: tuple[str, ...]
    allowed_ips: tuple[str, ...] | UnsetType = UNSET
    endpoints: tuple[str, ...] = ()
    derp: str = ""
    home_derp: int = 0
    hostinfo: msgspec.Raw | UnsetType = UNSET
    created: datetime
    cap: int = 0
    tags: tuple[str, ...] = ()
    primary_routes: tuple[str, ...] = ()
    last_seen: datetime | UnsetType = UNSET
    online: bool | UnsetType = UNSET
    machine_authorized: bool
    capabilities: tuple[str, ...] = ()
    cap_map: CapMap = field(default_factory=dict)
    unsigned_peer_api_only: bool = False
    computed_name: str = ""
    computed_name_with_host: str = ""
    data_plane_audit_log_id: str = ""
    expired: bool = False
    self_node_v4_masq_addr_for_this_peer: str = ""
    self_node_v6_masq_addr_for_this_peer: str = ""
    is_wire_guard_only: bool = False
    is_jailed: bool = False
    exit_node_dns_resolvers: tuple[Resolver, ...] = ()


class PeerChange(Wire, frozen=True, kw_only=True):
    """tailcfg.PeerChange: a patch of one peer; what is absent stays as it is.

    WIRE(recent Go): an entry with `disco_key`, ``online=False`` and `last_seen` is dropped whole
    unless `last_seen` is later than the one known; send a new disco key with ``online=True`` or
    without both.

    Attributes:
        node_id: always sent.
        derp_region: left out when 0, which cannot be sent.
        cap: left out when 0.
        cap_map: absent leaves it, empty clears it, present replaces it.
        endpoints: absent leaves them, empty clears them, present replaces them.
        key: new ``nodekey:`` text; left out when empty.
        key_signature: left out when empty.
        disco_key: new ``discokey:`` text; left out when empty.
        online: absent leaves it; False is sent.
        last_seen: absent leaves it.
        key_expiry: absent leaves it.
    """

    node_id: int
    derp_region: int = 0
    cap: int = 0
    cap_map: CapMap | UnsetType = UNSET
    endpoints: tuple[str, ...] | UnsetType = UNSET
    key: str = ""
    key_signature: bytes = b""
    disco_key: str = ""
    online: bool | UnsetType = UNSET
    last_seen: datetime | UnsetType = UNSET
    key_expiry: datetime | UnsetType = UNSET


def legacy_derp(region_id: int) -> str:
    """Return Node.DERP for a home region, empty for an unknown one (127.3.3.40, "DERP" on keys)."""
    return f"127.3.3.40:{region_id}" if region_id else ""
