"""What differs between the map a client holds and the one it should hold (spec 4.5, 4.6).

A `Diff` compares two snapshots once for all clients that step from the one to the other, and each
client takes from it what it may see. Who became visible or invisible is two bitsets; of the peers
that stay, only those that the change names are looked at.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import Final

from mergescale.domain.change import Change
from mergescale.domain.snapshot import Snapshot
from mergescale.kernel.ids import NodeId, Slot, UserId
from mergescale.netmap.cache import Cache
from mergescale.netmap.face import Edit, Face, compare, usable_routes, user_on_wire
from mergescale.netmap.parts import Part, join_parts, seal
from mergescale.netmap.recent import Recent
from mergescale.netmap.selfnode import self_node
from mergescale.wire.mapframe import Compression
from mergescale.wire.tailcfg.encode import MemberKey, encode, join_array, member
from mergescale.wire.tailcfg.map_response import MapResponse

_PEERS_REMOVED: Final = member(MapResponse, "peers_removed")
_PEERS_CHANGED: Final = member(MapResponse, "peers_changed")
_ONLINE_CHANGE: Final = member(MapResponse, "online_change")
_PEERS_CHANGED_PATCH: Final = member(MapResponse, "peers_changed_patch")
_NODE: Final = member(MapResponse, "node")
_USER_PROFILES: Final = member(MapResponse, "user_profiles")
_DERP_MAP: Final = member(MapResponse, "derp_map")
_DNS_CONFIG: Final = member(MapResponse, "dns_config")
_DOMAIN: Final = member(MapResponse, "domain")
_PACKET_FILTERS: Final = member(MapResponse, "packet_filters")
_SSH_POLICY: Final = member(MapResponse, "ssh_policy")

#: Fewer whole peers than this are joined one by one; more come from blocks.
_FEW_PEERS: Final = 32
#: LIMIT: distinct messages kept of one step; most clients get the same few.
_MESSAGES: Final = 256

_Members = list[tuple[MemberKey, Sequence[Part]]]


class _Kept:
    """What happened to peers that stay visible.

    Attributes:
        whole: slots to send whole.
        patches: tailcfg.PeerChange of each that a patch says, at most one for a node.
        online: for OnlineChange.
    """

    __slots__ = ("online", "patches", "whole")

    def __init__(self) -> None:
        self.whole = 0
        self.patches: list[bytes] = []
        self.online: dict[NodeId, bool] = {}

    def add(self, slot: Slot, node: NodeId, edit: Edit) -> None:
        if edit.whole:
            self.whole |= 1 << slot
        if edit.patch:
            self.patches.append(edit.patch)
        if edit.online is not None:
            self.online[node] = edit.online


class Diff:
    """One step between two snapshots, for any viewer that lives in both."""

    def __init__(self, cache: Cache, sent: Snapshot, now: Snapshot, change: Change) -> None:
        """Compare what `change` names; it names everything that differs, and maybe more."""
        self.sent = sent
        self.now = now
        self.change = change
        self._cache = cache
        self._renumbered = sent.slots.generation != now.slots.generation
        self._renamed = sent.magic_dns_suffix != now.magic_dns_suffix
        self._edits: dict[Slot, tuple[Face, Face, Edit]] = {}
        self._routers = 0
        for node in change.nodes:
            if node in sent.nodes and node in now.nodes:
                self._compare(node)
        for node in self._readdressed():
            self._compare(node)
        self._changed = sum(1 << slot for slot in self._edits)
        self._memo: Recent[int, _Kept] = Recent(_MESSAGES)
        self._messages: Recent[tuple[Compression, tuple[Part, ...]], bytes] = Recent(_MESSAGES)

    def message(self, viewer: NodeId, compression: Compression) -> bytes | None:
        """Return the message that takes the viewer's map along, None when nothing differs.

        Viewers that are told the same get the same object, compressed once.
        """
        parts = self.parts(viewer)
        if parts is None:
            return None
        return self._messages.get((compression, tuple(parts)), lambda: seal(parts, compression))

    def parts(self, viewer: NodeId) -> list[Part] | None:
        """Return the delta of one viewer, None when nothing differs."""
        members = [*self._peers(viewer), *self._surroundings(viewer)]
        return join_parts(members) if members else None

    # ------------------------------------------------------------------ peers

    def _peers(self, viewer: NodeId) -> _Members:
        """Return the members about peers and the profiles that they need.

        Never ``Peers``: beside it a client ignores all of these.
        """
        slot = self.now.slot(viewer)
        before, removed = self._before(viewer)
        after = self.now.access.visible(slot)
        removed += self.sent.slots.nodes(before & ~after) if not self._renumbered else ()
        kept = self._kept(viewer, before & after)
        whole = kept.whole | after & ~before
        members: _Members = []
        if removed:
            members.append((_PEERS_REMOVED, [encode(sorted(removed))]))
        if whole:
            members.append((_PEERS_CHANGED, [b"[", *self._whole(whole, slot), b"]"]))
        if kept.online:
            members.append((_ONLINE_CHANGE, [encode(kept.online)]))
        if kept.patches:
            members.append((_PEERS_CHANGED_PATCH, [join_array(kept.patches)]))
        users = self._people(viewer, whole, after)
        if users:
            members.append((_USER_PROFILES, self._cache.crowd(self.now, users)))
        return members

    def _before(self, viewer: NodeId) -> tuple[int, list[NodeId]]:
        """Return who was visible, in slots of `now`; and, renumbered, who is not any more.

        INVARIANT(generation): a bitset is only read with the slots of its own generation.
        """
        visible = self.sent.access.visible(self.sent.slot(viewer))
        if not self._renumbered:
            return visible, []
        nodes = list(self.sent.slots.nodes(visible))
        after = self.now.access.visible(self.now.slot(viewer))
        still = set(self.now.slots.nodes(after))
        return self.now.slots.bits(nodes), [node for node in nodes if node not in still]

    def _kept(self, viewer: NodeId, kept: int) -> _Kept:
        """Return what happened to the peers in `kept`, which the viewer saw and still sees."""
        result = _Kept()
        if self._renamed:
            result.whole = kept
            return result
        plain = self._plain(kept & self._changed & ~self._routers)
        result.whole = plain.whole
        result.patches.extend(plain.patches)
        result.online.update(plain.online)
        routers = kept & self._changed & self._routers
        if self.change.access or viewer in self.change.nodes or self._steered_anew:
            routers |= kept & self._all_routers & ~self._changed
        for node in self.now.slots.nodes(routers):
            self._router(result, viewer, node)
        return result

    def _plain(self, slots: int) -> _Kept:
        """Return what happened to peers that look the same to every viewer."""
        return self._memo.get(slots, lambda: self._gather(slots))

    def _gather(self, slots: int) -> _Kept:
        found = _Kept()
        for node in self.now.slots.nodes(slots):
            slot = self.now.slot(node)
            found.add(slot, node, self._edits[slot][2])
        return found

    def _router(self, result: _Kept, viewer: NodeId, node: NodeId) -> None:
        """Add what happened to a router: the routes a viewer may use are in AllowedIPs."""
        slot = self.now.slot(node)
        old, new, edit = self._edits.get(slot) or self._compare(node)
        sent, now = self.sent, self.now
        was = usable_routes(sent, old, sent.slot(viewer))
        if was != usable_routes(now, new, now.slot(viewer)):
            result.whole |= 1 << slot
        else:
            result.add(slot, node, edit)

    def _compare(self, node: NodeId) -> tuple[Face, Face, Edit]:
        # The newer face second: the cache keeps the last one of a node that it was asked for.
        old, new = self._cache.face(self.sent, node), self._cache.face(self.now, node)
        slot = self.now.slot(node)
        if old.carried or new.carried:
            self._routers |= 1 << slot
        self._edits[slot] = found = old, new, compare(old, new)
        return found

    @cached_property
    def _steered_anew(self) -> bool:
        """Whether a router that changed may have handed a route on to another (``via``)."""
        steered = self.sent.access.steered or self.now.access.steered
        return steered and bool(self._changed & self._all_routers)

    def _readdressed(self) -> set[NodeId]:
        """Return the nodes whose IPv4 address a policy takes away or gives back."""
        sent, now = self.sent, self.now
        was, shown = sent.access.without_ipv4, now.access.without_ipv4
        if not self.change.access or not was | shown:
            return set()
        differing = {*sent.slots.nodes(was)} ^ {*now.slots.nodes(shown)}
        return {node for node in differing if node in sent.nodes and node in now.nodes}

    @cached_property
    def _all_routers(self) -> int:
        """Slots of nodes that may route something in either snapshot."""
        routers = (
            node.id
            for snapshot in (self.sent, self.now)
            for node in snapshot.nodes.values()
            if node.advertised and node.approved
        )
        return self.now.slots.bits(routers)

    def _whole(self, slots: int, viewer: Slot) -> list[Part]:
        if slots.bit_count() >= _FEW_PEERS:
            return self._cache.scene(self.now).peers(slots, viewer)
        faces = [self._cache.face(self.now, node) for node in self.now.slots.nodes(slots)]
        return [b",".join([face.whole(usable_routes(self.now, face, viewer)) for face in faces])]

    # ------------------------------------------------------------------ profiles

    def _people(self, viewer: NodeId, whole: int, after: int) -> list[UserId]:
        """Return whose profiles to send: of peers that are new or have a new owner, and changed."""
        now = self.now
        users = {user_on_wire(now.nodes[node]) for node in now.slots.nodes(whole)}
        own = user_on_wire(now.nodes[viewer])
        if own != user_on_wire(self.sent.nodes[viewer]):
            users.add(own)
        seen = after | 1 << now.slot(viewer)
        users.update(user for user, slots in self._changed_users if slots & seen)
        return sorted(users)

    @cached_property
    def _changed_users(self) -> list[tuple[UserId, int]]:
        """Users whose profile reads differently, with the slots of their nodes."""
        if not self.change.users:
            return []
        sent, now, of = self.sent.users, self.now.users, self._cache.profiles.of
        owned = self._cache.owned(self.now)
        return [
            (user, owned.get(user, 0))
            for user in self.change.users
            if user in now and (user not in sent or of(self.sent, user) != of(self.now, user))
        ]

    # ------------------------------------------------------------------ the rest

    def _surroundings(self, viewer: NodeId) -> _Members:
        """Return the self node, the tailnet-wide members, filter and SSH policy, where changed."""
        return [
            *self._self_node(viewer),
            *self._estate,
            *self._filter(viewer),
            *self._ssh(viewer),
        ]

    def _self_node(self, viewer: NodeId) -> _Members:
        now, change = self.now.nodes[viewer], self.change
        owner_changed = now.user is not None and now.user in change.users
        if not (viewer in change.nodes or owner_changed or self._resettled or self._retold(viewer)):
            return []
        text = self_node(self.now, now)
        return [] if text == self_node(self.sent, self.sent.nodes[viewer]) else [(_NODE, [text])]

    def _retold(self, viewer: NodeId) -> bool:
        """Say whether the policy tells the node other attributes; nodes alike share one object."""
        sent, now = self.sent, self.now
        if not self.change.access or sent.access is now.access:
            return False
        was = sent.access.attributes(sent.slot(viewer))
        return was != now.access.attributes(now.slot(viewer))

    @cached_property
    def _resettled(self) -> bool:
        """Whether the settings differ: of a deployment, a self node shows only its attributes too."""
        return self.sent.domain != self.now.domain or self.sent.settings != self.now.settings

    @cached_property
    def _estate(self) -> _Members:
        if self.sent.deployment is self.now.deployment:
            return []
        was, now = self._cache.estate(self.sent), self._cache.estate(self.now)
        members: Iterable[tuple[MemberKey, bytes, bytes]] = (
            (_DERP_MAP, was.derp_map, now.derp_map),
            (_DNS_CONFIG, was.dns, now.dns),
            (_DOMAIN, was.domain, now.domain),
        )
        return [(key, [text]) for key, before, text in members if before != text]

    def _filter(self, viewer: NodeId) -> _Members:
        if self.sent.access is self.now.access:
            return []
        difference = self._cache.filters.difference(
            self.sent.access.chunks(self.sent.slot(viewer)),
            self.now.access.chunks(self.now.slot(viewer)),
        )
        return [(_PACKET_FILTERS, difference)] if difference else []

    def _ssh(self, viewer: NodeId) -> _Members:
        """Return the whole SSH policy where it differs: a client closes sessions it forbids."""
        if self.sent.access is self.now.access:
            return []
        was = self.sent.access.ssh_rules(self.sent.slot(viewer))
        now = self.now.access.ssh_rules(self.now.slot(viewer))
        return [] if was == now else [(_SSH_POLICY, self._cache.ssh.whole(now))]
