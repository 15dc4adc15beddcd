"""An inventory: the users and nodes of a tailnet as JSON, to ask a policy about without a server.

    {"domain": "example.com", "server_url": "https://vpn.example.com",
     "dns": {"magic_dns": true, "nameservers": [], "search_paths": [], "split_dns": {}},
     "settings": {},
     "users": [{"login_name": "ana@example.com", "name": "Ana", "role": "admin"}],
     "nodes": [{"name": "laptop", "ipv4": "100.64.0.1", "ipv6": "fd7a:115c:a1e0::1",
                "user": "ana@example.com", "advertised_routes": [], "approved_routes": [],
                "created": "2026-04-10T15:15:53Z"}]}

A node has ``user`` or ``tags``. All nodes count as online. Optional: a user's ``"suspended": true``, a
node's ``"authorized": false``, and for postures its ``os`` and ``client_version``; what else postures
ask about is not known of the nodes of an inventory.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from ipaddress import IPv4Address, IPv6Address
from typing import Any, Final

import msgspec

from mergescale.domain.declaration import Declaration, DeclaredUser, Deployment
from mergescale.domain.node import Node
from mergescale.domain.prefixes import Prefix, is_exit, parse_prefix, sort_key
from mergescale.domain.record import Counters, Presence, Put, Write
from mergescale.domain.snapshot import Snapshot
from mergescale.domain.tailnet import Dns, Settings
from mergescale.domain.user import Role, User
from mergescale.kernel.errors import Invalid
from mergescale.kernel.ids import NodeId, ReplicaId, TailnetName, UserId
from mergescale.kernel.keys import MachineKey, NodeKey

#: Before every node that says when it was created.
_ONCE: Final = datetime(1970, 1, 1, tzinfo=UTC)
_HERE: Final = ReplicaId("inventory")


class _Said(msgspec.Struct):
    """What of tailcfg.Hostinfo is told of a node."""

    os: str = msgspec.field(name="OS", default="")
    ipn_version: str = msgspec.field(name="IPNVersion", default="")


_SAID: Final = msgspec.json.Decoder(_Said)


class InventoryUser(msgspec.Struct, frozen=True):
    """A person; `role` and `suspended` as in ``users.hujson``."""

    login_name: str
    name: str = ""
    role: Role = Role.MEMBER
    suspended: bool = False


class InventoryNode(msgspec.Struct, frozen=True):
    """A device, owned by `user` (a login) or by `tags`.

    Attributes:
        authorized: approved, where the tailnet asks for that.
        os, client_version: tailcfg.Hostinfo's OS and IPNVersion.
    """

    name: str
    ipv4: IPv4Address
    ipv6: IPv6Address
    user: str | None = None
    tags: Sequence[str] | None = None
    advertised_routes: Sequence[str] | None = None
    approved_routes: Sequence[str] | None = None
    created: datetime | None = None
    authorized: bool = True
    os: str = ""
    client_version: str = ""


class InventoryDns(msgspec.Struct, frozen=True):
    """What ``dns.hujson`` says, in the words of Tailscale's API."""

    magic_dns: bool = True
    nameservers: Sequence[str] | None = None
    search_paths: Sequence[str] | None = None
    split_dns: dict[str, Sequence[str]] | None = None


class Inventory(msgspec.Struct, frozen=True):
    """Everything that a policy is asked about.

    Attributes:
        domain: of the tailnet, whose people ``user:*@domain`` names.
        settings: of the tailnet; kept for whoever reads them, no rule depends on them.
    """

    users: Sequence[InventoryUser] = ()
    nodes: Sequence[InventoryNode] = ()
    domain: str = ""
    server_url: str = ""
    dns: InventoryDns = InventoryDns()
    settings: dict[str, Any] = {}


def read_inventory(network: dict[str, Any] | bytes) -> Inventory:
    """Read an inventory from JSON text or from what was decoded of it.

    Raises:
        Invalid: it does not have the form above; says where.
    """
    try:
        if isinstance(network, bytes):
            return msgspec.json.decode(network, type=Inventory, dec_hook=_address)
        return msgspec.convert(network, type=Inventory, dec_hook=_address)
    except msgspec.MsgspecError as error:
        raise Invalid(f"not an inventory: {error}") from None


