"""Captured decisions of the hosted control plane, as snapshots and expectations.

The captures lie beside the checkout and are not part of it; tests that need them are skipped
where they are absent.
"""

from __future__ import annotations

import gzip
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime
from functools import cache
from ipaddress import IPv4Address, IPv6Address, ip_network
from pathlib import Path
from typing import Any

from mergescale.domain.declaration import Declaration, Policy
from mergescale.domain.node import Node
from mergescale.domain.prefixes import is_exit, sort_key
from mergescale.domain.record import Counters, Presence, Put, Write
from mergescale.domain.snapshot import Snapshot
from mergescale.domain.user import Role, User
from mergescale.kernel.ids import NodeId, TailnetName, UserId
from support.clock import START
from support.worlds import REPLICA, deployment, node, step

CAPTURES = Path(__file__).resolve().parents[3] / "shared" / "conformance" / "cases.jsonl.gz"
#: Groups about packets; the others are about parts of the language that are not here.
GROUPS = ("acl", "grant", "policytest", "routes")
#: Two routers of one prefix that reach only each other: the second sees the route of the first.
UNEXPLAINED = frozenset({"grant-p10-2"})

Case = dict[str, Any]

Rules = Counter[tuple[tuple[str, ...], tuple[int, ...], tuple[tuple[str, int, int], ...]]]


@cache
def cases() -> tuple[Case, ...]:
    """Return the captured cases about packets."""
    with gzip.open(CAPTURES, "rt", encoding="utf-8") as lines:
        every = [json.loads(line) for line in lines]
    return tuple(case for case in every if case["group"] in GROUPS)


def is_contradictory(case: Case) -> bool:
    """Say whether some node carries a route for others that it is not approved for."""
    approved = {node["name"]: set(node["approved_routes"]) for node in case["nodes"]}
    own = {node["name"]: {f"{node['ipv4']}/32", f"{node['ipv6']}/128"} for node in case["nodes"]}
    return any(
        not set(peer["AllowedIPs"]) <= own[name] | approved[name]
        for viewer in case["expect"]["nodes"].values()
        for name, peer in viewer["Peers"].items()
    )


def snapshot(case: Case, policy: Policy) -> Snapshot:
    """Build the captured tailnet, everybody online, under a policy."""
    writes: list[Write] = []
    users: dict[str, UserId] = {}
    for number, one in enumerate(case["users"], 1):
        users[one["login_name"]] = UserId(number)
        role = Role(one["role"])
        writes.append(Put(User(UserId(number), one["login_name"], one["name"], role, START)))
    for number, one in enumerate(case["nodes"], 1):
        writes.append(Put(_node(number, one, users)))
        writes.append(Put(Presence(NodeId(number), REPLICA, START)))
    writes.append(Put(Counters(NodeId(len(case["nodes"]) + 1), UserId(len(users) + 1))))
    writes.append(Put(deployment(Declaration(policy))))
    return step(Snapshot(TailnetName("captured")), writes)


def _node(number: int, one: dict[str, Any], users: dict[str, UserId]) -> Node:
    tags = tuple(sorted(one.get("tags") or ()))
    advertised = sorted((ip_network(text) for text in one["advertised_routes"]), key=sort_key)
    base = node(number, one["name"], user=None if tags else users[one["user"]], tags=tags)
    return replace(
        base,
        ipv4=IPv4Address(one["ipv4"]),
        ipv6=IPv6Address(one["ipv6"]),
        created=datetime.fromisoformat(one["created"]),
        advertised=tuple(advertised),
        approved=frozenset(ip_network(text) for text in one["approved_routes"]),
    )


def faults(case: Case, world: Snapshot) -> list[str]:
    """Return what differs from the capture: filters, peers by name, what peers route."""
    found = []
    for name, wanted in case["expect"]["nodes"].items():
        viewer = world.nodes[world.names[name]]
        if _wanted_rules(wanted["PacketFilter"] or []) != _rules(world, viewer):
            found.append(f"{name}: PacketFilter")
        peers = {peer.name: peer for peer in _peers(world, viewer)}
        if set(peers) != set(wanted["Peers"]):
            found.append(f"{name}: peers {sorted(set(peers) ^ set(wanted['Peers']))}")
            continue
        for peer_name, captured in wanted["Peers"].items():
            if set(captured["AllowedIPs"]) != _allowed(world, viewer, peers[peer_name]):
                found.append(f"{name}: AllowedIPs of {peer_name}")
    return found


def _peers(world: Snapshot, viewer: Node) -> Iterator[Node]:
    slots = world.access.visible(world.slot(viewer.id))
    return (world.nodes[one] for one in world.slots.nodes(slots))


def _allowed(world: Snapshot, viewer: Node, peer: Node) -> set[str]:
    routes = {
        prefix
        for prefix in peer.routes
        if is_exit(prefix) or world.primaries.get(prefix) == peer.id
        if world.access.users_of(peer.id, prefix) >> world.slot(viewer.id) & 1
    }
    return {f"{peer.ipv4}/32", f"{peer.ipv6}/128", *map(str, routes)}


def _rules(world: Snapshot, viewer: Node) -> Rules:
    """Merge chunks that have equal sources and protocols, as the captures do."""
    merged: dict[tuple[tuple[str, ...], tuple[int, ...]], list[tuple[str, int, int]]] = {}
    for rule in world.access.chunks(world.slot(viewer.id)).values():
        places = merged.setdefault((rule.sources.texts, rule.protocols), [])
        places += [(one.ip, one.first, one.last) for one in rule.destinations]
    return Counter((*key, tuple(sorted(places))) for key, places in merged.items())


def _wanted_rules(rules: list[dict[str, Any]]) -> Rules:
    return Counter(
        (
            tuple(sorted(rule["SrcIPs"])),
            tuple(rule.get("IPProto") or ()),
            tuple(
                sorted(
                    (one["IP"], one["Ports"]["First"], one["Ports"]["Last"])
                    for one in rule.get("DstPorts") or ()
                )
            ),
        )
        for rule in rules
    )
