"""What a resolved policy answers, and what a refresh leaves alone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from ipaddress import IPv4Address, ip_network

import pytest

from mergescale.domain.access import FilterRule
from mergescale.domain.record import Drop, Put
from mergescale.domain.slots import Slots
from mergescale.domain.snapshot import Snapshot
from mergescale.kernel.ids import UserId
from support.policies import chunks_of, filter_of, governed, policy, sees, slot_of
from support.worlds import named, node, routed, step

NODES = "ana@example.com: laptop, phone; ben@example.com: desk; tag:web: web"
POLICY = """
{"tagOwners": {"tag:web": []},
 "acls": [
   {"action": "accept", "src": ["ana@example.com"], "dst": ["tag:web:80"]},
   {"action": "accept", "src": ["ben@example.com"], "dst": ["tag:web:22"]},
   {"action": "accept", "src": ["*"], "dst": ["ben@example.com:9"]},
   {"action": "accept", "src": ["autogroup:member"], "dst": ["autogroup:self:*"]},
   {"action": "accept", "src": ["ana@example.com"], "dst": ["10.1.0.0/16:80", "autogroup:internet:443"]},
 ]}
"""


def users_of(world: Snapshot, router: str, prefix: str) -> set[str]:
    slots = world.access.users_of(named(world, router).id, ip_network(prefix))
    return {world.nodes[one].name for one in world.slots.nodes(slots)}


def test_a_tailnet_without_devices_has_an_access() -> None:
    """The first device that joins then finds what the policy says."""
    before = governed("ana@example.com: ", POLICY)

    after = step(before, [Put(node(1, "laptop", user=UserId(1)))])

    assert filter_of(after, "laptop") == [
        (["100.64.0.1", "fd7a:115c:a1e0::1"], ["100.64.0.1:*", "fd7a:115c:a1e0::1:*"], [])
    ]


def test_what_no_selector_reads_changes_nothing() -> None:
    """A refresh after new endpoints or presence is the same access."""
    before = governed(NODES, POLICY)
    laptop = named(before, "laptop")

    after = step(before, [Put(replace(laptop, endpoints=("192.0.2.9:1",), home_derp=7))])

    assert after.access is before.access


def test_a_refresh_keeps_what_it_does_not_touch() -> None:
    """Chunks and source lists of others keep their identity; those that differ do not."""
    before = governed(NODES, POLICY)
    old = {name: chunks_of(before, name) for name in ("web", "desk", "laptop")}

    after = step(before, [Put(replace(named(before, "desk"), ipv4=IPv4Address("100.64.9.9")))])

    assert chunks_of(after, "laptop") is old["laptop"]
    web = chunks_of(after, "web")
    same = [name for name in web if web[name].sources is old["web"][name].sources]
    assert [[one.first for one in web[name].destinations] for name in same] == [[80, 80]]
    assert filter_of(after, "web") == [
        (["100.64.0.1", "100.64.0.2", "fd7a:115c:a1e0::1", "fd7a:115c:a1e0::2"],
         ["100.64.0.4:80", "fd7a:115c:a1e0::4:80"], []),
        (["100.64.9.9", "fd7a:115c:a1e0::3"], ["100.64.0.4:22", "fd7a:115c:a1e0::4:22"], []),
    ]  # fmt: skip


def test_a_new_route_reaches_every_list_that_means_everyone() -> None:
    """A `*` source lists a subnet once its router is approved, and not when it is not any more."""
    before = governed(NODES, POLICY)
    assert "10.7.0.0/16" not in filter_of(before, "desk")[0][0]

    after = routed(before, "web", "10.7.0.0/16", "0.0.0.0/0")
    assert "10.7.0.0/16" in filter_of(after, "desk")[0][0]
    assert "0.0.0.0/0" not in filter_of(after, "desk")[0][0]

    again = routed(after, "web", "10.7.0.0/16", approved=False)
    assert filter_of(again, "desk") == filter_of(before, "desk")


def test_who_does_not_take_part_is_not_there() -> None:
    """A node without approval, or of a suspended user, matches nothing and sees nobody."""
    before = governed(NODES, POLICY)
    assert sees(before, "web") == {"laptop", "phone", "desk"}

    after = step(before, [Put(replace(named(before, "phone"), authorized=False))])
    after = step(after, [Put(replace(after.users[UserId(2)], suspended=True))])

    assert sees(after, "web") == {"laptop"}
    assert (sees(after, "desk"), chunks_of(after, "desk")) == (set(), {})
    assert (sees(after, "phone"), chunks_of(after, "phone")) == (set(), {})
    assert sees(after, "laptop") == {"web"}


def test_a_dropped_node_leaves_and_a_new_one_joins() -> None:
    """Both are seen, or not, by exactly those whom the rules name."""
    before = governed(NODES, POLICY)

    after = step(before, [Drop(named(before, "phone"))])
    after = step(after, [Put(node(9, "pad", user=UserId(1)))])

    assert sees(after, "web") == {"laptop", "pad", "desk"}
    assert sees(after, "pad") == {"laptop", "web", "desk"}


def test_renumbered_slots_resolve_everything_again() -> None:
    """After a compaction of slots the answers are about the new slots."""
    before = governed(NODES, POLICY)
    slots = Slots().changed(sorted(before.slots.of, reverse=True), ())
    moved = replace(before, slots=replace(slots, generation=1))

    after = replace(moved, access=before.access.refreshed(moved, ()))

    assert sees(after, "web") == sees(before, "web")
    was, now = chunks_of(before, "web"), chunks_of(after, "web")
    assert {name: set(rule.sources.texts) for name, rule in now.items()} == {
        name: set(rule.sources.texts) for name, rule in was.items()
    }


def test_a_route_is_used_by_who_may_send_there_and_by_who_answers() -> None:
    """A router's subnet serves those who reach into it and those whom it reaches."""
    world = routed(governed(NODES, POLICY), "web", "10.1.0.0/16", "0.0.0.0/0")

    # `desk` is open to everyone, subnets included, and its answers go back through the router.
    assert users_of(world, "web", "10.1.0.0/16") == {"laptop", "phone", "desk"}
    assert users_of(world, "web", "0.0.0.0/0") == {"laptop", "phone"}
    assert users_of(world, "web", "10.2.0.0/16") == set()
    assert users_of(world, "desk", "10.1.0.0/16") == set()


