"""A plan is exactly the difference of what two policies let through."""

from __future__ import annotations

import json
from dataclasses import replace
from ipaddress import ip_address
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from mergescale.domain.declaration import Declaration
from mergescale.domain.snapshot import Snapshot
from mergescale.plan.build import make_plan
from mergescale.plan.difference import Row, difference
from mergescale.plan.flows import Census, census, flows_of, places_of
from mergescale.plan.model import Identity, effect_of
from mergescale.plan.side import Side
from mergescale.plan.wording import Wording
from support.policies import admits, policy
from support.worlds import routed, world

NODES = "ana@example.com: n1, n2; ben@example.com: n3; tag:a: n4; tag:a+tag:b: n5"
NAMES = (
    "ana@example.com",
    "group:g",
    "autogroup:member",
    "autogroup:tagged",
    "tag:a",
    "tag:b",
    "100.64.0.3",
    "100.64.0.0/29",
    "10.1.0.0/16",
    "10.1.2.0/24",
    "*",
)
FLOWS = ("*", "22", "80-90", "tcp:85", "udp:*", "icmp:*", "47:*")
QUESTIONS = [(6, 22), (6, 80), (6, 85), (17, 22), (17, 85), (17, 9000), (1, 0), (47, 0)]
OUTSIDE = ("10.1.2.3", "10.1.9.9", "10.2.0.1", "192.0.2.1")

grants = st.fixed_dictionaries(
    {
        "src": st.lists(st.sampled_from(NAMES), min_size=1, max_size=2),
        "dst": st.lists(st.sampled_from([*NAMES, "autogroup:internet"]), min_size=1, max_size=2),
        "ip": st.lists(st.sampled_from(FLOWS), min_size=1, max_size=2),
    }
)
rules = st.lists(grants, max_size=4)
own: list[dict[str, Any]] = [{"src": ["autogroup:member"], "dst": ["autogroup:self"], "ip": ["22"]}]


def side(text: list[dict[str, Any]], members: list[str], nodes: str = NODES) -> Side:
    sections = {"groups": {"group:g": members}, "tagOwners": {"tag:a": [], "tag:b": []}}
    declaration = Declaration(policy(json.dumps({**sections, "grants": text})))
    snapshot = world(nodes, declaration=declaration)
    snapshot = routed(snapshot, "n4", "10.1.0.0/16", "0.0.0.0/0")
    return Side(json.dumps([text, members]), declaration, snapshot)


def passes(snapshot: Snapshot) -> set[tuple[str, str, str, int, int]]:
    """Return everything that filters let through, of what is asked."""
    addresses = [str(one) for one in snapshot.addresses]
    found = set[tuple[str, str, str, int, int]]()
    for node in snapshot.nodes.values():
        chunks = snapshot.access.chunks(snapshot.slot(node.id))
        own_addresses = [str(node.ipv4), str(node.ipv6)]
        behind = [a for a in OUTSIDE if any(ip_address(a) in prefix for prefix in node.routes)]
        for source in [*addresses, *OUTSIDE[:3]]:
            for target in (*own_addresses, *behind):
                for protocol, port in QUESTIONS:
                    if admits(chunks, source, target, protocol, port):
                        found.add((source, node.name, target, protocol, port))
    return found


def told(
    rows: tuple[Row, ...], snapshot: Snapshot, who: Census
) -> set[tuple[str, str, str, int, int]]:
    """Return the same, of what rows say."""
    numbers = {
        str(one): 1 << snapshot.slot(node) + (who.slots if one.version == 6 else 0)
        for one, node in snapshot.addresses.items()
    }
    for text in OUTSIDE[:3]:
        at = places_of(text)[0].first
        for number, place in enumerate(who.outside):
            if place.first <= at <= place.last:
                numbers[text] = 1 << (2 * who.slots + number)
    found = set[tuple[str, str, str, int, int]]()
    for row in rows:
        node_id = snapshot.slots.at[row.slot]
        assert node_id is not None
        node = snapshot.nodes[node_id]
        targets = [str(node.ipv4), str(node.ipv6), *OUTSIDE]
        for target in targets:
            if not row.place.first <= places_of(target)[0].first <= row.place.last:
                continue
            for protocol, port in QUESTIONS:
                if any(f.protocol == protocol and f.first <= port <= f.last for f in row.flows):
                    found.update(
                        (source, node.name, target, protocol, port)
                        for source, bit in numbers.items()
                        if row.sources & bit
                    )
    return found


members = st.sampled_from([["ana@example.com"], ["ben@example.com"], [], ["cat@example.com"]])


@settings(max_examples=30, deadline=None)
@given(before=rules, after=rules, was=members, now=members, with_own=st.booleans())
def test_what_is_gained_and_lost_is_the_difference_of_the_filters(
    before: list[dict[str, Any]],
    after: list[dict[str, Any]],
    was: list[str],
    now: list[str],
    *,
    with_own: bool,
) -> None:
    """Packet by packet, to devices and behind routers, from devices and from outside."""
    base, head = side(before, was), side([*after, *(own if with_own else [])], now)
    found = difference(base.snapshot, head.snapshot)
    there, here = passes(base.snapshot), passes(head.snapshot)

    assert told(found.gained, head.snapshot, found.who) == here - there
    assert told(found.lost, head.snapshot, found.who) == there - here


