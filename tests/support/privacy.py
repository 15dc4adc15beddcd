"""What a client may be told, asserted on the texts that it gets.

Whoever is invisible must not be named anywhere in a message: not as a peer, not by a key, a name or
an address, and not by being one of the sources in a packet filter. The removal of a peer names it
by its number only.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable
from ipaddress import ip_network
from typing import Any

from mergescale.domain.node import Node
from mergescale.domain.snapshot import Snapshot
from mergescale.kernel.ids import NodeId
from support.policies import holds

Json = dict[str, Any]

#: Everybody, as the hosted service spells it: names nobody.
EVERYBODY = {
    "*",
    "100.64.0.0-100.115.91.255",
    "100.115.94.0-100.127.255.255",
    "fd7a:115c:a1e0::/48",
}


def seen(snapshot: Snapshot, viewer: NodeId) -> set[NodeId]:
    """Return the peers of a node; each of them must see it too."""
    found = set(snapshot.slots.nodes(snapshot.access.visible(snapshot.slot(viewer))))
    for peer in found:
        back = snapshot.slots.nodes(snapshot.access.visible(snapshot.slot(peer)))
        assert viewer in set(back), "visibility is not symmetric"
    return found


def check_texts(
    snapshot: Snapshot, viewer: NodeId, text: bytes, *, written: Collection[str] = ()
) -> None:
    """Assert that a message which leads to this snapshot names nobody invisible in it.

    `written` are addresses that a policy spells out: they stand in its filters whoever has them.
    """
    message: Json = json.loads(text)
    told = text.decode()
    visible = {*seen(snapshot, viewer), viewer}
    strangers = [node for node in snapshot.nodes.values() if node.id not in visible]
    for stranger in strangers:
        for mark in _marks(stranger) - set(written):
            assert not re.search(rf"(?<![\w.:-]){re.escape(mark)}(?![\w:-])", told), mark
    owners = {snapshot.nodes[node].user for node in visible}
    for user in snapshot.users.values():
        assert user.id in owners or f'"{user.login}"' not in told, user.login
    for rules in message.get("PacketFilters", {}).values():
        _check_filter(snapshot.nodes[viewer], rules or (), strangers, EVERYBODY | set(written))
    for peer in [*(message.get("Peers") or ()), *message.get("PeersChanged", ())]:
        assert set(peer["AllowedIPs"]) == _reachable(snapshot, viewer, NodeId(peer["ID"]))


def _marks(node: Node) -> set[str]:
    """Return the texts that mean this node and nothing else."""
    keys = {str(node.node_key), str(node.machine_key)}
    return {*keys, node.stable_id, node.name, str(node.ipv4), str(node.ipv6)}


def _check_filter(
    own: Node, rules: Iterable[Json], strangers: Iterable[Node], nobody: set[str]
) -> None:
    """Assert that rules admit no stranger's address, and admit to this node's places only."""
    places = {str(own.ipv4), str(own.ipv6), *map(str, own.routes)}
    for rule in rules:
        for source in set(rule["SrcIPs"]) - nobody:
            for stranger in strangers:
                named = holds(source, str(stranger.ipv4)) or holds(source, str(stranger.ipv6))
                assert not named, (source, stranger.name)
        for end in rule["DstPorts"]:
            named = end["IP"] == "*" or any(_within(end["IP"], place) for place in places)
            assert named, (end, places)


def _within(text: str, place: str) -> bool:
    """Say whether an address, a prefix or a range lies in a prefix or is that address."""
    ends = [ip_network(end) for end in text.split("-")]
    where = ip_network(place)
    low, high = int(where.network_address), int(where.broadcast_address)
    return ends[0].version == where.version and all(
        low <= int(end.network_address) and int(end.broadcast_address) <= high for end in ends
    )


def _reachable(snapshot: Snapshot, viewer: NodeId, peer: NodeId) -> set[str]:
    """Return a peer's own addresses, and the routes that this viewer may use through it."""
    slot, node = snapshot.slot(viewer), snapshot.nodes[peer]
    usable = {
        str(prefix)
        for prefix in node.routes
        if snapshot.primaries.get(prefix, peer) == peer
        and snapshot.access.users_of(peer, prefix) >> slot & 1
    }
    ipv4 = set() if snapshot.access.without_ipv4 >> snapshot.slot(peer) & 1 else {f"{node.ipv4}/32"}
    return {*ipv4, f"{node.ipv6}/128", *usable}
