"""Builders that make a tailnet in one line.

    world("alice@example.com: laptop, phone; tag:web: web1, web2")

Names left of a colon are logins or tags (``tag:a+tag:b: x`` gives two tags), names right of it are
nodes. Addresses are 100.64.0.1 and fd7a:115c:a1e0::1 and so on, in order.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime, timedelta
from ipaddress import ip_network

from mergescale.domain.declaration import Declaration, Deployment
from mergescale.domain.node import Node
from mergescale.domain.prefixes import TAILNET_V4, TAILNET_V6, sort_key
from mergescale.domain.record import Counters, Presence, Put, Write
from mergescale.domain.snapshot import Snapshot
from mergescale.domain.user import Role, User
from mergescale.kernel.ids import NodeId, ReplicaId, TailnetName, UserId
from mergescale.kernel.keys import DiscoKey, MachineKey, NodeKey
from mergescale.state.derive import derive
from support.clock import START

REPLICA = ReplicaId("replica-1")


def key_bytes(text: str) -> bytes:
    """Return 32 bytes that depend on the text only."""
    return hashlib.sha256(text.encode()).digest()


def node(number: int, name: str, *, user: UserId | None, tags: tuple[str, ...] = ()) -> Node:
    """Return the `number`-th node, with keys made from its name."""
    return Node(
        id=NodeId(number),
        stable_id=f"n{number}CNTRL",
        machine_key=MachineKey(key_bytes(f"machine {name}")),
        node_key=NodeKey(key_bytes(f"node {name}")),
        disco_key=DiscoKey(key_bytes(f"disco {name}")),
        name=name,
        ipv4=TAILNET_V4[number],
        ipv6=TAILNET_V6[number],
        created=START + timedelta(seconds=number),
        user=user,
        tags=tags,
        hostinfo=b'{"Hostname":"%s","OS":"linux"}' % name.encode(),
        endpoints=(f"192.0.2.{number % 250 + 1}:41641",),
        home_derp=900,
        capability_version=130,
    )


def world(
    text: str,
    *,
    tailnet: str = "default",
    online: bool = True,
    declaration: Declaration | None = None,
    at: datetime = START,
) -> Snapshot:
    """Build a snapshot with access and primaries derived."""
    writes: list[Write] = []
    number, users = 0, 0
    for group in filter(None, (part.strip() for part in text.split(";"))):
        owner, _, names = group.rpartition(":")
        user, tags = None, tuple(sorted(owner.strip().split("+")))
        if not owner.strip().startswith("tag:"):
            users += 1
            user, tags = UserId(users), ()
            login = owner.strip()
            person = User(user, login, login.partition("@")[0].title(), Role.MEMBER, at)
            writes.append(Put(person))
        for name in filter(None, (part.strip() for part in names.split(","))):
            number += 1
            writes.append(Put(node(number, name, user=user, tags=tags)))
            if online:
                writes.append(Put(Presence(NodeId(number), REPLICA, at)))
    writes.append(Put(Counters(NodeId(number + 1), UserId(users + 1))))
    if declaration is not None:
        writes.append(Put(deployment(declaration, at=at)))
    return step(Snapshot(TailnetName(tailnet)), writes)


def step(before: Snapshot, writes: Iterable[Write]) -> Snapshot:
    """Apply writes and derive, as the engine does."""
    after, change = before.apply(list(writes))
    after, _ = derive(before, after, change)
    return after


def deployment(
    declaration: Declaration, *, commit: str = "0" * 40, at: datetime = START
) -> Deployment:
    """Wrap a declaration as a commit in force."""
    return Deployment(commit, {}, "subject", "author", at, at, declaration)


def named(snapshot: Snapshot, name: str) -> Node:
    """Return the node with this label."""
    return snapshot.nodes[snapshot.names[name]]


def routed(before: Snapshot, name: str, *prefixes: str, approved: bool = True) -> Snapshot:
    """Return the world after `name` advertises (and is approved for) the prefixes."""
    routes = tuple(sorted((ip_network(p) for p in prefixes), key=sort_key))
    changed = replace(
        named(before, name),
        advertised=routes,
        approved=frozenset(routes if approved else ()),
    )
    return step(before, [Put(changed)])