def test_chunk_names_follow_what_a_rule_says_not_where_it_stands() -> None:
    """Rules put before another, or written in another order, leave its name alone."""
    rule = '{"action": "accept", "src": ["ana@example.com"], "dst": ["tag:web:80", "tag:web:81"]}'
    same = '{"action": "accept", "dst": ["tag:web:81", "tag:web:80"], "src": ["ANA@example.com"]}'
    other = '{"action": "accept", "src": ["ben@example.com"], "dst": ["tag:web:80"]}'
    text = '{"tagOwners": {"tag:web": []}, "acls": [%s]}'

    names = set(chunks_of(governed(NODES, text % rule), "web"))

    assert names == set(chunks_of(governed(NODES, text % same), "web"))
    assert names < set(chunks_of(governed(NODES, text % f"{other}, {rule}"), "web"))


#: Each differs from another one in a single thing.
RULES = [
    {"src": ["tag:a"], "dst": ["tag:a"], "ip": ["tcp:80"]},
    {"src": ["tag:a"], "dst": ["tag:a"], "ip": ["tcp:81"]},
    {"src": ["tag:a"], "dst": ["tag:a"], "ip": ["udp:80"]},
    {"src": ["tag:a"], "dst": ["tag:a"], "ip": ["80"]},
    {"src": ["tag:a"], "dst": ["tag:b"], "ip": ["tcp:80"]},
    {"src": ["tag:a", "*"], "dst": ["tag:a"], "ip": ["tcp:80"]},
    {"src": ["tag:a", "autogroup:danger-all"], "dst": ["tag:a"], "ip": ["tcp:80"]},
    {"src": ["*"], "dst": ["tag:a"], "ip": ["tcp:80"]},
    {"src": ["autogroup:danger-all"], "dst": ["tag:a"], "ip": ["tcp:80"]},
    {"src": ["tag:a"], "dst": ["tag:a"], "ip": ["tcp:80"], "srcPosture": ["posture:p"]},
    {"src": ["tag:a"], "dst": ["tag:a"], "ip": ["tcp:80"], "srcPosture": ["posture:q"]},
    {"src": ["tag:a"], "dst": ["10.1.0.0/16"], "ip": ["tcp:80"]},
    {"src": ["tag:a"], "dst": ["10.1.0.0/16"], "ip": ["tcp:80"], "via": ["tag:a"]},
    {"src": ["tag:a"], "dst": ["10.1.0.0/16"], "ip": ["tcp:80"], "via": ["tag:b"]},
    {"src": ["tag:a"], "dst": ["10.2.0.0/16"], "ip": ["tcp:80"], "via": ["tag:b"]},
    {"src": ["tag:a"], "dst": ["autogroup:internet"], "ip": ["tcp:80"], "via": ["tag:b"]},
    {"src": ["tag:a"], "dst": ["tag:a"], "app": {"example.com/x": []}},
    {"src": ["tag:a"], "dst": ["tag:a"], "app": {"example.com/y": []}},
    {"src": ["tag:a"], "dst": ["tag:a"], "app": {"example.com/x": [1]}},
    {"src": ["tag:a"], "dst": ["10.1.0.0/16"], "app": {"example.com/x": []}},
    {"src": ["tag:a"], "dst": ["10.2.0.0/16"], "app": {"example.com/x": []}},
]  # fmt: skip


