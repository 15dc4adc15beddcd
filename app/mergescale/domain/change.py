"""What kind of thing differs between two snapshots.

A change is a hint that bounds the work of whoever compares the two: it may name too much, never
too little. It merges with ``|``, which is associative, commutative and idempotent, so a slow
client's pending changes fold into one.
"""

from __future__ import annotations

from dataclasses import dataclass

from mergescale.kernel.ids import LoginId, NodeId, UserId


@dataclass(frozen=True, slots=True)
class Change:
    """What may differ.

    Attributes:
        nodes: added, replaced, dropped, came online, went offline, won or lost a route.
        users: added, replaced or dropped.
        access: the policy was replaced: anybody's filter and peers may differ.
        tailnet: settings, DNS or relays were replaced.
        logins: pending logins and SSH checks that came, were decided or went; no client's map
            depends on them.
        following: what replicas tell each other of the repository; nor on that.
    """

    nodes: frozenset[NodeId] = frozenset()
    users: frozenset[UserId] = frozenset()
    access: bool = False
    tailnet: bool = False
    logins: frozenset[LoginId] = frozenset()
    following: bool = False

    def __or__(self, other: Change) -> Change:
        return Change(
            nodes=self.nodes | other.nodes,
            users=self.users | other.users,
            access=self.access or other.access,
            tailnet=self.tailnet or other.tailnet,
            logins=self.logins | other.logins,
            following=self.following or other.following,
        )

    def __bool__(self) -> bool:
        return (
            bool(self.nodes or self.users or self.logins)
            or self.access
            or self.tailnet
            or self.following
        )

    @property
    def kind(self) -> str:
        """One of ``policy tailnet users nodes logins none``, the widest that applies; for metrics."""
        if self.access:
            return "policy"
        if self.tailnet:
            return "tailnet"
        if self.users:
            return "users"
        if self.nodes:
            return "nodes"
        return "logins" if self.logins else "none"


NOTHING = Change()
