"""What must hold of every ``nodeAttrs`` over every tailnet, whatever happens to the tailnet."""

from __future__ import annotations

import json
from dataclasses import replace
from ipaddress import IPv4Address, ip_address, ip_network
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from mergescale.domain.declaration import Declaration
from mergescale.domain.node import Node
from mergescale.domain.record import Drop, Put, Write
from mergescale.domain.snapshot import Snapshot
from mergescale.kernel.ids import UserId
from support.policies import policy
from support.worlds import node, step, world

Entry = dict[str, list[str]]
CAST = "ana@example.com: n1, n2; ben@example.com: n3; tag:a: n4; tag:a+tag:b: n5"
GROUPS = {"group:g": ["ana@example.com"]}
TARGETS = ("*", "ana@example.com", "group:g", "tag:a", "tag:b", "autogroup:member",
           "autogroup:tagged", "100.64.0.2", "100.64.0.0/30", "fd7a:115c:a1e0::4")  # fmt: skip

entries = st.lists(
    st.fixed_dictionaries(
        {
            "target": st.lists(st.sampled_from(TARGETS), max_size=2),
            "attr": st.lists(st.sampled_from(["x", "y", "z"]), max_size=2),
        }
    ),
    max_size=4,
)
moves = st.one_of(
    st.tuples(st.just("add"), st.sampled_from(["tag:a", "tag:b"])),
    st.tuples(st.just("drop"), st.integers(0, 9)),
    st.tuples(st.just("tag"), st.integers(0, 9), st.sampled_from(["tag:a", "tag:b"])),
    st.tuples(st.just("give"), st.integers(0, 9), st.integers(1, 2)),
    st.tuples(st.just("move"), st.integers(0, 9), st.integers(0, 3)),
    st.tuples(st.just("route"), st.integers(0, 9)),
    st.tuples(st.just("suspend"), st.integers(1, 2), st.booleans()),
)


def under(section: list[Entry]) -> Declaration:
    text = {"groups": GROUPS, "tagOwners": {"tag:a": [], "tag:b": []}, "acls": []}
    return Declaration(policy(json.dumps({**text, "nodeAttrs": section})))


def writes_of(snapshot: Snapshot, move: tuple[Any, ...]) -> list[Write]:
    match move:
        case ("add", tag):
            number = max(snapshot.nodes, default=0) + 1
            return [Put(node(number, f"x{number}", user=None, tags=(tag,)))]
        case ("suspend", user, suspended):
            return [Put(replace(snapshot.users[UserId(user)], suspended=suspended))]
        case (what, index, *rest) if snapshot.nodes:
            one = snapshot.nodes[sorted(snapshot.nodes)[index % len(snapshot.nodes)]]
            return [Drop(one)] if what == "drop" else [Put(moved(one, what, *rest))]
    return []


def moved(one: Node, what: str, *rest: Any) -> Node:
    match what, rest:
        case "tag", (tag,):
            return replace(one, user=None, tags=(tag,))
        case "give", (user,):
            return replace(one, user=UserId(user), tags=())
        case "route", ():
            own = ip_network("100.64.0.0/29")
            return replace(one, advertised=(own,), approved=frozenset({own}))
        case _:
            (block,) = rest
            return replace(one, ipv4=IPv4Address(f"100.64.{block}.{one.id}"))


def means(target: str, snapshot: Snapshot, one: Node) -> bool:
    """Say whether a target means the node, by reading it; the twin of compiling it."""
    owner = snapshot.owner(one)
    names = {*one.tags, "autogroup:tagged"} if owner is None else {owner.login, "autogroup:member"}
    if owner is not None and owner.login in GROUPS["group:g"]:
        names.add("group:g")
    if target == "*" or target in names:
        return True
    try:
        inside = ip_network(target)
    except ValueError:
        return False
    return any(ip_address(a) in inside for a in (one.ipv4, one.ipv6))


def expected(section: list[Entry], snapshot: Snapshot, one: Node) -> set[str]:
    if not snapshot.takes_part(one):
        return set()
    return {
        name
        for entry in section
        if any(means(target, snapshot, one) for target in entry["target"])
        for name in entry["attr"]
    }


@settings(max_examples=100, deadline=None)
@given(section=entries, story=st.lists(moves, max_size=6))
def test_everybody_is_told_what_the_entries_say(
    section: list[Entry], story: list[tuple[Any, ...]]
) -> None:
    """Refreshed after any history, each node has what the entries that mean it say."""
    snapshot = world(CAST, declaration=under(section))
    for move in [None, *story]:
        if move is not None:
            snapshot = step(snapshot, writes_of(snapshot, move))
        for one, slot in snapshot.slots.of.items():
            wanted = expected(section, snapshot, snapshot.nodes[one])
            assert set(snapshot.access.attributes(slot)) == wanted
