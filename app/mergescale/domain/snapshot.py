"""Everything the server knows of one tailnet at one revision.

Snapshots are immutable and share what did not change: applying a write copies the one or two
dictionaries it touches (some 30 microseconds for 10,000 entries) and nothing else. Holding an
old snapshot is therefore cheap, and that is how the fan-out remembers what each client was sent.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Address, IPv6Address
from typing import Any

from mergescale.domain.access import DENY_ALL, Access
from mergescale.domain.apikey import ApiKey
from mergescale.domain.authkey import AuthKey
from mergescale.domain.change import Change
from mergescale.domain.declaration import Deployment, Policy
from mergescale.domain.login import PendingLogin
from mergescale.domain.node import Node
from mergescale.domain.prefixes import Prefix
from mergescale.domain.record import (
    Counters,
    Drop,
    Following,
    Presence,
    Primary,
    Put,
    Record,
    Write,
)
from mergescale.domain.slots import Slots
from mergescale.domain.sshcheck import SshCheck
from mergescale.domain.tailnet import Dns, Relays, Settings
from mergescale.domain.user import Role, User
from mergescale.kernel.ids import (
    ApiKeyId,
    AuthKeyId,
    LoginId,
    NodeId,
    ReplicaId,
    Revision,
    Slot,
    TailnetName,
    UserId,
)
from mergescale.kernel.keys import MachineKey, NodeKey

_SETTINGS, _DNS, _RELAYS = Settings(), Dns(), Relays()
_FOLLOWING = Following()


@dataclass(frozen=True, slots=True, eq=False)
class Snapshot:
    """One tailnet at one revision.

    The first block is stored; the second is derived from it and kept current by `apply`
    (indexes) and by ``state.derive`` (`access`), never by anyone else.

    Attributes:
        presence: node -> replicas that hold a map stream of it; absent means offline.
        primaries: subnet route -> the router that carries it now; exit routes have none. Kept by
            ``state.derive`` as well.
        by_machine: machine key -> its nodes; one machine may have several (user switching).
        asking: machine key -> its logins, decided ones included, oldest first.
        names: MagicDNS label -> node.
        addresses: every address in use -> node.
        access: INVARIANT(access-follows-nodes), see `Access`.
    """

    tailnet: TailnetName
    revision: Revision = Revision(0)
    counters: Counters = field(default_factory=Counters)
    deployment: Deployment | None = None
    following: Following = _FOLLOWING
    users: Mapping[UserId, User] = field(default_factory=dict)
    nodes: Mapping[NodeId, Node] = field(default_factory=dict)
    auth_keys: Mapping[AuthKeyId, AuthKey] = field(default_factory=dict)
    api_keys: Mapping[ApiKeyId, ApiKey] = field(default_factory=dict)
    logins: Mapping[LoginId, PendingLogin] = field(default_factory=dict)
    ssh_checks: Mapping[LoginId, SshCheck] = field(default_factory=dict)
    presence: Mapping[NodeId, frozenset[ReplicaId]] = field(default_factory=dict)
    primaries: Mapping[Prefix, NodeId] = field(default_factory=dict)

    slots: Slots = field(default_factory=Slots)
    by_node_key: Mapping[NodeKey, NodeId] = field(default_factory=dict)
    by_machine: Mapping[MachineKey, frozenset[NodeId]] = field(default_factory=dict)
    asking: Mapping[MachineKey, tuple[LoginId, ...]] = field(default_factory=dict)
    by_login: Mapping[str, UserId] = field(default_factory=dict)
    names: Mapping[str, NodeId] = field(default_factory=dict)
    addresses: Mapping[IPv4Address | IPv6Address, NodeId] = field(default_factory=dict)
    access: Access = DENY_ALL

    def apply(self, writes: Iterable[Write]) -> tuple[Snapshot, Change]:
        """Return the snapshot after the writes, and what they may have changed.

        `revision` and `access` stay as they are: the engine moves them once a batch.
        """
        draft = _Draft(self)
        for write in writes:
            match write:
                case Put(record):
                    draft.put(record)
                case Drop(record):
                    draft.drop(record)
        return draft.finish()

    def records(self) -> Iterator[Record]:
        """Yield everything stored but the counters; presence without its times."""
        yield from self.users.values()
        yield from self.auth_keys.values()
        yield from self.api_keys.values()
        yield from self.logins.values()
        yield from self.ssh_checks.values()
        for node in self.nodes.values():
            yield node
            for replica in self.presence.get(node.id, ()):
                yield Presence(node.id, replica, node.created)
        for prefix, router in self.primaries.items():
            yield Primary(prefix, router)
        if self.deployment is not None:
            yield self.deployment
        if self.following != _FOLLOWING:
            yield self.following

    def node_of(self, machine: MachineKey, key: NodeKey) -> Node | None:
        """Return the node with this node key if it belongs to this machine, else None.

        This is the security boundary of every request (spec 2.9): node keys are public.
        """
        node_id = self.by_node_key.get(key)
        node = self.nodes[node_id] if node_id is not None else None
        return node if node is not None and node.machine_key == machine else None

    def user_by_login(self, login: str) -> User | None:
        """Return the user with this login, compared without case."""
        user_id = self.by_login.get(login.casefold())
        return self.users[user_id] if user_id is not None else None

    def owner(self, node: Node) -> User | None:
        """Return the node's user, None for a tagged node."""
        return None if node.user is None else self.users[node.user]

    def slot(self, node: NodeId) -> Slot:
        """Return the node's index in bitsets of this snapshot."""
        return self.slots.of[node]

    def online(self, node: NodeId) -> bool:
        """Say whether some replica holds a map stream of the node."""
        return node in self.presence

    def takes_part(self, node: Node) -> bool:
        """Say whether the node may see and reach others at all.

        A node that awaits approval, or whose owner is suspended, matches no selector.
        """
        if not node.authorized:
            return False
        owner = self.owner(node)
        return owner is None or not owner.suspended

    @property
    def policy(self) -> Policy | None:
        """The policy in force, None before the first good commit."""
        return None if self.deployment is None else self.deployment.declaration.policy

    @property
    def settings(self) -> Settings:
        """What ``tailnet.hujson`` says, or the defaults."""
        return _SETTINGS if self.deployment is None else self.deployment.declaration.settings

    @property
    def dns(self) -> Dns:
        """What ``dns.hujson`` says, or the defaults."""
        return _DNS if self.deployment is None else self.deployment.declaration.dns

    @property
    def relays(self) -> Relays:
        """What ``derp.hujson`` says, or the defaults."""
        return _RELAYS if self.deployment is None else self.deployment.declaration.relays

    @property
    def domain(self) -> str:
        """Display name of the tailnet (tailcfg.MapResponse.Domain)."""
        return self.settings.domain or self.tailnet

    @property
    def magic_dns_suffix(self) -> str:
        """What follows a node's label in its name, without dots at the ends.

        ``.internal`` is reserved for private use and never delegated (ICANN, 2024).
        """
        return self.settings.magic_dns_suffix or f"{self.tailnet}.tailnet.internal"


