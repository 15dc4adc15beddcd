"""What must hold of every policy over every tailnet, whatever happens to the tailnet."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from ipaddress import IPv4Address, ip_address, ip_network
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from mergescale.domain.declaration import Declaration
from mergescale.domain.node import Node
from mergescale.domain.prefixes import is_exit, sort_key
from mergescale.domain.record import Drop, Put, Write
from mergescale.domain.snapshot import Snapshot
from mergescale.domain.user import Role, User
from mergescale.kernel.ids import NodeId, Slot, UserId
from mergescale.policy.places import INTERNET
from support.clock import START
from support.policies import admits, holds, policy
from support.worlds import node, step, world

TEXT = dict[str, Any]
LOGINS = ("ana@example.com", "ben@example.com", "eve")
TAGS = ("tag:a", "tag:b")
GROUPS = {"group:g": ["ana@example.com", "eve@"], "group:h": ["ben@example.com"]}
PREFIXES = ("10.1.0.0/16", "10.1.2.0/24", "fd00:1::/64", "0.0.0.0/0", "::/0")
ROLES = {"ana@example.com": Role.ADMIN, "eve": Role.AUDITOR}
IP_SETS = {"ipset:lab": ["10.1.0.0/16", "remove 10.1.2.0/24", "add 100.64.0.3", "fd00:1::/64"]}
NAMED = (
    *LOGINS[:2],
    "eve@",
    *TAGS,
    *GROUPS,
    "autogroup:member",
    "autogroup:tagged",
    "autogroup:admin",
    "user:*@example.com",
)
WRITTEN = (
    "100.64.0.2",
    "100.64.0.0/30",
    "10.1.2.0/25",
    "10.0.0.0/8",
    "fd00:1::5",
    "10.1.0.9-10.1.3.1",
)
PORTS = ("*", "22", "80-90", "22,443")
PROTOCOLS = (None, "tcp", "udp")
#: ``ip`` of a grant -> the protocol and the ports of an entry of ``acls`` that says the same.
IP = {"*": (None, "*"), "22": (None, "22"), "tcp:80-90": ("tcp", "80-90"), "udp:*": ("udp", "*")}
START_NODES = "ana@example.com: n1, n2; ben@example.com: n3; eve: n4; tag:a: n5; tag:a+tag:b: n6"

everywhere = [*NAMED, *WRITTEN, *IP_SETS, "*"]
POSTURES = {
    "posture:linux": ["node:os == 'linux'"],
    "posture:new": ["node:os IN ['linux', 'macos']", "node:tsVersion >= '1.40'"],
}
SYSTEMS = (
    b'{"OS":"linux"}',
    b'{"OS":"macOS","IPNVersion":"1.62.0"}',
    b'{"OS":"windows","IPNVersion":"1.8.1"}',
)
postured = st.lists(st.sampled_from(sorted(POSTURES)), min_size=1, max_size=2)

sources = st.lists(st.sampled_from([*everywhere, "autogroup:danger-all"]), min_size=1, max_size=2)
places = st.sampled_from([*everywhere, "autogroup:internet"])


@st.composite
def plain_rules(draw: st.DrawFn) -> TEXT:
    rule: TEXT = {
        "action": "accept",
        "src": draw(sources),
        "dst": [
            f"{draw(places)}:{draw(st.sampled_from(PORTS))}" for _ in range(draw(st.integers(1, 2)))
        ],
    }
    if draw(st.integers(0, 3)) == 0:
        rule["srcPosture"] = draw(postured)
    protocol = draw(st.sampled_from(PROTOCOLS))
    return rule if protocol is None else {**rule, "proto": protocol}


@st.composite
def own_rules(draw: st.DrawFn) -> TEXT:
    people = st.sampled_from(["*", "autogroup:member", "group:g", "ben@example.com"])
    ports = draw(st.sampled_from(PORTS))
    rule: TEXT = {"action": "accept", "src": [draw(people)], "dst": [f"autogroup:self:{ports}"]}
    return {**rule, "srcPosture": draw(postured)} if draw(st.booleans()) else rule


@st.composite
def grants(draw: st.DrawFn) -> TEXT:
    rule: TEXT = {
        "src": draw(sources),
        "dst": [draw(places)],
        "ip": [draw(st.sampled_from(list(IP)))],
    }
    if draw(st.booleans()):
        rule["srcPosture"] = draw(postured)
    if draw(st.booleans()):
        rule["via"] = draw(st.lists(st.sampled_from(TAGS), min_size=1, max_size=2))
    if draw(st.booleans()) and "autogroup:internet" not in rule["dst"]:
        rule["app"] = {"example.com/cap/x": [{"level": 1}], "tailscale.com/cap/drive": []}
    return rule


rules = st.lists(st.one_of(plain_rules(), plain_rules(), own_rules(), grants()), max_size=5)
prefix_sets = st.sets(st.sampled_from(PREFIXES), max_size=3)


def text_of(acls: list[TEXT], groups: dict[str, list[str]] | None = None) -> str:
    sections: TEXT = {
        "postures": POSTURES,
        "groups": groups or GROUPS,
        "ipsets": IP_SETS,
        "tagOwners": {tag: [] for tag in TAGS},
    }
    plain = [rule for rule in acls if "action" in rule]
    return json.dumps(
        {**sections, "acls": plain, "grants": [rule for rule in acls if "action" not in rule]}
    )


def under(acls: list[TEXT], routes: dict[str, set[str]] | None = None) -> Snapshot:
    """Return the starting tailnet under a policy, with routes advertised and approved."""
    snapshot = world(START_NODES, declaration=Declaration(policy(text_of(acls))))
    writes: list[Write] = [
        Put(rerouted(snapshot.nodes[snapshot.names[name]], prefixes, prefixes))
        for name, prefixes in (routes or {}).items()
    ]
    writes += [
        Put(replace(snapshot.nodes[snapshot.names[name]], hostinfo=said))
        for name, said in (("n2", SYSTEMS[1]), ("n3", SYSTEMS[2]))
    ]
    people = (user for user in snapshot.users.values() if user.login in ROLES)
    writes += [Put(replace(user, role=ROLES[user.login])) for user in people]
    return step(snapshot, writes)


def rerouted(one: Node, advertised: set[str], approved: set[str]) -> Node:
    routes = tuple(sorted(map(ip_network, advertised), key=sort_key))
    return replace(one, advertised=routes, approved=frozenset(map(ip_network, approved)))


steps = st.one_of(
    st.tuples(st.just("add"), st.sampled_from([1, 2, 3, *TAGS])),
    st.tuples(st.just("drop"), st.integers(0, 9)),
    st.tuples(st.just("route"), st.integers(0, 9), prefix_sets, prefix_sets),
    st.tuples(st.just("tag"), st.integers(0, 9), st.sampled_from(TAGS)),
    st.tuples(st.just("give"), st.integers(0, 9), st.integers(1, 3)),
    st.tuples(st.just("system"), st.integers(0, 9), st.sampled_from(SYSTEMS)),
    st.tuples(st.just("authorize"), st.integers(0, 9), st.booleans()),
    st.tuples(st.just("suspend"), st.integers(1, 3), st.booleans()),
    st.tuples(st.just("role"), st.integers(1, 3), st.sampled_from([Role.ADMIN, Role.MEMBER])),
    st.tuples(
        st.just("rename"),
        st.integers(1, 3),
        st.sampled_from(["ana@example.com", "zoe@example.com"]),
    ),
    st.tuples(st.just("move"), st.integers(0, 9), st.integers(2, 9)),
)


def writes_of(snapshot: Snapshot, change: tuple[Any, ...]) -> list[Write]:
    """Turn a drawn change into what the engine would write."""
    match change:
        case ("add", owner):
            number = max(snapshot.nodes, default=0) + 1
            tags = (owner,) if isinstance(owner, str) else ()
            user = None if tags else UserId(owner)
            return [Put(node(number, f"x{number}", user=user, tags=tags))]
        case ("suspend", user, suspended):
            return [Put(replace(snapshot.users[UserId(user)], suspended=suspended))]
        case ("role", user, role):
            return [Put(replace(snapshot.users[UserId(user)], role=role))]
        case ("rename", user, login):
            if snapshot.user_by_login(login) is not None:
                return []
            return [Put(User(UserId(user), login, "", Role.MEMBER, START))]
        case (_, index, *_) if not snapshot.nodes:
            return []
        case (what, index, *rest):
            one = snapshot.nodes[sorted(snapshot.nodes)[index % len(snapshot.nodes)]]
            return [Drop(one)] if what == "drop" else [Put(changed(one, what, *rest))]
    return []


def changed(one: Node, what: str, *rest: Any) -> Node:
    match what, rest:
        case "route", (advertised, approved):
            return rerouted(one, advertised, approved)
        case "tag", (tag,):
            return replace(one, user=None, tags=(tag,))
        case "give", (user,):
            return replace(one, user=UserId(user), tags=())
        case "system", (said,):
            return replace(one, hostinfo=said)
        case "authorize", (authorized,):
            return replace(one, authorized=authorized)
        case _:
            (offset,) = rest
            return replace(one, ipv4=IPv4Address(f"100.64.{offset}.{one.id % 250}"))


def answers(snapshot: Snapshot) -> dict[str, Any]:
    """Return everything an access says about the nodes of its snapshot."""
    access, slots = snapshot.access, snapshot.slots.of
    return {
        "visible": {one: access.visible(slot) for one, slot in slots.items()},
        "chunks": {one: dict(access.chunks(slot)) for one, slot in slots.items()},
        "users": {
            (one, prefix): access.users_of(one, ip_network(prefix))
            for one in slots
            for prefix in PREFIXES
        },
    }


@settings(max_examples=100, deadline=None)
@given(acls=rules, story=st.lists(steps, max_size=8))
def test_refreshing_equals_resolving_anew(acls: list[TEXT], story: list[tuple[Any, ...]]) -> None:
    """After any sequence of changes the refreshed access answers as one resolved from scratch."""
    snapshot = under(acls)
    for change in story:
        answers(snapshot)
        snapshot = step(snapshot, writes_of(snapshot, change))
        assert snapshot.policy is not None
        fresh = replace(snapshot, access=snapshot.policy.resolve(snapshot))
        assert answers(snapshot) == answers(fresh)


def unordered(found: dict[str, Any]) -> dict[str, Any]:
    """Return the answers without the order of places in a rule, which no client looks at."""
    chunks = {
        one: {
            name: (rule.sources, Counter(rule.destinations), rule.protocols, rule.grant)
            for name, rule in rules.items()
        }
        for one, rules in found["chunks"].items()
    }
    return {**found, "chunks": chunks}


@settings(max_examples=100, deadline=None)
@given(
    before=rules,
    after=rules,
    kept=st.integers(0, 5),
    groups=st.sampled_from([GROUPS, {**GROUPS, "group:g": ["ben@example.com"]}]),
    change=st.one_of(st.none(), steps),
)
def test_what_an_edit_leaves_alone_is_taken_over_and_right(
    before: list[TEXT],
    after: list[TEXT],
    kept: int,
    groups: dict[str, list[str]],
    change: tuple[Any, ...] | None,
) -> None:
    """Resolving with what was in force answers as resolving without, whatever was edited."""
    old = under(before)
    answers(old)
    compiled = policy(text_of([*before[:kept], *after], groups))
    new = old if change is None else old.apply(writes_of(old, change))[0]
    carried = compiled.resolve(new, old.access)
    fresh = compiled.resolve(new)

    found = unordered(answers(replace(new, access=carried)))
    assert found == unordered(answers(replace(new, access=fresh)))


any_rule = st.one_of(plain_rules(), plain_rules(), own_rules(), grants())
edits = st.one_of(
    st.tuples(st.just("put"), st.integers(0, 9), any_rule),
    st.tuples(st.just("move"), st.integers(0, 9), st.integers(0, 9)),
    st.tuples(st.just("members"), st.sampled_from([GROUPS, {**GROUPS, "group:g": []}])),
)


@settings(max_examples=100, deadline=None)
@given(
    acls=st.lists(any_rule, min_size=3, max_size=6),
    story=st.lists(st.tuples(edits, st.sets(st.integers(0, 5)), st.none() | steps), max_size=5),
)
def test_edits_upon_edits_are_taken_over_and_right(
    acls: list[TEXT], story: list[tuple[Any, ...]]
) -> None:
    """Small edits one after another, some filters asked for between them: still as from scratch."""
    snapshot, groups = under(acls), GROUPS
    for edit, asked, change in story:
        for slot in asked:
            snapshot.access.chunks(Slot(slot))
        match edit:
            case "put", at, rule:
                acls = [*acls[: at % len(acls)], rule, *acls[at % len(acls) + 1 :]]
            case "move", at, to:
                rest = [*acls]
                rest.insert(to % len(acls), rest.pop(at % len(acls)))
                acls = rest
            case _, members:
                groups = members
        compiled = policy(text_of(acls, groups))
        after = snapshot if change is None else snapshot.apply(writes_of(snapshot, change))[0]
        snapshot = replace(after, access=compiled.resolve(after, snapshot.access))
        fresh = replace(after, access=compiled.resolve(after))
        assert unordered(answers(snapshot)) == unordered(answers(fresh))


def test_an_edit_keeps_the_filters_it_does_not_concern() -> None:
    """The very objects, so that nobody compares them again."""
    web = {"action": "accept", "src": ["ana@example.com"], "dst": ["tag:b:80"]}
    lab = {"action": "accept", "src": ["group:h"], "dst": ["ana@example.com:22"]}
    edited = {**lab, "dst": ["ana@example.com:23"]}
    old = under([web, lab])
    answers(old)
    new = policy(text_of([edited, web])).resolve(old, old.access)

    untouched = [
        old.nodes[node].name
        for node, slot in old.slots.of.items()
        if new.chunks(slot) is old.access.chunks(slot)
    ]
    assert untouched == ["n3", "n4", "n5", "n6"]


def test_an_edit_keeps_the_chunks_of_the_rules_beside_it() -> None:
    """A filter that an edit concerns differs in that rule alone; the others are the same objects."""
    lab = {"action": "accept", "src": ["group:h"], "dst": ["tag:b:22"]}
    own = {"action": "accept", "src": ["autogroup:member"], "dst": ["autogroup:self:*"]}
    web = {"action": "accept", "src": ["ana@example.com"], "dst": ["tag:b:80", "group:g:80"]}
    old = under([lab, web, own])
    answers(old)
    edited = {**lab, "dst": ["tag:b:23", "group:g:23"]}
    new = policy(text_of([edited, web, own])).resolve(old, old.access)

    kept_ports = {
        old.nodes[node].name: [
            one.destinations[0].first
            for name, one in new.chunks(slot).items()
            if one is old.access.chunks(slot).get(name)
        ]
        for node, slot in old.slots.of.items()
    }
    assert {name: sorted(ports) for name, ports in kept_ports.items()} == {
        "n1": [0, 80],
        "n2": [0, 80],
        "n3": [0],
        "n4": [0, 80],
        "n5": [],
        "n6": [80],
    }


@settings(max_examples=60, deadline=None)
@given(acls=rules, routes=st.dictionaries(st.sampled_from(["n1", "n5"]), prefix_sets))
def test_visibility_is_symmetric_and_never_of_oneself(
    acls: list[TEXT], routes: dict[str, set[str]]
) -> None:
    """Whom a node sees sees it; nobody sees itself."""
    snapshot = under(acls, routes)
    slots = snapshot.slots.of.values()
    for one in slots:
        assert not snapshot.access.visible(one) >> one & 1
        for other in slots:
            forth = snapshot.access.visible(one) >> other & 1
            assert forth == snapshot.access.visible(other) >> one & 1


ADDRESSES = (
    "10.1.2.3",
    "10.1.2.200",
    "10.9.9.9",
    "fd00:1::5",
    "192.0.2.7",
    "2001:db8::7",
    "192.168.0.1",
)
questions = st.lists(
    st.tuples(st.sampled_from([6, 17, 1]), st.sampled_from([22, 80, 443, 1000])),
    min_size=1,
    max_size=2,
    unique=True,
)


def flows(snapshot: Snapshot, asked: list[tuple[int, int]]) -> set[tuple[str, str, str, int, int]]:
    """Return who may send what: (source address, receiving node, address behind it, ...)."""
    found = set()
    for viewer in snapshot.nodes.values():
        chunks = snapshot.access.chunks(snapshot.slot(viewer.id))
        for source in senders(snapshot):
            for target in (str(viewer.ipv4), str(viewer.ipv6), *routed_by(viewer)):
                for protocol, port in asked:
                    if admits(chunks, source, target, protocol, port):
                        found.add((source, viewer.name, target, protocol, port))
    return found


def senders(snapshot: Snapshot) -> list[str]:
    own = [str(a) for one in snapshot.nodes.values() for a in (one.ipv4, one.ipv6)]
    return [*own, *ADDRESSES[:4]]


def routed_by(one: Node) -> list[str]:
    return [a for a in ADDRESSES if any(ip_address(a) in prefix for prefix in one.routes)]


@settings(max_examples=25, deadline=None)
@given(acls=rules, more=st.one_of(plain_rules(), own_rules()), asked=questions, routed=prefix_sets)
def test_a_further_rule_takes_nothing_away(
    acls: list[TEXT], more: TEXT, asked: list[tuple[int, int]], routed: set[str]
) -> None:
    """Whatever a policy admits it still admits with one more rule, wherever that stands."""
    before = flows(under(acls, {"n5": routed}), asked)

    assert before <= flows(under([*acls, more], {"n5": routed}), asked)
    assert before <= flows(under([more, *acls], {"n5": routed}), asked)


@settings(max_examples=40, deadline=None)
@given(acls=rules, asked=questions, first=prefix_sets, second=prefix_sets)
def test_filters_admit_what_the_rules_say(
    acls: list[TEXT], asked: list[tuple[int, int]], first: set[str], second: set[str]
) -> None:
    """Compiled filters agree with a reading of the rules one by one, packet by packet."""
    snapshot = under(acls, {"n1": first, "n6": second})
    expected = {
        (source, viewer.name, target, protocol, port)
        for viewer in snapshot.nodes.values()
        for source in senders(snapshot)
        for target in (str(viewer.ipv4), str(viewer.ipv6), *routed_by(viewer))
        for protocol, port in asked
        if any(says(snapshot, rule, source, viewer, target, protocol, port) for rule in acls)
    }

    assert flows(snapshot, asked) == expected


def says(
    snapshot: Snapshot, rule: TEXT, source: str, viewer: Node, target: str, protocol: int, port: int
) -> bool:
    """Read one rule as its author would."""
    if "action" not in rule:
        name, ports = IP[rule["ip"][0]]
        plain = {"src": rule["src"], "dst": [f"{one}:{ports}" for one in rule["dst"]]}
        steered = set(rule.get("via", viewer.tags))
        if "via" in rule and not (steered & {*viewer.tags} and leads(rule["dst"][0], viewer)):
            return False
        asked = {"srcPosture": rule["srcPosture"]} if "srcPosture" in rule else {}
        rule = {**plain, **asked, "proto": name}
    if protocol not in {None: (1, 6, 17), "tcp": (6,), "udp": (17,)}[rule.get("proto")]:
        return False
    sender = snapshot.nodes.get(snapshot.addresses.get(ip_address(source), NodeId(0)))
    if "srcPosture" in rule and not has_posture(rule["srcPosture"], sender):
        return False
    meant = [one for one in rule["src"] if is_source(snapshot, one, source, sender)]
    for written in rule["dst"]:
        place, _, ports = written.rpartition(":")
        if protocol == 1 or in_ports(ports, port):
            if place == "autogroup:self":
                mine = sender is not None and sender.user == viewer.user is not None
                own = target in {str(viewer.ipv4), str(viewer.ipv6)}
                if meant and mine and own:
                    return True
            elif meant and is_target(snapshot, place, viewer, target):
                return True
    return False


APP = {"example.com/cap/x": [{"level": 1}, {}], "tailscale.com/cap/drive": []}
VALUES = {
    "example.com/cap/x": (b'{"level":1}', b"{}"),
    "tailscale.com/cap/drive": (),
    "tailscale.com/cap/drive-sharer": (),
}


@st.composite
def app_grants(draw: st.DrawFn) -> TEXT:
    rule: TEXT = {
        "src": draw(sources),
        "dst": draw(st.lists(st.sampled_from(everywhere), min_size=1, max_size=2)),
        "app": APP,
    }
    if draw(st.integers(0, 2)) == 0:
        people = st.sampled_from(["autogroup:member", "group:g", "ben@example.com"])
        rule = {**rule, "src": [draw(people)], "dst": [*rule["dst"], "autogroup:self"]}
    return {**rule, "srcPosture": draw(postured)} if draw(st.booleans()) else rule


@settings(max_examples=60, deadline=None)
@given(
    acls=st.lists(st.one_of(app_grants(), app_grants(), plain_rules()), min_size=1, max_size=4),
    routed=prefix_sets,
)
def test_capabilities_are_those_that_the_rules_grant(acls: list[TEXT], routed: set[str]) -> None:
    """Compiled grants agree with a reading of the rules one by one, address by address."""
    snapshot = under(acls, {"n6": routed})
    expected = {
        (source, viewer.name, str(target), name, VALUES[name])
        for viewer in snapshot.nodes.values()
        for source in senders(snapshot)
        for target in (viewer.ipv4, viewer.ipv6)
        for rule in acls
        if "app" in rule
        for name in granted(snapshot, rule, source, viewer, str(target))
    }

    assert held(snapshot) == expected


def held(snapshot: Snapshot) -> set[tuple[str, str, str, str, tuple[bytes, ...]]]:
    """Return who may do what where: (source address, node, its address, capability, values)."""
    return {
        (source, viewer.name, address.partition("/")[0], name, values)
        for viewer in snapshot.nodes.values()
        for rule in snapshot.access.chunks(snapshot.slot(viewer.id)).values()
        if rule.grant is not None
        for source in senders(snapshot)
        if any(holds(text, source) for text in rule.sources.texts)
        for address in rule.grant.addresses
        for name, values in rule.grant.capabilities
    }


def granted(snapshot: Snapshot, rule: TEXT, source: str, viewer: Node, target: str) -> set[str]:
    """Read one grant as its author would."""
    sender = snapshot.nodes.get(snapshot.addresses.get(ip_address(source), NodeId(0)))
    may = any(is_source(snapshot, one, source, sender) for one in rule["src"])
    may = may and ("srcPosture" not in rule or has_posture(rule["srcPosture"], sender))
    places = [one for one in rule["dst"] if one != "autogroup:self"]
    found: set[str] = set()
    if may and any(is_holder(snapshot, one, viewer, target) for one in places):
        found |= APP.keys()
    if (
        may
        and places != rule["dst"]
        and sender is not None
        and sender.user == viewer.user is not None
    ):
        found |= VALUES.keys()
    back = any(is_source(snapshot, one, source, sender) for one in places)
    if back and any(is_holder(snapshot, one, viewer, target) for one in rule["src"]):
        found.add("tailscale.com/cap/drive-sharer")
    return found


def is_holder(snapshot: Snapshot, selector: str, viewer: Node, target: str) -> bool:
    """Say whether a place means the node itself; what it routes holds no capabilities."""
    if selector in {"*", "autogroup:danger-all"}:
        return True
    if texts := texts_of(selector):
        return any(holds(text, target) for text in texts)
    return is_named(snapshot, selector, viewer)


def has_posture(names: list[str], sender: Node | None) -> bool:
    if sender is None:
        return False
    said = json.loads(sender.hostinfo)
    linux = said["OS"] == "linux"
    new = said["OS"] in {"linux", "macOS"} and said.get("IPNVersion", "0") == "1.62.0"
    return any({"posture:linux": linux, "posture:new": new}[name] for name in names)


def leads(place: str, router: Node) -> bool:
    """Say whether a ``via`` to this place goes through the router."""
    subnets = [prefix for prefix in router.routes if not is_exit(prefix)]
    if place == "*":
        return bool(router.routes)
    if place == "autogroup:internet":
        return any(is_exit(prefix) for prefix in router.routes)
    return any(meets(text, prefix) for text in texts_of(place) for prefix in subnets)


def texts_of(place: str) -> list[str]:
    """Return the addresses that a written place or a set means."""
    lab = ["10.1.0.0-10.1.1.255", "10.1.3.0-10.1.255.255", "100.64.0.3", "fd00:1::/64"]
    return lab if place in IP_SETS else [place] if place in WRITTEN else []


def in_ports(written: str, port: int) -> bool:
    for part in written.split(","):
        first, _, last = part.partition("-")
        if part == "*" or int(first) <= port <= int(last or first):
            return True
    return False


def is_source(snapshot: Snapshot, selector: str, source: str, sender: Node | None) -> bool:
    if selector == "*":
        subnets = [p for n in snapshot.nodes.values() for p in n.routes if not is_exit(p)]
        return sender is not None or any(ip_address(source) in prefix for prefix in subnets)
    if selector == "autogroup:danger-all":
        return True
    if texts := texts_of(selector):
        return any(holds(text, source) for text in texts)
    return sender is not None and is_named(snapshot, selector, sender)


def is_target(snapshot: Snapshot, selector: str, viewer: Node, target: str) -> bool:
    own = target in {str(viewer.ipv4), str(viewer.ipv6)}
    if selector == "*":
        return True
    if selector == "autogroup:internet":
        family = ip_address(target).version
        exit_node = any(is_exit(p) and p.version == family for p in viewer.routes)
        return exit_node and any(holds(text, target) for text in INTERNET[family])
    for text in texts_of(selector):
        routed = any(not is_exit(prefix) and meets(text, prefix) for prefix in viewer.routes)
        here = any(holds(text, str(a)) for a in (viewer.ipv4, viewer.ipv6))
        if (routed or here) and holds(text, target):
            return True
    return own and is_named(snapshot, selector, viewer)


def meets(selector: str, prefix: Any) -> bool:
    first = ip_address(selector.partition("-")[0].partition("/")[0])
    return first in prefix or holds(selector, str(prefix.network_address))


def is_named(snapshot: Snapshot, selector: str, one: Node) -> bool:
    owner = snapshot.owner(one)
    if owner is None:
        return selector in one.tags or selector == "autogroup:tagged"
    login = owner.login if "@" in owner.login else f"{owner.login}@"
    if selector in {f"autogroup:{owner.role}", f"user:*@{login.partition('@')[2]}"}:
        return True
    return selector in {login, "autogroup:member"} or login in GROUPS.get(selector, [])
