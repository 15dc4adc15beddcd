"""Random histories of a small tailnet: what may happen, as functions from snapshot to writes.

Each event takes the snapshot and a `Dice` and returns the writes, so that hypothesis shrinks a
failing history to the few events that matter.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import timedelta
from ipaddress import ip_network
from random import Random
from typing import TypeVar

from mergescale.domain.change import Change
from mergescale.domain.declaration import Declaration, Policy
from mergescale.domain.node import Node
from mergescale.domain.prefixes import sort_key
from mergescale.domain.record import Drop, Presence, Put, Write
from mergescale.domain.slots import Slots
from mergescale.domain.snapshot import Snapshot
from mergescale.domain.tailnet import Dns, ExtraRecord, RelayNode, RelayRegion, Relays, Settings
from mergescale.domain.user import Role
from mergescale.kernel.ids import NodeId, Slot
from mergescale.kernel.keys import DiscoKey, NodeKey
from mergescale.state.derive import derive
from support.clock import START
from support.reach import EVERYONE, Rule, Rules
from support.worlds import REPLICA, deployment, key_bytes, node

T = TypeVar("T")

ROUTES = ("10.1.0.0/16", "10.2.0.0/16", "fd00::/64", "0.0.0.0/0", "::/0")
TAGS = ((), ("tag:web",), ("tag:web", "tag:db"))
REGION = RelayRegion(900, "lab", "Lab", (RelayNode("900a", "relay.example.com"),))

#: What commits may say, for the hand-made twin of the compiler.
TWINS: tuple[Policy, ...] = (
    Rules((EVERYONE,)),
    Rules(),
    Rules((Rule(("alice@example.com",), ("*",)),)),
    Rules(
        (
            Rule(("alice@example.com",), ("tag:web", "10.1.0.0/16")),
            Rule(("tag:db",), ("*",), (22, 22)),
        )
    ),
    Rules(
        (
            Rule(("bob@example.com", "tag:web"), ("10.2.0.0/16", "internet")),
            Rule(("*",), ("tag:db",)),
        )
    ),
    Rules(
        (
            Rule(("bob@example.com",), ("alice@example.com",)),
            Rule(("*",), ("internet", "fd00::/64")),
        )
    ),
)
SETTINGS = (
    Settings(),
    Settings(domain="example.com", magic_dns_suffix="ts.example"),
    Settings(randomize_client_port=True),
)
NAMES = (
    Dns(),
    Dns(nameservers=("1.1.1.1",), split={"corp": ("10.1.0.53",)}),
    Dns(magic_dns=False, records=(ExtraRecord("a.corp", "A", "10.1.0.9"),)),
)
RELAYS = (Relays(), Relays((REGION,), embedded=False))


class Dice:
    """Chooses; `roll(n)` gives a number below n."""

    def __init__(self, roll: Callable[[int], int]) -> None:
        self.roll = roll

    @classmethod
    def seeded(cls, seed: int) -> Dice:
        """Roll evenly, which finds more than a shrinking source does in the same time."""
        return cls(Random(seed).randrange)  # noqa: S311 - a test's dice hide no secret

    def one(self, choices: Sequence[T]) -> T:
        return choices[self.roll(len(choices))]

    def node(self, snapshot: Snapshot) -> Node:
        return self.one(list(snapshot.nodes.values()))

    def some(self, choices: Sequence[T]) -> list[T]:
        mask = self.roll(1 << len(choices))
        return [choice for index, choice in enumerate(choices) if mask >> index & 1]


Event = Callable[[Snapshot, Dice], list[Write]]


def join(snapshot: Snapshot, dice: Dice) -> list[Write]:
    """A node registers; it has no endpoints, disco key or home region yet."""
    number = snapshot.counters.next_node
    user = dice.one([None, *snapshot.users])
    fresh = node(number, f"node{number}", user=user, tags=dice.one(TAGS[1:]) if not user else ())
    bare = replace(fresh, disco_key=DiscoKey.zero(), endpoints=(), home_derp=0)
    counters = replace(snapshot.counters, next_node=NodeId(number + 1))
    return [Put(counters), Put(bare if dice.roll(2) else fresh)]


def leave(snapshot: Snapshot, dice: Dice) -> list[Write]:
    return [Drop(dice.node(snapshot))] if len(snapshot.nodes) > 1 else []


def rename(snapshot: Snapshot, dice: Dice) -> list[Write]:
    chosen = dice.node(snapshot)
    return [Put(replace(chosen, name=f"{dice.one(('box', 'tower'))}-{chosen.id}"))]


def lite_update(snapshot: Snapshot, dice: Dice) -> list[Write]:
    """Endpoints, disco key, home region and Hostinfo arrive together, some of them changed."""
    chosen = dice.node(snapshot)
    changed = replace(
        chosen,
        endpoints=dice.one(((), ("192.0.2.1:1",), ("192.0.2.1:1", "[2001:db8::1]:2"))),
        disco_key=DiscoKey(key_bytes(f"disco {dice.roll(3)}")),
        home_derp=dice.one((chosen.home_derp, 900, 901)),
        hostinfo=dice.one((chosen.hostinfo, b'{"OS":"linux"}', b'{"OS":"windows"}')),
        capability_version=dice.one((chosen.capability_version, 131)),
    )
    return [Put(changed)]


def rotate(snapshot: Snapshot, dice: Dice) -> list[Write]:
    """A new node key, and a new or no expiry."""
    chosen = dice.node(snapshot)
    key = NodeKey(key_bytes(f"node {chosen.id} {dice.roll(3)}"))
    expiry = dice.one((None, START, START + timedelta(days=180)))
    return [Put(replace(chosen, node_key=key, key_expiry=expiry))]


def expire(snapshot: Snapshot, dice: Dice) -> list[Write]:
    expiry = dice.one((None, START, START + timedelta(days=180)))
    return [Put(replace(dice.node(snapshot), key_expiry=expiry))]


def connect(snapshot: Snapshot, dice: Dice) -> list[Write]:
    return [Put(Presence(dice.node(snapshot).id, REPLICA, START))]


def disconnect(snapshot: Snapshot, dice: Dice) -> list[Write]:
    """A node goes offline; it was seen later than ever before."""
    online = [snapshot.nodes[node] for node in snapshot.presence]
    if not online:
        return []
    chosen = dice.one(online)
    seen = (chosen.last_seen or START) + timedelta(seconds=1 + dice.roll(2))
    return [Drop(Presence(chosen.id, REPLICA, START)), Put(replace(chosen, last_seen=seen))]


def crash(snapshot: Snapshot, dice: Dice) -> list[Write]:
    """A node restarts with another disco key, and is offline before anybody was told."""
    writes = disconnect(snapshot, dice)
    return [
        Put(replace(write.record, disco_key=DiscoKey(key_bytes(f"restart {dice.roll(9)}"))))
        if isinstance(write, Put) and isinstance(write.record, Node)
        else write
        for write in writes
    ]


def route(snapshot: Snapshot, dice: Dice) -> list[Write]:
    """A node advertises some routes, and some are approved."""
    chosen = dice.node(snapshot)
    advertised = [ip_network(text) for text in dice.some(ROUTES)]
    approved = [ip_network(text) for text in dice.some(ROUTES)]
    ordered = tuple(sorted(advertised, key=sort_key))
    return [Put(replace(chosen, advertised=ordered, approved=frozenset(approved)))]


def retag(snapshot: Snapshot, dice: Dice) -> list[Write]:
    chosen, tags = dice.node(snapshot), dice.one(TAGS)
    user = None if tags else dice.one(list(snapshot.users))
    return [Put(replace(chosen, tags=tags, user=user))]


def authorize(snapshot: Snapshot, dice: Dice) -> list[Write]:
    chosen = dice.node(snapshot)
    return [Put(replace(chosen, authorized=not chosen.authorized))]


def edit_user(snapshot: Snapshot, dice: Dice) -> list[Write]:
    chosen = dice.one(list(snapshot.users.values()))
    match dice.roll(4):
        case 0:
            changed = replace(chosen, display_name=dice.one(("A", "Bé", 'say "hi"\n')))
        case 1:
            changed = replace(chosen, suspended=not chosen.suspended)
        case 2:
            changed = replace(chosen, role=dice.one((Role.OWNER, Role.ADMIN, Role.MEMBER)))
        case _:
            changed = replace(chosen, login=f"{chosen.id}{dice.roll(3)}@example.com")
    return [Put(changed)]


def committing(policies: Sequence[Policy]) -> Event:
    """Return the event that another commit is in force: policy, settings, DNS, relays."""

    def commit(snapshot: Snapshot, dice: Dice) -> list[Write]:
        declared = Declaration(
            policy=dice.one(policies),
            settings=dice.one(SETTINGS),
            dns=dice.one(NAMES),
            relays=dice.one(RELAYS),
        )
        return [Put(deployment(declared))]

    return commit


#: All but commits. What makes trouble more often is here twice.
EVENTS: tuple[Event, ...] = (
    join,
    leave,
    rename,
    lite_update,
    rotate,
    expire,
    connect,
    disconnect,
    crash,
    route,
    route,
    retag,
    retag,
    authorize,
    edit_user,
    edit_user,
)


def happen(before: Snapshot, writes: Sequence[Write]) -> tuple[Snapshot, Change]:
    """Apply writes and derive, as the engine does; return what it publishes."""
    after, change = before.apply(writes)
    return derive(before, after, change)


def renumbered(snapshot: Snapshot, dice: Dice) -> tuple[Snapshot, Change]:
    """Return the snapshot after a compaction; real ones keep the order, this one does not."""
    nodes = sorted(snapshot.nodes, key=lambda _: dice.roll(8))
    of = {node: Slot(index) for index, node in enumerate(nodes)}
    slots = Slots(of, tuple(nodes), snapshot.slots.generation + 1)
    moved = replace(snapshot, slots=slots)
    chosen = dice.node(snapshot).id
    change = Change(nodes=frozenset({chosen}))
    return replace(moved, access=moved.access.refreshed(moved, change.nodes)), change