class _Draft:
    """A snapshot being changed: copies each dictionary at its first write."""

    def __init__(self, base: Snapshot) -> None:
        self._base = base
        self._fields: dict[str, Any] = {}
        self._nodes: set[NodeId] = set()
        self._users: set[UserId] = set()
        self._logins: set[LoginId] = set()
        self._access = False
        self._following = False

    def _dict(self, name: str) -> dict[Any, Any]:
        if name not in self._fields:
            self._fields[name] = dict(getattr(self._base, name))
        fresh: dict[Any, Any] = self._fields[name]
        return fresh

    def _peek(self, name: str) -> Mapping[Any, Any]:
        current: Mapping[Any, Any] = self._fields.get(name, getattr(self._base, name))
        return current

    def put(self, record: Record) -> None:  # noqa: C901 - a case for each class
        match record:
            case Node():
                self._unindex(self._peek("nodes").get(record.id))
                self._dict("nodes")[record.id] = record
                self._index(record)
            case User():
                self._put_user(record)
            case AuthKey():
                self._dict("auth_keys")[record.id] = record
            case ApiKey():
                self._dict("api_keys")[record.id] = record
            case PendingLogin():
                self._put_login(record)
            case SshCheck():
                self._dict("ssh_checks")[record.id] = record
                self._logins.add(record.id)
            case Presence():
                held = self._peek("presence").get(record.node, frozenset())
                self._dict("presence")[record.node] = held | {record.replica}
                self._nodes.add(record.node)
            case Primary(prefix=prefix, node=router):
                self._carry(prefix, router)
            case Counters():
                self._fields["counters"] = record
            case Deployment():
                self._fields["deployment"] = record
                self._access = True
            case Following():
                self._fields["following"] = record
                self._following = True

    def drop(self, record: Record) -> None:  # noqa: C901 - a case for each class
        match record:
            case Node(id=node):
                self._unindex(self._dict("nodes").pop(node, None))
                self._dict("presence").pop(node, None)
                self._nodes.add(node)
            case User(id=user):
                gone = self._dict("users").pop(user, None)
                if gone is not None:
                    self._forget("by_login", gone.login.casefold(), user)
                self._users.add(user)
            case AuthKey(id=auth_key):
                self._dict("auth_keys").pop(auth_key, None)
            case ApiKey(id=api_key):
                self._dict("api_keys").pop(api_key, None)
            case PendingLogin(id=login):
                self._drop_login(login)
            case SshCheck(id=check):
                self._dict("ssh_checks").pop(check, None)
                self._logins.add(check)
            case Presence(node=node, replica=replica):
                self._leave(node, replica)
            case Primary(prefix=prefix):
                self._carry(prefix, None)
            case Deployment():
                self._fields["deployment"] = None
                self._access = True
            case Following():
                self._fields["following"] = _FOLLOWING
                self._following = True
            case Counters():
                self._fields["counters"] = Counters()

    def _put_user(self, user: User) -> None:
        before = self._peek("users").get(user.id)
        if before is not None:
            self._forget("by_login", before.login.casefold(), user.id)
        self._dict("users")[user.id] = user
        self._dict("by_login")[user.login.casefold()] = user.id
        self._users.add(user.id)
        if before is not None and _selected_by(before) != _selected_by(user):
            self._nodes.update(n.id for n in self._peek("nodes").values() if n.user == user.id)

    def _leave(self, node: NodeId, replica: ReplicaId) -> None:
        left = self._peek("presence").get(node, frozenset()) - {replica}
        if left:
            self._dict("presence")[node] = left
        else:
            self._dict("presence").pop(node, None)
        self._nodes.add(node)

    def _put_login(self, login: PendingLogin) -> None:
        if login.id not in self._peek("logins"):
            held = self._peek("asking").get(login.machine_key, ())
            self._dict("asking")[login.machine_key] = (*held, login.id)
        self._dict("logins")[login.id] = login
        self._logins.add(login.id)

    def _drop_login(self, login_id: LoginId) -> None:
        login: PendingLogin | None = self._dict("logins").pop(login_id, None)
        self._logins.add(login_id)
        if login is None:
            return
        held = self._dict("asking").pop(login.machine_key, ())
        left = tuple(one for one in held if one != login_id)
        if left:
            self._dict("asking")[login.machine_key] = left

    def _carry(self, prefix: Prefix, router: NodeId | None) -> None:
        before = self._dict("primaries").pop(prefix, None)
        if router is not None:
            self._dict("primaries")[prefix] = router
        self._nodes.update(node for node in (before, router) if node is not None)

    def _index(self, node: Node) -> None:
        self._dict("by_node_key")[node.node_key] = node.id
        machine = self._peek("by_machine").get(node.machine_key, frozenset())
        if node.id not in machine:
            self._dict("by_machine")[node.machine_key] = machine | {node.id}
        self._dict("names")[node.name] = node.id
        addresses = self._dict("addresses")
        addresses[node.ipv4] = node.id
        addresses[node.ipv6] = node.id
        self._nodes.add(node.id)

    def _unindex(self, node: Node | None) -> None:
        if node is None:
            return
        self._forget("by_node_key", node.node_key, node.id)
        machine = self._peek("by_machine").get(node.machine_key, frozenset()) - {node.id}
        if machine:
            self._dict("by_machine")[node.machine_key] = machine
        else:
            self._dict("by_machine").pop(node.machine_key, None)
        self._forget("names", node.name, node.id)
        self._forget("addresses", node.ipv4, node.id)
        self._forget("addresses", node.ipv6, node.id)

    def _forget(self, index: str, key: object, holder: NodeId | UserId) -> None:
        """Remove an index entry unless another record of the same batch took it over."""
        if self._peek(index).get(key) == holder:
            del self._dict(index)[key]

    def finish(self) -> tuple[Snapshot, Change]:
        if "nodes" in self._fields:
            nodes, slots = self._fields["nodes"], self._base.slots
            added = [node for node in self._nodes if node in nodes and node not in slots.of]
            dropped = [node for node in self._nodes if node not in nodes and node in slots.of]
            if added or dropped:
                self._fields["slots"] = slots.changed(sorted(added), sorted(dropped))
        change = Change(
            nodes=frozenset(self._nodes),
            users=frozenset(self._users),
            access=self._access,
            tailnet=self._access,
            logins=frozenset(self._logins),
            following=self._following,
        )
        return replace(self._base, **self._fields), change


def _selected_by(user: User) -> tuple[str, Role, bool]:
    """Return what selectors match a person by; when it changes its nodes resolve anew."""
    return user.login, user.role, user.suspended
