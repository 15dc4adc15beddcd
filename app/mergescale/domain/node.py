"""A device of the tailnet."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from ipaddress import IPv4Address, IPv6Address

from mergescale.domain.posture import CustomAttribute
from mergescale.domain.prefixes import Prefix
from mergescale.kernel.ids import AuthKeyId, NodeId, UserId
from mergescale.kernel.keys import DiscoKey, MachineKey, NodeKey


@dataclass(frozen=True, slots=True)
class Node:
    """A device; owned by a user or by tags, never both.

    Attributes:
        id: tailcfg.Node.ID; never reused in the tailnet.
        stable_id: tailcfg.Node.StableID; unguessable, unique in the server, never changes.
        machine_key: the Noise key it registered with; every request is checked against it.
        node_key: its WireGuard key; unique in the server.
        disco_key: zero until the first lite update after a start.
        user: its owner; None exactly when `tags` is not empty.
        tags: sorted ``tag:x`` names.
        name: its DNS label, unique in the tailnet, at most 63 of ``[a-z0-9-]``.
        name_pinned: an operator chose the name; a new host name leaves it alone.
        hostinfo: tailcfg.Hostinfo as canonical JSON, unknown fields included.
        advertised: Hostinfo.RoutableIPs, sorted; what the device offers to route.
        approved: what an operator or an autoApprover lets it route; kept while not advertised.
        endpoints: ``ip:port`` texts where its UDP socket may be reached.
        home_derp: NetInfo.PreferredDERP; 0 while unknown.
        capability_version: tailcfg.CapabilityVersion of its last request.
        ephemeral: removed some time after it went offline, at once on logout.
        authorized: approved by an operator, where the tailnet asks for that.
        key_expiry: when the node key expires; None for never.
        expiry_disabled: an operator exempted it from the tailnet's key expiry; a new login under the
            same owner leaves that alone.
        auth_key: the pre-auth key it last registered with, if any.
        last_seen: when it went offline last; None if never.
        custom: attributes for posture conditions that were set for it, sorted by name.
    """

    id: NodeId
    stable_id: str
    machine_key: MachineKey
    node_key: NodeKey
    name: str
    ipv4: IPv4Address
    ipv6: IPv6Address
    created: datetime
    user: UserId | None = None
    tags: tuple[str, ...] = ()
    disco_key: DiscoKey = DiscoKey.zero()
    name_pinned: bool = False
    hostinfo: bytes = b"{}"
    advertised: tuple[Prefix, ...] = ()
    approved: frozenset[Prefix] = frozenset()
    endpoints: tuple[str, ...] = ()
    home_derp: int = 0
    capability_version: int = 0
    ephemeral: bool = False
    authorized: bool = True
    key_expiry: datetime | None = None
    expiry_disabled: bool = False
    auth_key: AuthKeyId | None = None
    last_seen: datetime | None = None
    custom: tuple[CustomAttribute, ...] = ()

    @property
    def routes(self) -> tuple[Prefix, ...]:
        """Return what it advertises and may route, in `advertised` order."""
        if not self.advertised or not self.approved:
            return ()
        return tuple(prefix for prefix in self.advertised if prefix in self.approved)

    def expired(self, now: datetime) -> bool:
        """Say whether its node key has expired."""
        return self.key_expiry is not None and self.key_expiry <= now