@settings(max_examples=30, deadline=None)
@given(text=rules, order=st.randoms(use_true_random=False))
def test_another_order_has_no_effect(text: list[dict[str, Any]], order: Any) -> None:
    """Neither of rules nor of what stands in them; nor does resolving with what is taken over."""
    shuffled = [{key: order.sample(one, len(one)) for key, one in rule.items()} for rule in text]
    order.shuffle(shuffled)
    base, head = side(text, []), side(shuffled, [])
    carried = head.declaration.policy.resolve(head.snapshot, base.snapshot.access)
    for snapshot in (head.snapshot, replace(head.snapshot, access=carried)):
        plan = make_plan(base, replace(head, snapshot=snapshot), "i")
        assert plan.verdict == "no effect"
        assert plan.nodes == ()
        assert plan.blast.pairs == 0


@settings(max_examples=30, deadline=None)
@given(before=rules, after=rules, was=members, now=members)
def test_the_way_back_is_the_same_change_turned_round(
    before: list[dict[str, Any]], after: list[dict[str, Any]], was: list[str], now: list[str]
) -> None:
    """plan(a, b) = -plan(b, a), row by row; and the effect of no change is none."""
    base, head = side(before, was), side([*after, *own], now)
    there, back = make_plan(base, head, "i"), make_plan(head, base, "i")

    assert (there.gained, there.lost) == (back.lost, back.gained)
    assert (there.edges_gained, there.edges_lost) == (back.edges_lost, back.edges_gained)
    assert [
        (one.name, one.peers_gained, one.peers_lost, one.filter, one.routes) for one in there.nodes
    ] == [
        (one.name, one.peers_lost, one.peers_gained, one.filter, one.routes) for one in back.nodes
    ]
    ends = (there.blast.connected, there.blast.disconnected)
    assert ends == (back.blast.disconnected, back.blast.connected)
    assert there.blast.pairs == back.blast.pairs
    assert make_plan(base, base, "i").verdict == "no effect"
    assert effect_of(there) == effect_of(make_plan(base, head, "other"))
    assert (effect_of(there) == effect_of(make_plan(base, base, "i"))) == (
        there.verdict == "no effect"
        and (there.identity, there.nodes, there.unresolved)
        == (Identity(), (), make_plan(base, base, "i").unresolved)
    )


NEW = "cat@example.com"
LATER = "100.64.0.6"
to_come = st.sampled_from([[NEW], ["ana@example.com", NEW], ["ana@example.com"]])
ends = st.lists(
    st.sampled_from([NEW, "group:g", "autogroup:member", "tag:a", "*"]),
    min_size=1,
    max_size=2,
)
few = st.lists(
    st.fixed_dictionaries(
        {"src": ends, "dst": ends, "ip": st.lists(st.sampled_from(FLOWS), min_size=1, max_size=2)}
    ),
    max_size=2,
)


@settings(max_examples=60, deadline=None)
@given(before=few, after=few, was=to_come, now=to_come)
def test_who_has_no_device_is_told_of_before_the_first_one_is_there(
    before: list[dict[str, Any]], after: list[dict[str, Any]], was: list[str], now: list[str]
) -> None:
    """Whatever a device of theirs would gain or lose; and turned round for the way back."""
    base, head = side(before, was), side(after, now)
    nodes = f"{NODES}; {NEW}: n6"
    there, back = make_plan(base, head, "i"), make_plan(head, base, "i")
    then, later = (
        {one for one in passes(each.snapshot) if LATER in {one[0], one[2]} and one[0] != one[2]}
        for each in (side(before, was, nodes), side(after, now, nodes))
    )

    known = NEW in json.dumps([before, after, was, now])
    if known and later - then:
        assert there.absent_gained == (NEW,)
    if known and then - later:
        assert there.absent_lost == (NEW,)
    assert (there.absent_gained, there.absent_lost) == (back.absent_lost, back.absent_gained)


@settings(max_examples=40, deadline=None)
@given(text=rules, with_own=st.booleans(), who=members)
def test_gates_look_at_exactly_what_filters_let_through(
    text: list[dict[str, Any]], who: list[str], *, with_own: bool
) -> None:
    """A pair is connected when some packet passes, from or to devices or what they route."""
    snapshot = side([*text, *(own if with_own else [])], who).snapshot
    access = snapshot.access
    lists = [
        rule.sources for slot in snapshot.slots.of.values() for rule in access.chunks(slot).values()
    ]
    numbers = census(snapshot, lists)
    for node in snapshot.nodes.values():
        slot = snapshot.slot(node.id)
        flows = flows_of(node, access.chunks(slot), numbers)
        bits = 0
        for by_flow in flows.values():
            for sources in by_flow.values():
                bits |= sources
        expected = numbers.nodes(bits)
        behind = [
            place
            for number, place in enumerate(numbers.outside)
            if bits >> (2 * numbers.slots + number) & 1
        ]
        for router in snapshot.nodes.values():
            routed_places = [one for prefix in router.routes for one in places_of(str(prefix))]
            if any(
                one.first <= other.last and other.first <= one.last
                for one in behind
                for other in routed_places
            ):
                expected |= 1 << snapshot.slot(router.id)
        assert access.senders(slot) == expected & ~(1 << slot)


@settings(max_examples=100, deadline=None)
@given(slots=st.integers(0, 31))
def test_words_mean_exactly_the_nodes(slots: int) -> None:
    """Whatever set of nodes it is, its words give it back."""
    one = side([], ["ana@example.com"])
    wording = Wording(one.snapshot)
    by_name = {node.name: 1 << one.snapshot.slot(node.id) for node in one.snapshot.nodes.values()}
    meant = 0
    for word in wording.words(slots):
        meant |= wording.sets.get(word, 0) or by_name[word]

    assert meant == slots