def _address(kind: type, text: Any) -> Any:
    """Read what msgspec does not know: the two kinds of addresses."""
    if not isinstance(text, str):
        raise ValueError("expected an address as text")  # noqa: TRY004 - msgspec adds the place
    return kind(text)


def populate(
    inventory: Inventory, declaration: Declaration, before: Snapshot | None = None
) -> Snapshot:
    """Build the tailnet of an inventory under what a repository declares.

    People are as ``users.hujson`` declares them, if it does, as they are once a server has it.

    `before` is the same inventory under what is in force until then: filters that come out the same
    are taken over, whom that declared and this does not is suspended, and routes that it approved
    stay approved, as a server does it.

    Routes that nobody approved but an autoApprover lets through count as approved, as they are
    once a server has the policy.

    Raises:
        Invalid: the inventory names a user that it does not list, two nodes have the
            same name or address, or a route is no prefix.
    """
    settings = replace(declaration.settings, domain=declaration.settings.domain or inventory.domain)
    deployment = Deployment("", {}, "", "", _ONCE, _ONCE, replace(declaration, settings=settings))
    people = _people(inventory, declaration, before)
    writes = _writes(inventory, deployment, people)
    snapshot, _ = Snapshot(TailnetName("inventory")).apply(writes)
    policy = snapshot.policy
    if policy is None:
        return snapshot
    approving = policy.resolve(snapshot)
    approved: list[Write] = []
    for node in snapshot.nodes.values():
        owner = snapshot.owner(node)
        more = {one for one in node.advertised if approving.approves(node, owner, one)}
        if before is not None:
            more |= before.nodes[node.id].approved
        if not more <= node.approved:
            approved.append(Put(replace(node, approved=node.approved | more)))
    snapshot, _ = snapshot.apply(approved)
    snapshot = replace(snapshot, primaries=_primaries(snapshot))
    access = policy.resolve(snapshot, None if before is None else before.access)
    return replace(snapshot, access=access)


def revision(inventory: Inventory) -> str:
    """Return a hash that is the same for the same users and nodes, in whatever order they stand."""
    users = sorted(inventory.users, key=lambda one: one.login_name)
    nodes = sorted(map(_plain, inventory.nodes), key=lambda one: one.name)
    text = msgspec.json.Encoder(enc_hook=str, order="sorted").encode([users, nodes])
    return hashlib.sha256(text).hexdigest()


def revision_of(snapshot: Snapshot) -> str:
    """Return the `revision` of a server's tailnet: that of the inventory it would export."""
    users = [
        InventoryUser(one.login, one.display_name, one.role, one.suspended)
        for one in snapshot.users.values()
    ]
    nodes = [_of_node(snapshot, one) for one in snapshot.nodes.values()]
    return revision(Inventory(users, nodes))


def _plain(node: InventoryNode) -> InventoryNode:
    """Return a node in which nothing and an empty list are the same, and lists have one order."""
    lists = {
        name: tuple(sorted(getattr(node, name) or ()))
        for name in ("tags", "advertised_routes", "approved_routes")
    }
    return msgspec.structs.replace(node, user=None if node.tags else node.user, **lists)


def _of_node(snapshot: Snapshot, node: Node) -> InventoryNode:
    owner = snapshot.owner(node)
    try:
        said = _SAID.decode(node.hostinfo)
    except msgspec.DecodeError:
        said = _Said()
    return InventoryNode(
        name=node.name,
        ipv4=node.ipv4,
        ipv6=node.ipv6,
        user=None if owner is None else owner.login,
        tags=node.tags,
        advertised_routes=[str(one) for one in node.advertised],
        approved_routes=[str(one) for one in node.approved],
        created=node.created,
        authorized=node.authorized,
        os=said.os,
        client_version=said.ipn_version,
    )


