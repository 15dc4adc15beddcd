"""A small hand-made twin of the policy compiler: rules as pairs of selectors, by brute force.

    declare(Rule(("alice@example.com",), ("tag:web",), (80, 443)))

A selector is ``*``, a login, a tag, an address prefix (destinations only: routes through whoever
carries them) or ``internet`` (destinations only: exit nodes).
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Network, ip_network

from mergescale.domain.access import Access, Destination, FilterRule, Sources, SshRule
from mergescale.domain.declaration import Declaration
from mergescale.domain.node import Node
from mergescale.domain.posture import AttributeRule
from mergescale.domain.prefixes import Prefix, is_exit
from mergescale.domain.snapshot import Snapshot
from mergescale.domain.tailnet import Dns, Relays, Settings
from mergescale.domain.user import User
from mergescale.kernel.ids import NodeId, Slot


@dataclass(frozen=True, slots=True)
class Rule:
    """Who may reach what, on ports first..last."""

    sources: tuple[str, ...]
    destinations: tuple[str, ...]
    ports: tuple[int, int] = (0, 65535)

    @property
    def name(self) -> str:
        return hashlib.sha256(repr(self).encode()).hexdigest()[:8]


EVERYONE = Rule(("*",), ("*",))


@dataclass(frozen=True, slots=True, eq=False)
class Rules:
    """The twin of `domain.declaration.Policy`."""

    rules: tuple[Rule, ...] = ()

    def resolve(self, snapshot: Snapshot, before: Access | None = None) -> Access:
        return Reach(self, snapshot, {})


def declare(
    *rules: Rule,
    settings: Settings | None = None,
    dns: Dns | None = None,
    relays: Relays | None = None,
) -> Declaration:
    """Return a declaration with these rules."""
    return Declaration(Rules(rules), settings or Settings(), dns or Dns(), relays or Relays())


class Reach:
    """The twin of `domain.access.Access`; quadratic, and obviously right."""

    def __init__(
        self, policy: Rules, snapshot: Snapshot, sources: dict[tuple[str, ...], Sources]
    ) -> None:
        self.policy = policy
        self._snapshot = snapshot
        self._sources = sources
        self._chunks: dict[NodeId, dict[str, FilterRule]] = {}
        self._edges: set[tuple[NodeId, NodeId]] = set()
        self._via: dict[tuple[NodeId, Prefix], int] = {}
        for rule in policy.rules:
            self._add(rule)

    def _add(self, rule: Rule) -> None:
        snapshot = self._snapshot
        nodes = [node for node in snapshot.nodes.values() if snapshot.takes_part(node)]
        sources = [node for node in nodes if self._matches(node, rule.sources)]
        if not sources:
            return
        texts = tuple(sorted(str(ip) for node in sources for ip in (node.ipv4, node.ipv6)))
        shared = self._sources.setdefault(texts, Sources(texts))
        for node in nodes:
            routes = [prefix for prefix in node.routes if self._covered(rule, prefix)]
            places = [str(prefix) for prefix in routes]
            if self._matches(node, rule.destinations):
                places += [str(node.ipv4), str(node.ipv6)]
            if places:
                ends = tuple(Destination(place, *rule.ports) for place in places)
                self._chunks.setdefault(node.id, {})[rule.name] = FilterRule(shared, ends)
                self._edges.update((source.id, node.id) for source in sources)
            for prefix in routes:
                bits = snapshot.slots.bits(source.id for source in sources)
                key = node.id, prefix
                self._via[key] = self._via.get(key, 0) | bits

    def _matches(self, node: Node, selectors: Collection[str]) -> bool:
        owner = self._snapshot.owner(node)
        names = {"*", *node.tags} | ({owner.login} if owner is not None else set())
        return not names.isdisjoint(selectors)

    def _covered(self, rule: Rule, prefix: Prefix) -> bool:
        if is_exit(prefix):
            return "internet" in rule.destinations
        wanted = [ip_network(text) for text in rule.destinations if "/" in text]
        return "*" in rule.destinations or prefix in wanted

    def refreshed(self, snapshot: Snapshot, changed: Collection[NodeId]) -> Access:
        return Reach(self.policy, snapshot, self._sources)

    def visible(self, slot: Slot) -> int:
        node = self._snapshot.slots.at[slot]
        ends = {b for a, b in self._edges if a == node} | {a for a, b in self._edges if b == node}
        return self._snapshot.slots.bits(end for end in ends if end != node)

    def chunks(self, slot: Slot) -> Mapping[str, FilterRule]:
        node = self._snapshot.slots.at[slot]
        return {} if node is None else self._chunks.get(node, {})

    @property
    def steered(self) -> bool:
        """No rule names the routers to go through."""
        return False

    def users_of(self, router: NodeId, prefix: Prefix) -> int:
        return self._via.get((router, prefix), 0)

    def senders(self, slot: Slot) -> int:
        return 0

    def attributes(self, slot: Slot) -> Mapping[str, tuple[bytes, ...]]:
        return {}

    @property
    def without_ipv4(self) -> int:
        return 0

    def address_pools(self, tags: tuple[str, ...], owner: User | None) -> tuple[IPv4Network, ...]:
        return ()

    def ssh_rules(self, slot: Slot) -> tuple[SshRule, ...]:
        return ()

    def attribute_rule(self, name: str) -> AttributeRule | None:
        return None

    def may_take_tag(self, user: User, tag: str) -> bool:
        return False

    def has_tag(self, tag: str) -> bool:
        return any(tag in rule.sources + rule.destinations for rule in self.policy.rules)

    def approves(self, node: Node, owner: User | None, prefix: Prefix) -> bool:
        return False
