"""A node as it sees itself (MapResponse.Node), always complete: the client replaces all of it.

It holds nothing that the client knows better (endpoints, disco key): each Node in a message makes
a Go client build its whole map again (spec 4.5), so it must change as rarely as what it says.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Final

import msgspec

from mergescale.domain.node import Node
from mergescale.domain.prefixes import is_exit, sort_key
from mergescale.domain.snapshot import Snapshot
from mergescale.domain.user import Role
from mergescale.netmap.face import own_addresses, shows_ipv4, user_on_wire
from mergescale.wire.tailcfg.encode import encode, plain
from mergescale.wire.tailcfg.hostviews import self_view
from mergescale.wire.tailcfg.node import CapMap, legacy_derp
from mergescale.wire.tailcfg.node import Node as WireNode

_CAP: Final = "https://tailscale.com/cap/"
#: What nodes of the hosted service can rely on, as far as this server carries it: Taildrop between
#: a user's own nodes, Tailscale SSH where the policy grants it, UDP paths probed for their life.
_BASELINE: Final[CapMap] = {
    f"{_CAP}file-sharing": (),
    f"{_CAP}ssh": (),
    "probe-udp-lifetime": (),
    "ssh-behavior-v1": (),
    "ssh-env-vars": (),
    # A client that nobody configured does not update itself behind its administrator's back.
    "default-auto-update": (False,),
}
#: In the past by every clock; what clients themselves say when they log out.
_LONG_AGO: Final = datetime(1970, 1, 1, 0, 2, 3, tzinfo=UTC)
_ADMINS: Final = frozenset({Role.OWNER, Role.ADMIN})


def self_node(snapshot: Snapshot, node: Node) -> bytes:
    """Return tailcfg.Node of the viewer itself.

    Unlike towards peers, every approved route is in AllowedIPs, also while another router carries
    it, and PrimaryRoutes says which it carries (as the hosted service does).
    """
    own = own_addresses(node, with_ipv4=shows_ipv4(snapshot, node))
    routes = sorted(node.routes, key=sort_key)
    primary = (p for p in routes if not is_exit(p) and snapshot.primaries.get(p) == node.id)
    rest: dict[str, Any] = {}
    if node.key_expiry is not None:
        rest["key_expiry"] = node.key_expiry
    return encode(
        WireNode(
            id=node.id,
            stable_id=node.stable_id,
            name=f"{node.name}.{snapshot.magic_dns_suffix}.",
            user=user_on_wire(node),
            key=str(node.node_key),
            machine=str(node.machine_key),
            addresses=own,
            allowed_ips=own + tuple(map(str, routes)),
            derp=legacy_derp(node.home_derp),
            home_derp=node.home_derp,
            hostinfo=msgspec.Raw(self_view(node.hostinfo)),
            created=node.created,
            cap=node.capability_version,
            tags=node.tags,
            primary_routes=tuple(map(str, primary)),
            online=True,
            machine_authorized=node.authorized,
            cap_map=_cap_map(snapshot, node),
            **rest,
        )
    )


def expired_self(snapshot: Snapshot, node: Node) -> bytes:
    """Return the node as it sees itself once it is gone: as one whose key has expired.

    There is no message for a deleted node (spec 3.4), but a client whose key has expired stops its
    traffic and asks its user to log in.
    """
    return self_node(snapshot, replace(node, key_expiry=_LONG_AGO))


def _cap_map(snapshot: Snapshot, node: Node) -> CapMap:
    caps = {**_BASELINE, "tailnet-display-name": (plain(snapshot.domain),)}
    if snapshot.settings.randomize_client_port:
        caps["randomize-client-port"] = ()
    owner = snapshot.owner(node)
    if owner is not None and owner.role in _ADMINS:
        caps[f"{_CAP}is-admin"] = ()
    if owner is not None and owner.role is Role.OWNER:
        caps[f"{_CAP}is-owner"] = ()
    for name, values in snapshot.access.attributes(snapshot.slot(node.id)).items():
        # What every node has with a value keeps it when the policy names it without one.
        if values or name not in caps:
            caps[name] = tuple(map(msgspec.Raw, values))
    return caps