def dns_of(inventory: Inventory) -> Dns:
    """Return the DNS settings of an inventory."""
    dns = inventory.dns
    split = {suffix: tuple(servers) for suffix, servers in (dns.split_dns or {}).items()}
    return Dns(
        magic_dns=dns.magic_dns,
        nameservers=tuple(dns.nameservers or ()),
        split=split,
        search=tuple(dns.search_paths or ()),
    )


def settings_of(inventory: Inventory) -> Settings:
    """Return the settings of an inventory's tailnet."""
    return Settings(domain=inventory.domain)


def _writes(
    inventory: Inventory, deployment: Deployment, people: Iterable[User]
) -> Iterator[Write]:
    users: dict[str, UserId] = {}
    for number, person in enumerate(people, 1):
        users[person.login.casefold()] = UserId(number)
        yield Put(replace(person, id=UserId(number)))
    taken: set[object] = set()
    for number, each in enumerate(inventory.nodes, 1):
        for mark in (each.name, each.ipv4, each.ipv6):
            if mark in taken:
                raise Invalid(f'two nodes of the inventory have "{mark}"')
            taken.add(mark)
        yield Put(_node(number, each, users))
        yield Put(Presence(NodeId(number), _HERE, _ONCE))
    yield Put(Counters(NodeId(len(inventory.nodes) + 1), UserId(len(users) + 1)))
    yield Put(deployment)


def _people(
    inventory: Inventory, declaration: Declaration, before: Snapshot | None
) -> Iterator[User]:
    """Yield everybody, without ids: those of the inventory, then those only declared."""
    declared = {one.login.casefold(): one for one in declaration.users or ()}
    left = set() if before is None or declaration.users is None else _managed(before)
    left -= declared.keys()
    for one in inventory.users:
        name, login = one.name or one.login_name.partition("@")[0], one.login_name.casefold()
        suspended = one.suspended or login in left
        person = User(UserId(0), one.login_name, name, one.role, _ONCE, suspended=suspended)
        meant = declared.pop(login, None)
        yield person if meant is None else _declared(meant)
    yield from map(_declared, declared.values())


def _managed(before: Snapshot) -> set[str]:
    """Return whom a repository declared."""
    return {one.login.casefold() for one in before.users.values() if one.declared}


def _declared(one: DeclaredUser) -> User:
    return User(
        UserId(0),
        one.login,
        one.display_name,
        one.role,
        _ONCE,
        declared=True,
        suspended=one.suspended,
    )


def _node(number: int, one: InventoryNode, users: dict[str, UserId]) -> Node:
    tags = tuple(sorted(one.tags or ()))
    owner = None if tags else users.get((one.user or "").casefold())
    if owner is None and not tags:
        raise Invalid(f'the user "{one.user or ""}" of node "{one.name}" is not listed')
    secret = hashlib.sha256(one.name.encode()).digest()
    return Node(
        id=NodeId(number),
        stable_id=f"n{number}",
        machine_key=MachineKey(secret),
        node_key=NodeKey(secret),
        name=one.name,
        ipv4=one.ipv4,
        ipv6=one.ipv6,
        created=one.created or _ONCE,
        user=owner,
        tags=tags,
        advertised=tuple(sorted(_prefixes(one, one.advertised_routes), key=sort_key)),
        approved=frozenset(_prefixes(one, one.approved_routes)),
        authorized=one.authorized,
        hostinfo=msgspec.json.encode({"OS": one.os, "IPNVersion": one.client_version}),
    )


def _prefixes(node: InventoryNode, texts: Sequence[str] | None) -> list[Prefix]:
    try:
        return [parse_prefix(text) for text in texts or ()]
    except ValueError as error:
        raise Invalid(f'a route of node "{node.name}": {error}') from None


def _primaries(snapshot: Snapshot) -> dict[Prefix, NodeId]:
    """Choose the oldest router of each subnet route."""
    primaries: dict[Prefix, NodeId] = {}
    for node in sorted(snapshot.nodes.values(), key=lambda node: (node.created, node.id)):
        for prefix in node.routes:
            if not is_exit(prefix) and snapshot.takes_part(node):
                primaries.setdefault(prefix, node.id)
    return primaries
