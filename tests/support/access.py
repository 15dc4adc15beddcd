"""A policy that is a table: the twin of ``policy``'s compiler for those who only ask it questions.

It remembers which nodes and owners it was resolved against, so that a test can tell whether what
moved was really named to it (INVARIANT(access-follows-nodes)).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Network

from mergescale.domain.access import Access, FilterRule, SshRule
from mergescale.domain.declaration import Declaration, DeclaredUser
from mergescale.domain.node import Node
from mergescale.domain.posture import AttributeRule
from mergescale.domain.prefixes import Prefix, covers, parse_prefix
from mergescale.domain.snapshot import Snapshot
from mergescale.domain.tailnet import Settings
from mergescale.domain.user import User
from mergescale.kernel.ids import NodeId, Slot

Seen = Mapping[NodeId, tuple[Node, User | None]]


@dataclass(frozen=True, slots=True, eq=False)
class TablePolicy:
    """It lets nobody reach anybody; it is asked about tags and routes only.

    Attributes:
        tags: tag -> logins that may give it.
        approvers: prefix -> logins and tags whose nodes may route it and what lies in it.
        pools: login or tag -> where its new nodes take their address.
    """

    tags: Mapping[str, Collection[str]] = field(default_factory=dict)
    approvers: Mapping[str, Collection[str]] = field(default_factory=dict)
    pools: Mapping[str, str] = field(default_factory=dict)

    def resolve(self, snapshot: Snapshot, before: Access | None = None) -> TableAccess:
        return TableAccess(self, _seen(snapshot, snapshot.nodes))


@dataclass(frozen=True, slots=True, eq=False)
class TableAccess:
    policy: TablePolicy
    seen: Seen

    @property
    def steered(self) -> bool:
        return False

    def refreshed(self, snapshot: Snapshot, changed: Collection[NodeId]) -> TableAccess:
        kept = {node: value for node, value in self.seen.items() if node not in changed}
        return TableAccess(self.policy, {**kept, **_seen(snapshot, changed)})

    def visible(self, slot: Slot) -> int:
        return 0

    def chunks(self, slot: Slot) -> Mapping[str, FilterRule]:
        return {}

    def users_of(self, router: NodeId, prefix: Prefix) -> int:
        return 0

    def senders(self, slot: Slot) -> int:
        return 0

    def attributes(self, slot: Slot) -> Mapping[str, tuple[bytes, ...]]:
        return {}

    @property
    def without_ipv4(self) -> int:
        return 0

    def address_pools(self, tags: tuple[str, ...], owner: User | None) -> tuple[IPv4Network, ...]:
        names = {*tags, *([] if owner is None else [owner.login])}
        return tuple(IPv4Network(one) for who, one in self.policy.pools.items() if who in names)

    def ssh_rules(self, slot: Slot) -> tuple[SshRule, ...]:
        return ()

    def attribute_rule(self, name: str) -> AttributeRule | None:
        return None

    def may_take_tag(self, user: User, tag: str) -> bool:
        return user.login in self.policy.tags.get(tag, ())

    def has_tag(self, tag: str) -> bool:
        return tag in self.policy.tags

    def approves(self, node: Node, owner: User | None, prefix: Prefix) -> bool:
        names = {*node.tags, *([] if owner is None else [owner.login])}
        return any(
            covers(parse_prefix(outer), prefix) and names & set(who)
            for outer, who in self.policy.approvers.items()
        )


def table(
    *,
    tags: Mapping[str, Collection[str]] | None = None,
    approvers: Mapping[str, Collection[str]] | None = None,
    pools: Mapping[str, str] | None = None,
    users: tuple[DeclaredUser, ...] | None = None,
    settings: Settings | None = None,
) -> Declaration:
    """Return a declaration with such a policy."""
    policy = TablePolicy(tags or {}, approvers or {}, pools or {})
    return Declaration(policy, settings=settings or Settings(), users=users)


def follows(snapshot: Snapshot) -> bool:
    """Say whether the access was resolved against exactly the snapshot's nodes and owners."""
    access = snapshot.access
    if not isinstance(access, TableAccess):
        return snapshot.policy is None
    return dict(access.seen) == dict(_seen(snapshot, snapshot.nodes))


def _seen(snapshot: Snapshot, nodes: Collection[NodeId]) -> Seen:
    living = (snapshot.nodes[node] for node in nodes if node in snapshot.nodes)
    return {node.id: (node, snapshot.owner(node)) for node in living}
