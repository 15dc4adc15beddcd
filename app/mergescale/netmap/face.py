"""One node as its peers see it: whole (tailcfg.Node) or as a patch (tailcfg.PeerChange).

Spec 4.6, 4.7. What a peer looks like depends on its record, on whether it is online, on the routes
it carries, on the tailnet's name suffix, and on which of the routes the viewer may use.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import msgspec

from mergescale.domain.node import Node
from mergescale.domain.prefixes import Prefix, is_exit, sort_key
from mergescale.domain.snapshot import Snapshot
from mergescale.domain.user import TAGGED_USER_ID
from mergescale.kernel.ids import Slot, UserId
from mergescale.wire.tailcfg.encode import encode
from mergescale.wire.tailcfg.hostviews import peer_view
from mergescale.wire.tailcfg.node import CapMap, PeerChange, legacy_derp
from mergescale.wire.tailcfg.node import Node as WireNode

#: LIMIT: variants kept of one router; they differ by the routes that a viewer may use.
_VARIANTS: Final = 64


#: SPEC(hosted service): who may use an exit node is told that it may be suggested.
_SUGGESTED: Final[CapMap] = {"suggest-exit-node": ()}


class Face:
    """A node as its peers see it in some snapshot; immutable but for what it caches.

    Attributes:
        node: its record.
        online: some replica holds a map stream of it.
        carried: the routes it stands for now: subnet routes it is primary for, and exit routes
            (which have no primary); sorted.
        suffix: what follows its label, without dots at the ends.
        with_ipv4: its IPv4 address is told.
    """

    __slots__ = ("_hostinfo", "_variants", "carried", "node", "online", "suffix", "with_ipv4")

    def __init__(self, snapshot: Snapshot, node: Node) -> None:
        self.node = node
        self.online = snapshot.online(node.id)
        self.carried = carried_routes(snapshot, node)
        self.suffix = snapshot.magic_dns_suffix
        self.with_ipv4 = shows_ipv4(snapshot, node)
        self._hostinfo: bytes | None = None
        self._variants: dict[tuple[Prefix, ...], bytes] = {}

    def shows(self, snapshot: Snapshot, node: Node, suffix: str) -> bool:
        """Say whether this is what `node` of `snapshot` looks like; `suffix` is the snapshot's."""
        return (
            self.node is node
            and self.online == (node.id in snapshot.presence)
            and self.suffix == suffix
            and self.with_ipv4 == shows_ipv4(snapshot, node)
            and (not node.advertised or self.carried == carried_routes(snapshot, node))
        )

    @property
    def user(self) -> UserId:
        """The user whose profile the receiver needs for it."""
        return user_on_wire(self.node)

    @property
    def hostinfo(self) -> bytes:
        """What its peers may know of its Hostinfo, as JSON."""
        if self._hostinfo is None:
            self._hostinfo = peer_view(self.node.hostinfo)
        return self._hostinfo

    def whole(self, routes: tuple[Prefix, ...] = ()) -> bytes:
        """Return tailcfg.Node for viewers that may use `routes`, a part of `carried`."""
        text = self._variants.get(routes)
        if text is None:
            if len(self._variants) >= _VARIANTS:
                self._variants.clear()
            text = self._variants[routes] = encode(self._struct(routes))
        return text

    def _struct(self, routes: tuple[Prefix, ...]) -> WireNode:
        node, own = self.node, own_addresses(self.node, with_ipv4=self.with_ipv4)
        rest: dict[str, Any] = {}
        if node.key_expiry is not None:
            rest["key_expiry"] = node.key_expiry
        if not self.online and node.last_seen is not None:
            rest["last_seen"] = node.last_seen
        return WireNode(
            id=node.id,
            stable_id=node.stable_id,
            name=f"{node.name}.{self.suffix}.",
            user=self.user,
            key=str(node.node_key),
            machine=str(node.machine_key),
            disco_key=str(node.disco_key) if node.disco_key else "",
            addresses=own,
            allowed_ips=own + tuple(map(str, routes)),
            endpoints=node.endpoints,
            derp=legacy_derp(node.home_derp),
            home_derp=node.home_derp,
            hostinfo=msgspec.Raw(self.hostinfo),
            created=node.created,
            cap=node.capability_version,
            tags=node.tags,
            primary_routes=tuple(str(prefix) for prefix in routes if not is_exit(prefix)),
            online=self.online,
            machine_authorized=True,
            cap_map=_SUGGESTED if any(map(is_exit, routes)) else {},
            **rest,
        )


def user_on_wire(node: Node) -> UserId:
    """Return tailcfg.Node.User: the owner, or the pseudo-user of all tagged nodes."""
    return TAGGED_USER_ID if node.user is None else node.user


def own_addresses(node: Node, *, with_ipv4: bool = True) -> tuple[str, ...]:
    """Return tailcfg.Node.Addresses: one /32 and then one /128, or the latter alone.

    LIMIT: today's Rust clients read only maps in which every node has both (spec 2.10).
    """
    ipv6 = f"{node.ipv6}/128"
    return (f"{node.ipv4}/32", ipv6) if with_ipv4 else (ipv6,)


def shows_ipv4(snapshot: Snapshot, node: Node) -> bool:
    """Say whether anybody, the node included, is told its IPv4 address."""
    without = snapshot.access.without_ipv4
    return not without or not without >> snapshot.slot(node.id) & 1