def names_of(*grants: object) -> list[str]:
    """Return the names that the rules get."""
    sections = {
        "tagOwners": {"tag:a": [], "tag:b": []},
        "postures": {"posture:p": ["node:os == 'linux'"], "posture:q": ["node:os == 'macos'"]},
    }
    return [rule.name for rule in policy(json.dumps({**sections, "grants": grants})).rules]


def test_rules_that_differ_in_one_thing_have_different_names() -> None:
    """Or one would be left out as the same as the other."""
    assert len(set(names_of(*RULES))) == len(RULES)


@pytest.mark.parametrize("number", range(len(RULES)))
def test_a_rule_has_one_name_wherever_it_stands(number: int) -> None:
    """Whatever it leads to: names, addresses, through routers, or as capabilities."""
    rule, other = RULES[number], RULES[number - 1]
    assert names_of(rule) == names_of(other, rule)[1:]


def test_a_rule_has_one_name_in_every_process() -> None:
    """Replicas tell their clients the same, although sets have another order in each."""
    tags = [f"tag:{letter}" for letter in "abcdefgh"]
    rule = {"src": tags, "dst": ["10.1.0.0/16", "10.2.0.0/16"], "ip": ["*"], "via": tags}
    text = json.dumps({"tagOwners": {tag: [] for tag in tags}, "grants": [rule]})
    code = (
        "import sys; from support.policies import policy; print(policy(sys.argv[1]).rules[0].name)"
    )

    names = {
        subprocess.run(
            [sys.executable, "-c", code, text],
            env={"PYTHONPATH": os.pathsep.join(sys.path), "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
        for seed in ("1", "2")
    }

    assert names == {policy(text).rules[0].name}


def test_nodes_alike_share_a_chunk() -> None:
    """A chunk that does not depend on the node is one object for all of them."""
    world = governed(NODES, '{"acls": [{"action": "accept", "src": ["*"], "dst": ["*:*"]}]}')

    (laptop,), (web,) = (list(chunks_of(world, name).values()) for name in ("laptop", "web"))

    assert laptop is web


def test_an_unknown_slot_has_no_filter() -> None:
    """Asking about a slot that nobody has answers nothing."""
    world = governed(NODES, POLICY)
    slot = slot_of(world, "web")

    after = step(world, [Drop(named(world, "web"))])

    assert after.access.visible(slot) == 0
    assert after.access.chunks(slot) == {}


REFRESHED = """
{"tagOwners": {"tag:a": [], "tag:b": []},
 "acls": [
   {"action": "accept", "src": ["ana@example.com"], "dst": ["tag:a:80", "10.1.0.0/16:80"]},
   {"action": "accept", "src": ["ana@example.com"], "dst": ["10.2.0.0/16:80"]},
   {"action": "accept", "src": ["ben@example.com"], "dst": ["tag:b:22", "ana@example.com:22"]},
   {"action": "accept", "src": ["autogroup:member"], "dst": ["autogroup:self:9"]},
 ]}
"""
OWNED = (
    "ana@example.com: laptop, phone; ben@example.com: desk, tower; tag:a: one; tag:b: two, three"
)


def port_of(world: Snapshot, name: str, port: int) -> FilterRule:
    """Return the chunk by which a node is reached at a port."""
    chunks = chunks_of(world, name).values()
    [found] = [one for one in chunks if one.destinations[0].first == port]
    return found


def asked(world: Snapshot) -> Snapshot:
    """Compute all filters, so that there is something to take over."""
    for slot in world.slots.of.values():
        world.access.chunks(slot)
    return world


def test_a_refresh_makes_only_those_filters_anew_that_list_who_moved() -> None:
    """Of the others not even the mapping."""
    before = asked(governed(OWNED, REFRESHED))

    after = step(before, [Put(replace(named(before, "tower"), ipv4=IPv4Address("100.64.9.9")))])

    names = ("laptop", "phone", "desk", "tower", "one", "two", "three")
    assert [name for name in names if chunks_of(after, name) is not chunks_of(before, name)] == [
        "laptop", "phone", "desk", "tower", "two", "three",
    ]  # fmt: skip


def test_own_devices_are_listed_where_they_have_moved_to() -> None:
    """The moved device's owner has a new list of own devices, others keep theirs."""
    before = asked(governed(OWNED, REFRESHED))

    after = step(before, [Put(replace(named(before, "tower"), ipv4=IPv4Address("100.64.9.9")))])

    moved = ("100.64.0.3", "100.64.9.9", "fd7a:115c:a1e0::3", "fd7a:115c:a1e0::4")
    assert port_of(after, "desk", 9).sources.texts == moved
    assert port_of(after, "laptop", 22).sources.texts == moved
    assert port_of(after, "laptop", 9).sources is port_of(before, "laptop", 9).sources


def test_routers_share_a_chunk_through_refreshes() -> None:
    """What leads to a subnet is the same at each of its routers, of a route that came later too."""
    before = routed(governed(OWNED, REFRESHED), "two", "10.2.0.0/16")
    shared = port_of(asked(before), "two", 80)

    after = routed(before, "three", "10.2.0.0/16")
    assert port_of(after, "three", 80) is shared

    moved = step(after, [Put(replace(named(after, "phone"), ipv4=IPv4Address("100.64.9.9")))])
    for name in ("two", "three"):
        assert "100.64.9.9" in port_of(moved, name, 80).sources.texts


@pytest.mark.parametrize("names", [("one", "three"), ("three", "one")])
def test_nodes_that_move_in_one_change_are_all_reached_where_they_are(
    names: tuple[str, str],
) -> None:
    """Whichever of them comes first."""
    before = asked(governed(OWNED, REFRESHED))
    places = {name: IPv4Address(f"100.64.9.{number}") for number, name in enumerate(names, 1)}

    after = step(before, [Put(replace(named(before, n), ipv4=at)) for n, at in places.items()])

    for name, at in places.items():
        [reached] = [one.destinations for one in chunks_of(after, name).values()]
        assert str(at) in {one.ip for one in reached}


def test_sources_that_move_in_one_change_are_all_listed_where_they_are() -> None:
    """In the lists of different rules."""
    before = asked(governed(OWNED, REFRESHED))
    moved = [
        Put(replace(named(before, name), ipv4=IPv4Address(f"100.64.9.{number}")))
        for number, name in enumerate(("phone", "tower", "three"), 1)
    ]

    after = step(before, moved)

    assert "100.64.9.1" in port_of(after, "one", 80).sources.texts
    assert "100.64.9.2" in port_of(after, "two", 22).sources.texts


def test_a_route_that_comes_with_other_changes_is_listed() -> None:
    """Among what ``*`` means."""
    before = asked(governed(NODES, POLICY))
    phone = replace(named(before, "phone"), ipv4=IPv4Address("100.64.9.9"))
    for name in ("laptop", "web"):
        router = named(routed(before, name, "10.7.0.0/16"), name)
        after = step(before, [Put(router), Put(phone)])
        assert "10.7.0.0/16" in port_of(after, "desk", 9).sources.texts
        assert "100.64.9.9" in port_of(after, "web", 80).sources.texts


def test_a_second_router_of_a_subnet_changes_its_own_filter_only() -> None:
    """The subnets that ``*`` means are the same as before."""
    before = asked(routed(governed(NODES, POLICY), "laptop", "10.1.0.0/16"))

    after = routed(before, "phone", "10.1.0.0/16")

    names = ("laptop", "phone", "desk", "web")
    assert [name for name in names if chunks_of(after, name) is not chunks_of(before, name)] == [
        "phone"
    ]


def test_a_route_leaves_the_filters_of_the_owners_other_devices() -> None:
    """They list each other as before."""
    before = asked(governed(OWNED, REFRESHED))

    after = routed(before, "phone", "10.9.0.0/16")

    assert chunks_of(after, "laptop") is chunks_of(before, "laptop")


def test_the_first_device_of_a_person_has_own_devices_from_then_on() -> None:
    """Whoever had none when everything was resolved."""
    before = asked(governed(f"{OWNED}; eve@example.com: ", REFRESHED))

    after = step(before, [Put(node(9, "pad", user=UserId(3)))])

    assert port_of(after, "pad", 9).sources.texts == ("100.64.0.9", "fd7a:115c:a1e0::9")


def test_a_device_that_is_tagged_and_moves_at_once_leaves_one_list_for_another() -> None:
    """Its owner's other devices do not list it any more, nor do rules from its owner."""
    text = """
    {"tagOwners": {"tag:a": [], "tag:b": []},
     "acls": [
       {"action": "accept", "src": ["ana@example.com"], "dst": ["tag:a:80"]},
       {"action": "accept", "src": ["tag:b"], "dst": ["tag:a:81"]},
       {"action": "accept", "src": ["*"], "dst": ["autogroup:self:9"]},
     ]}
    """
    before = asked(governed(OWNED, text))
    moved = replace(
        named(before, "phone"), user=None, tags=("tag:b",), ipv4=IPv4Address("100.64.9.9")
    )

    after = step(before, [Put(moved)])

    assert port_of(after, "one", 80).sources.texts == ("100.64.0.1", "fd7a:115c:a1e0::1")
    assert port_of(after, "laptop", 9).sources.texts == ("100.64.0.1", "fd7a:115c:a1e0::1")
    assert "100.64.9.9" in port_of(after, "one", 81).sources.texts


def test_lists_follow_who_joins_and_who_leaves() -> None:
    """Filters that were computed before as well."""
    before = asked(governed(NODES, POLICY))

    after = asked(step(before, [Drop(named(before, "phone"))]))
    assert port_of(after, "web", 80).sources.texts == ("100.64.0.1", "fd7a:115c:a1e0::1")

    again = step(after, [Put(node(9, "pad", user=UserId(1)))])
    assert port_of(again, "web", 80).sources.texts == (
        "100.64.0.1", "100.64.0.9", "fd7a:115c:a1e0::1", "fd7a:115c:a1e0::9",
    )  # fmt: skip


def test_who_takes_no_part_is_nowhere_from_the_start() -> None:
    """A policy resolved anew beside nodes that await approval knows the others only."""
    before = governed(NODES, POLICY)
    waiting = step(before, [Put(replace(named(before, "phone"), authorized=False))])

    after = replace(waiting, access=policy(POLICY).resolve(waiting))

    assert sees(after, "web") == {"laptop", "desk"}
    assert port_of(after, "web", 80).sources.texts == ("100.64.0.1", "fd7a:115c:a1e0::1")


def test_subnets_stay_listed_through_other_changes() -> None:
    """One change after another, each of which makes the list of ``*`` anew."""
    world = routed(governed(NODES, POLICY), "web", "10.7.0.0/16")
    for number in (8, 9):
        address = IPv4Address(f"100.64.9.{number}")
        world = asked(step(world, [Put(replace(named(world, "phone"), ipv4=address))]))
        world = asked(step(world, [Drop(named(world, "desk"))] if number == 8 else []))
        world = step(world, [Put(node(10 + number, f"x{number}", user=UserId(2)))])

    assert "10.7.0.0/16" in port_of(world, "x9", 9).sources.texts
