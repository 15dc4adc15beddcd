"""What the filters of nodes become when the policy is edited, rule by rule."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from dataclasses import replace
from ipaddress import IPv4Address

from mergescale.domain.record import Put, Write
from mergescale.domain.snapshot import Snapshot
from support.policies import chunks_of, filter_of, policy, sees
from support.worlds import named, routed, world

NODES = "ana@example.com: laptop; ben@example.com: desk, tower; eve@example.com: pad; tag:web: web"
RULES = [f"{source} > {target}" for source in ("ana", "eve") for target in ("tag:web:80", "*:1")]


def text(rules: Sequence[str], members: Collection[str] = ("ben@example.com",)) -> str:
    """Write ``ana > tag:web:80`` as a policy does; ``g`` is a group."""
    acls = []
    for rule in rules:
        source, _, target = rule.partition(" > ")
        who = source if source in {"*", "autogroup:member"} else f"{source}@example.com"
        acls.append({"action": "accept", "src": [who], "dst": [target]})
    sections = {"tagOwners": {"tag:web": []}, "groups": {"group:g": list(members)}}
    return json.dumps({**sections, "acls": acls})


def in_force(rules: Sequence[str], nodes: Snapshot | None = None) -> Snapshot:
    """Return the tailnet under these rules, all filters computed."""
    tailnet = world(NODES) if nodes is None else nodes
    snapshot = replace(tailnet, access=policy(text(rules)).resolve(tailnet))
    for slot in snapshot.slots.of.values():
        snapshot.access.chunks(slot)
    return snapshot


def edited(
    before: Snapshot,
    rules: Sequence[str],
    members: Collection[str] = ("ben@example.com",),
    writes: Sequence[Write] = (),
) -> Snapshot:
    """Return the tailnet after an edit that takes over what it can."""
    after = before.apply(writes)[0]
    return replace(after, access=policy(text(rules, members)).resolve(after, before.access))


def ports(snapshot: Snapshot, name: str) -> list[str]:
    """Return where a node can be reached, and by how many addresses."""
    rules = filter_of(snapshot, name)
    return sorted(f"{place} < {len(sources)}" for sources, places, _ in rules for place in places)


def test_a_new_rule_joins_the_filters_it_concerns() -> None:
    """The chunks that were there stay the same objects."""
    before = in_force(RULES)
    was = chunks_of(before, "web")

    after = edited(before, [*RULES, "ben > tag:web:22"])

    assert ports(after, "web") == sorted(
        [*ports(before, "web"), "100.64.0.5:22 < 4", "fd7a:115c:a1e0::5:22 < 4"]
    )
    assert all(chunks_of(after, "web")[name] is chunk for name, chunk in was.items())
    assert chunks_of(after, "desk") is chunks_of(before, "desk")


def test_a_rule_that_is_taken_out_leaves_the_filters() -> None:
    """Nobody may send what only that rule allowed."""
    before = in_force([*RULES, "ben > tag:web:22"])

    after = edited(before, RULES)

    assert ports(after, "web") == ports(in_force(RULES), "web")
    assert "desk" not in sees(after, "web")


def test_who_leaves_a_group_loses_what_the_group_could_be_sent() -> None:
    """The rule says the same as before, but leads elsewhere."""
    rules = [*RULES, "eve > group:g:5900"]
    before = in_force(rules)

    after = edited(before, rules, members=["ana@example.com"])

    assert [one for one in ports(before, "desk") if "5900" in one] == [
        "100.64.0.2:5900 < 2",
        "fd7a:115c:a1e0::2:5900 < 2",
    ]
    assert [one for one in ports(after, "desk") if "5900" in one] == []
    assert [one for one in ports(after, "laptop") if "5900" in one] == [
        "100.64.0.1:5900 < 2",
        "fd7a:115c:a1e0::1:5900 < 2",
    ]


def test_who_joins_a_group_is_let_in_by_the_same_lists() -> None:
    """The list of a rule that nobody edited is made once; so are the chunks of its other targets."""
    rules = [*RULES, "eve > group:g:5900", "eve > tag:web:5900"]
    before = in_force(rules)

    after = edited(
        before,
        [*rules, "ana > ben@example.com:7"],
        members=["ana@example.com", "ben@example.com"],
    )

    [was] = [one for one in chunks_of(before, "desk").values() if one.destinations[0].first == 5900]
    [joined, kept] = [
        next(one for one in chunks_of(after, name).values() if one.destinations[0].first == 5900)
        for name in ("laptop", "desk")
    ]
    assert joined.sources is was.sources
    assert kept is was
    assert "100.64.0.2:7 < 2" in ports(after, "desk")


def test_what_everybody_may_do_stays_while_routes_do() -> None:
    """A rule from ``*`` lists the subnets there are; an edit beside it leaves its chunk alone."""
    rules = ["* > tag:web:80", *RULES]
    before = in_force(rules, routed(world(NODES), "desk", "10.1.0.0/16"))

    after = edited(before, ["ben > tag:web:5", *rules])

    was, now = chunks_of(before, "web"), chunks_of(after, "web")
    assert all(now[name] is chunk for name, chunk in was.items())
    assert len(now) == len(was) + 1


def test_a_node_that_moves_meanwhile_is_reached_where_it_is() -> None:
    """Its address changed between what was in force and what the edit was resolved against."""
    rules = [*RULES, "ana > eve@example.com:5", "ana > eve@example.com:6"]
    before = in_force(rules)
    pad = replace(named(before, "pad"), ipv4=IPv4Address("100.64.7.7"))

    after = edited(before, [*rules, "ana > eve@example.com:7"], writes=[Put(pad)])

    assert [one for one in ports(after, "pad") if one.startswith("100.")] == [
        "100.64.7.7:5 < 2",
        "100.64.7.7:6 < 2",
        "100.64.7.7:7 < 2",
    ]


def test_a_source_that_moves_meanwhile_is_listed_where_it_is() -> None:
    """In the chunks of rules that nobody edited, too."""
    rules = ["ana > tag:web:80", "eve > tag:web:81", "eve > tag:web:82", "eve > tag:web:83"]
    before = in_force(rules)
    laptop = replace(named(before, "laptop"), ipv4=IPv4Address("100.64.7.7"))

    after = edited(before, [*rules, "eve > tag:web:84"], writes=[Put(laptop)])

    assert (
        ["100.64.7.7", "fd7a:115c:a1e0::1"],
        ["100.64.0.5:80", "fd7a:115c:a1e0::5:80"],
        [],
    ) in filter_of(after, "web")


def test_a_subnet_that_is_routed_meanwhile_may_send() -> None:
    """``*`` lists the subnets there are."""
    rules = ["* > tag:web:80", "eve > tag:web:81", "eve > tag:web:82", "eve > tag:web:83"]
    before = in_force(rules)
    router = named(routed(before, "desk", "10.1.0.0/16"), "desk")

    after = edited(before, rules, writes=[Put(router)])

    listed = [sources for sources, places, _ in filter_of(after, "web") if "80" in places[0][-2:]]
    assert ["10.1.0.0/16" in sources for sources in listed] == [True]


def test_own_devices_follow_the_rule_about_them() -> None:
    """A rule to ``autogroup:self`` that comes, differs or goes changes filters of own devices only."""
    before = in_force(RULES)
    came = edited(before, [*RULES, "ben > autogroup:self:22"])
    for slot in came.slots.of.values():
        came.access.chunks(slot)
    differs = edited(came, [*RULES, "ben > autogroup:self:23"])
    gone = edited(differs, RULES)

    own = [
        [one for one in ports(each, "desk") if ":2" in one[-8:]]
        for each in (before, came, differs, gone)
    ]
    assert own == [
        [],
        ["100.64.0.2:22 < 4", "fd7a:115c:a1e0::2:22 < 4"],
        ["100.64.0.2:23 < 4", "fd7a:115c:a1e0::2:23 < 4"],
        [],
    ]
    assert all(chunks_of(each, "pad") is chunks_of(before, "pad") for each in (came, differs, gone))


def test_filters_of_own_devices_stay_when_a_rule_beside_them_is_edited() -> None:
    """The very objects."""
    rules = [*RULES, "autogroup:member > autogroup:self:22"]
    before = in_force(rules)

    after = edited(before, [*rules, "ana > tag:web:9"])

    assert [
        name
        for name in ("laptop", "desk", "tower", "pad", "web")
        if chunks_of(after, name) is not chunks_of(before, name)
    ] == ["web"]


def test_an_edit_of_most_rules_is_made_anew_and_right() -> None:
    """Whatever they said before."""
    after = edited(in_force(RULES), ["ben > tag:web:1", "ana > tag:web:80", "ben > *:2"])

    assert ports(after, "web") == ports(
        in_force(["ben > tag:web:1", "ana > tag:web:80", "ben > *:2"]), "web"
    )


def test_many_rules_keep_who_is_in_which_apart() -> None:
    """Hundreds of source lists and targets: each rule admits whom it names, where it says."""
    hosts = [f"10.0.{number // 250}.{number % 250}" for number in range(600)]
    people = {"ana@example.com": ["100.64.0.1"], "eve@example.com": ["100.64.0.4"]}
    logins = ["ana@example.com", "eve@example.com", "nobody@example.com"]
    nodes = routed(world(NODES), "web", "10.0.0.0/16")
    acls = [
        {"action": "accept", "src": [one, logins[at % 3]], "dst": [f"{one}:{at + 1}"]}
        for at, one in enumerate(hosts)
    ]
    access = policy(json.dumps({"tagOwners": {"tag:web": []}, "acls": acls})).resolve(nodes)
    snapshot = replace(nodes, access=access)

    found = {
        places[0]: [one for one in sources if one.startswith("100.")]
        for sources, places, _ in filter_of(snapshot, "web")
    }
    assert found == {
        f"{one}:{at + 1}": people.get(logins[at % 3], []) for at, one in enumerate(hosts)
    }
    assert sees(snapshot, "web") == {"laptop", "pad"}
    rest = policy(json.dumps({"tagOwners": {"tag:web": []}, "acls": acls[1:]}))
    after = replace(nodes, access=rest.resolve(nodes, access))
    assert filter_of(after, "web") == [
        one for one in filter_of(snapshot, "web") if one[1] != [f"{hosts[0]}:1"]
    ]
