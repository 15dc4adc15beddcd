"""What a compiled policy answers about the nodes of one snapshot.

`Access` is a protocol because the compiler (``mergescale.policy``) lies above this package. A set
of nodes is an int whose bit `slot` is set (see ``slots.py``): who sees whom is OR over rules, never
a loop over pairs.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import timedelta
from ipaddress import IPv4Network
from typing import TYPE_CHECKING, Protocol

from mergescale.domain.posture import AttributeRule
from mergescale.domain.prefixes import Prefix
from mergescale.kernel.ids import NodeId, Slot

if TYPE_CHECKING:
    from mergescale.domain.declaration import Policy
    from mergescale.domain.node import Node
    from mergescale.domain.snapshot import Snapshot
    from mergescale.domain.user import User


#: What a node is told it may do: capability -> values, each a JSON text; most have none.
NodeCapabilities = Mapping[str, tuple[bytes, ...]]


@dataclass(frozen=True, slots=True)
class Sources:
    """The source list of a rule, made once and shared by every chunk that has it.

    Attributes:
        texts: tailcfg.FilterRule.SrcIPs, sorted: addresses, CIDRs without host bits, ranges, ``*``.
    """

    texts: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Destination:
    """tailcfg.NetPortRange: one address, CIDR, range or ``*``, and ports first..last inclusive."""

    ip: str
    first: int
    last: int


#: Application capabilities: name -> its values, each a JSON text; sorted by name.
Capabilities = tuple[tuple[str, tuple[bytes, ...]], ...]


@dataclass(frozen=True, slots=True)
class CapGrant:
    """tailcfg.CapGrant: what the sources may do at these addresses, as applications read it.

    Attributes:
        addresses: prefixes of one address each.
    """

    addresses: tuple[str, ...]
    capabilities: Capabilities


@dataclass(frozen=True, slots=True)
class FilterRule:
    """tailcfg.FilterRule as one node needs it: either packets or capabilities.

    Attributes:
        sources: shared; compare by identity first.
        destinations: empty exactly when there is a grant.
        protocols: IP protocol numbers; empty for the default TCP, UDP, ICMP.
    """

    sources: Sources
    destinations: tuple[Destination, ...]
    protocols: tuple[int, ...] = ()
    grant: CapGrant | None = None


@dataclass(frozen=True, slots=True)
class SshRule:
    """tailcfg.SSHRule as one node needs it; the first rule that matches decides.

    Attributes:
        principals: addresses of the source nodes, sorted; compare by identity first.
        logins: requested user -> local user, sorted: ``*`` is any other, ``=`` the same name but
            never root, empty no match.
        check_period: None accepts at once; else a person approves, and again after this long
            (zero: every time).
        accept_env: patterns of variables that the source may set.
        recorders: addresses of nodes that record sessions, sorted.
        recorded: INVARIANT(enforced-recorder): without a recorder there is no session.
    """

    principals: tuple[str, ...]
    logins: tuple[tuple[str, str], ...]
    check_period: timedelta | None = None
    accept_env: tuple[str, ...] = ()
    recorders: tuple[str, ...] = ()
    recorded: bool = False


class Access(Protocol):
    """A policy resolved against the nodes of one snapshot; immutable.

    INVARIANT(access-follows-nodes): ``snapshot.access`` was resolved against exactly
    ``snapshot.nodes`` and ``snapshot.users``. ``state.derive`` keeps it after each batch.
    """

    @property
    def policy(self) -> Policy | None:
        """The policy this was resolved from; None for `DENY_ALL`."""
        ...

    def refreshed(self, snapshot: Snapshot, changed: Collection[NodeId]) -> Access:
        """Resolve again after the nodes `changed` were added, replaced or dropped.

        Work is proportional to rules x changed, not to nodes. Slots of dropped nodes are free in
        `snapshot`. When ``snapshot.slots.generation`` differs, everything is resolved again.
        """
        ...

    def visible(self, slot: Slot) -> int:
        """Return the slots this node sees and is seen by; symmetric, itself excluded."""
        ...

    def chunks(self, slot: Slot) -> Mapping[str, FilterRule]:
        """Return the node's packet filter as named chunks (tailcfg.MapResponse.PacketFilters).

        A name depends on what the rule says, so an edit elsewhere in the policy leaves it alone.
        """
        ...

    def users_of(self, router: NodeId, prefix: Prefix) -> int:
        """Return the slots whose packets to some address of `prefix` the `router` lets through.

        Whether they are told to send them there depends on who carries the prefix, too.
        """
        ...

    def senders(self, slot: Slot) -> int:
        """Return the slots that may send any packet to the node or into what it routes.

        A packet of their own, or of what they route; which protocol and port does not matter.
        Itself excluded.
        """
        ...

    @property
    def steered(self) -> bool:
        """Say whether a rule names the routers to go through (``via``)."""
        ...

    def attributes(self, slot: Slot) -> NodeCapabilities:
        """Return what the node is told it may do, besides what every node is (tailcfg CapMap)."""
        ...

    @property
    def without_ipv4(self) -> int:
        """The slots of nodes whose IPv4 address nobody is told, themselves included."""
        ...

    def address_pools(self, tags: tuple[str, ...], owner: User | None) -> tuple[IPv4Network, ...]:
        """Return where a new node of this owner takes its IPv4 address; empty for anywhere."""
        ...

    def ssh_rules(self, slot: Slot) -> tuple[SshRule, ...]:
        """Return who may log in to the node over SSH, in the order that decides.

        Whom it names, it sees (`visible`): a client lets nobody in whom it does not know.
        """
        ...

    def attribute_rule(self, name: str) -> AttributeRule | None:
        """Return what ``attrConfig`` says of a custom attribute, None for nothing."""
        ...

    def may_take_tag(self, user: User, tag: str) -> bool:
        """Say whether `tagOwners` lets the user make nodes with this tag."""
        ...

    def has_tag(self, tag: str) -> bool:
        """Say whether the tag is declared."""
        ...

    def approves(self, node: Node, owner: User | None, prefix: Prefix) -> bool:
        """Say whether `autoApprovers` lets this node route the prefix."""
        ...


class _DenyAll:
    """The access of a tailnet that never had a policy: nobody sees or reaches anybody."""

    __slots__ = ()
    policy = None
    without_ipv4 = 0
    steered = False

    def refreshed(self, snapshot: Snapshot, changed: Collection[NodeId]) -> Access:  # noqa: ARG002
        return self

    def visible(self, slot: Slot) -> int:  # noqa: ARG002
        return 0

    def chunks(self, slot: Slot) -> Mapping[str, FilterRule]:  # noqa: ARG002
        return {}

    def users_of(self, router: NodeId, prefix: Prefix) -> int:  # noqa: ARG002
        return 0

    def senders(self, slot: Slot) -> int:  # noqa: ARG002
        return 0

    def attributes(self, slot: Slot) -> NodeCapabilities:  # noqa: ARG002
        return {}

    def address_pools(
        self,
        tags: tuple[str, ...],  # noqa: ARG002
        owner: User | None,  # noqa: ARG002
    ) -> tuple[IPv4Network, ...]:
        return ()

    def ssh_rules(self, slot: Slot) -> tuple[SshRule, ...]:  # noqa: ARG002
        return ()

    def attribute_rule(self, name: str) -> AttributeRule | None:  # noqa: ARG002
        return None

    def may_take_tag(self, user: User, tag: str) -> bool:  # noqa: ARG002
        return False

    def has_tag(self, tag: str) -> bool:  # noqa: ARG002
        return False

    def approves(self, node: Node, owner: User | None, prefix: Prefix) -> bool:  # noqa: ARG002
        return False


DENY_ALL: Access = _DenyAll()