def carried_routes(snapshot: Snapshot, node: Node) -> tuple[Prefix, ...]:
    """Return the node's approved exit routes and the subnet routes it is primary for, sorted.

    Where rules name the routers to go through, also the subnet routes it may carry for some.
    """
    routes = [
        prefix
        for prefix in node.routes
        if is_exit(prefix) or snapshot.access.steered or snapshot.primaries.get(prefix) == node.id
    ]
    return tuple(sorted(routes, key=sort_key)) if routes else ()


def usable_routes(snapshot: Snapshot, face: Face, viewer: Slot) -> tuple[Prefix, ...]:
    """Return the routes of `face` that the viewer sends to some address of.

    SPEC(hosted service): that is the primary router if it lets the viewer through, else, with
    ``via``, the oldest of those that do, online ones first.
    """
    if not face.carried:
        return ()
    users_of, router = snapshot.access.users_of, face.node.id
    return tuple(
        prefix
        for prefix in face.carried
        if users_of(router, prefix) >> viewer & 1
        and (not snapshot.access.steered or _carries_for(snapshot, face.node, prefix, viewer))
    )


def _carries_for(snapshot: Snapshot, router: Node, prefix: Prefix, viewer: Slot) -> bool:
    primary = snapshot.primaries.get(prefix)
    if is_exit(prefix) or primary == router.id:
        return True
    users_of = snapshot.access.users_of
    if primary is not None and (
        snapshot.slot(primary) == viewer or users_of(primary, prefix) >> viewer & 1
    ):
        return False
    able = (
        node
        for node in snapshot.nodes.values()
        if node.advertised and prefix in node.routes and users_of(node.id, prefix) >> viewer & 1
    )
    best = min(able, key=lambda one: (not snapshot.online(one.id), one.created, one.id))
    return best.id == router.id


@dataclass(frozen=True, slots=True)
class Edit:
    """How a peer that stays visible differs between two snapshots.

    Attributes:
        whole: it has to be sent whole, because a patch cannot say the difference.
        patch: tailcfg.PeerChange; empty when there is nothing to patch.
        online: for OnlineChange, applied before the patches; None leaves it.
    """

    whole: bool = False
    patch: bytes = b""
    online: bool | None = None

    def __bool__(self) -> bool:
        return self.whole or bool(self.patch)


REPLACE: Final = Edit(whole=True)
_SAME: Final = Edit()


def compare(old: Face, new: Face) -> Edit:
    """Return how the viewer's copy of a peer changes; routes are compared by the caller.

    A Go client turns a whole node that differs in patchable members only into a patch itself, and
    then loses what a patch cannot say: a LastSeen it did not have, endpoints that went away
    (controlclient peerChangeDiff). So beside such a node the patch is sent as well, and is applied
    after it.

    LIMIT: a home region that becomes unknown reaches Go clients with the next other change of the
    node only; no message can say it. Clients do not report that, they report regions.
    """
    if old is new:
        return _SAME
    was, now = old.node, new.node
    if _identity(old) != _identity(new):
        return REPLACE
    if was.hostinfo != now.hostinfo and old.hostinfo != new.hostinfo:
        return REPLACE
    fields: dict[str, Any] = {}
    if was.endpoints != now.endpoints:
        fields["endpoints"] = now.endpoints
    if was.node_key != now.node_key:
        fields["key"] = str(now.node_key)
    unsayable = _patch_or_not(was, now, fields)
    online = _patch_presence(old, new, fields)
    if not fields:
        return REPLACE if unsayable else _SAME
    return Edit(unsayable, encode(PeerChange(node_id=now.id, **fields)), online)


def _identity(face: Face) -> tuple[Any, ...]:
    """Return the members of tailcfg.Node that no patch can change."""
    node = face.node
    return (
        node.stable_id,
        node.name,
        face.suffix,
        node.user,
        node.tags,
        node.machine_key,
        node.ipv4,
        face.with_ipv4,
        node.ipv6,
        node.created,
    )


def _patch_or_not(was: Node, now: Node, fields: dict[str, Any]) -> bool:
    """Patch the members whose zero a patch cannot say; return whether one became zero."""
    disco = str(now.disco_key) if now.disco_key else ""
    pairs: tuple[tuple[str, bool, Any], ...] = (
        ("disco_key", was.disco_key != now.disco_key, disco),
        ("derp_region", was.home_derp != now.home_derp, now.home_derp),
        ("cap", was.capability_version != now.capability_version, now.capability_version),
        ("key_expiry", was.key_expiry != now.key_expiry, now.key_expiry),
    )
    fields.update({name: value for name, differs, value in pairs if differs and value})
    return any(differs and not value for _, differs, value in pairs)


def _patch_presence(old: Face, new: Face, fields: dict[str, Any]) -> bool | None:
    """Patch Online and LastSeen; return what goes into OnlineChange instead.

    WIRE(recent Go): a patch with DiscoKey, Online false and LastSeen is dropped whole unless its
    LastSeen is news. WIRE(rust): of two patches of one node only the last counts. So Online moves
    to OnlineChange then, where both read the same (Rust takes LastSeen alone for offline).
    """
    was_seen = None if old.online else old.node.last_seen
    seen = None if new.online else new.node.last_seen
    if seen is not None and seen != was_seen:
        fields["last_seen"] = seen
    if old.online == new.online:
        return None
    if "disco_key" in fields and "last_seen" in fields:
        return new.online
    fields["online"] = new.online
    return None
