"""``nodeAttrs``: what is read, who is told what, and what a refresh leaves alone."""

from __future__ import annotations

import json
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network, ip_network

import pytest

from mergescale.domain.record import Drop, Put
from mergescale.domain.snapshot import Snapshot
from mergescale.domain.user import Role
from mergescale.kernel.ids import UserId
from support.policies import diagnose, filter_of, governed, policy, slot_of, underlined
from support.worlds import named, routed, step

NODES = "ana@example.com: laptop; ben@example.com: desk; tag:web: web; tag:db+tag:web: db"
FUNNEL = {
    "funnel": (),
    "https://tailscale.com/cap/funnel-ports?ports=443,8443,10000": (),
    "https://tailscale.com/cap/warn-funnel-no-https": (),
}


def text(*entries: object, **more: object) -> str:
    named_things = {
        "groups": {"group:ops": ["ben@example.com"]},
        "ipsets": {"ipset:both": ["100.64.0.2", "100.64.0.3"]},
        "hosts": {"lab": "100.64.0.3", "net": "10.1.0.0/16"},
        "tagOwners": {"tag:web": [], "tag:db": []},
    }
    return json.dumps({**named_things, "acls": [], "nodeAttrs": entries, **more})


def told(world: Snapshot) -> dict[str, list[str]]:
    """Return the names of what each node is told, for those that are told something."""
    answers = {name: world.access.attributes(slot_of(world, name)) for name in world.names}
    return {name: sorted(said) for name, said in answers.items() if said}


@pytest.mark.parametrize(
    ("target", "nodes"),
    [
        ("*", ["laptop", "desk", "web", "db"]),
        ("ANA@example.com", ["laptop"]),
        ("group:ops", ["desk"]),
        ("tag:web", ["web", "db"]),
        ("autogroup:member", ["laptop", "desk"]),
        ("autogroup:tagged", ["web", "db"]),
        ("autogroup:admin", ["laptop"]),
        ("autogroup:owner", []),
        ("lab", ["web"]),
        ("ipset:both", ["desk", "web"]),
        ("100.64.0.2-100.64.0.3", ["desk", "web"]),
        ("fd7a:115c:a1e0::4", ["db"]),
        ("100.64.0.0/10", ["laptop", "desk", "web", "db"]),
    ],
)
def test_targets_are_devices_by_name_or_address(target: str, nodes: list[str]) -> None:
    """Each selector means the devices it means as a source of a rule."""
    world = governed(NODES, text({"target": [target], "attr": ["x"]}))
    world = step(world, [Put(replace(world.users[UserId(1)], role=Role.ADMIN))])

    assert told(world) == {name: ["x"] for name in nodes}


def test_a_subnet_is_not_its_router() -> None:
    """Naming addresses behind a router tells the router nothing."""
    world = governed(NODES, text({"target": ["net"], "attr": ["x"]}))

    assert told(routed(world, "web", "10.1.0.0/16")) == {}


def test_entries_add_up_and_repetitions_do_not() -> None:
    """A device has what any entry for it says, once, values in the order of the entries."""
    app = {"example.com/cap": [{"a": 1}, {"b": "é"}]}
    again = {"example.com/cap": [{"b": "é"}, {"c": []}]}
    world = governed(
        NODES,
        text(
            {"target": ["tag:web"], "attr": ["b", "a"], "app": app},
            {"target": ["*"], "attr": ["a"]},
            {"target": ["tag:db"], "app": again},
        ),
    )

    assert world.access.attributes(slot_of(world, "db")) == {
        "a": (),
        "b": (),
        "example.com/cap": (b'{"a":1}', '{"b":"é"}'.encode(), b'{"c":[]}'),
    }
    assert world.access.attributes(slot_of(world, "laptop")) == {"a": ()}


def test_funnel_comes_with_its_ports_and_a_warning() -> None:
    """Whoever may publish is told on which ports, and that it can have no certificate."""
    world = governed(
        NODES,
        text(
            {"target": ["tag:web"], "attr": ["funnel"]}, {"target": ["tag:db"], "attr": ["https"]}
        ),
    )

    assert world.access.attributes(slot_of(world, "web")) == FUNNEL
    certified = {**FUNNEL, "https": ()}
    del certified["https://tailscale.com/cap/warn-funnel-no-https"]
    assert world.access.attributes(slot_of(world, "db")) == certified


@pytest.mark.parametrize("entry", [{}, {"target": ["*"]}, {"target": [], "attr": ["x"]},
                                   {"target": ["*"], "attr": [], "app": {}, "ipPool": []},
                                   {"attr": ["x"], "ipPool": ["100.81.0.0/16"]}])  # fmt: skip
def test_what_is_left_out_means_nothing(entry: object) -> None:
    """An entry that lacks its targets or what they get is legal and tells nobody anything."""
    world = governed(NODES, text(entry))

    assert told(world) == {}
    assert world.access.address_pools(("tag:web",), None) == ()


def test_a_setting_at_the_top_tells_everybody() -> None:
    """``randomizeClientPort`` is an attribute of every device; false is none."""
    world = governed(NODES, text(randomizeClientPort=True))
    assert told(world) == {name: ["randomize-client-port"] for name in world.names}

    assert told(governed(NODES, text(randomizeClientPort=False))) == {}


def test_app_connectors_are_told_as_clients_read_them() -> None:
    """Fields go by the names of appctype.AppConnectorAttr, spelt out and without empty ones."""
    entry = {
        "target": ["tag:web"],
        "app": {
            "tailscale.com/app-connectors": [
                {
                    "NAME": "git",
                    "connectors": ["tag:web"],
                    "domains": ["Git.Example.com", "*.example.com."],
                    "routes": ["192.0.2.0/24", "192.0.2.9", "2001:db8::1"],
                },
                {"connectors": ["*"], "domains": ["example.net"]},
            ]
        },
    }
    world = governed(NODES, text(entry))

    values = world.access.attributes(slot_of(world, "web"))["tailscale.com/app-connectors"]
    assert [json.loads(one) for one in values] == [
        {
            "name": "git",
            "domains": ["git.example.com", "*.example.com"],
            "routes": ["192.0.2.0/24", "192.0.2.9/32", "2001:db8::1/128"],
            "connectors": ["tag:web"],
        },
        {"domains": ["example.net"], "connectors": ["*"]},
    ]


def test_a_preset_application_is_a_warning() -> None:
    """Its domains are a list of the hosted service that nobody else has."""
    app = {"tailscale.com/app-connectors": [{"name": "x", "presetAppID": "github"}]}
    compiled, found = diagnose(text({"target": ["*"], "app": app}))

    assert compiled is not None
    assert [(one.code, one.severity.value) for one in found] == [("policy.preset-app", "warning")]


_APP = "tailscale.com/app-connectors"


@pytest.mark.parametrize(
    ("entry", "under", "message"),
    [
        ({"target": ["%bogus%"]}, '"%bogus%"', '"%bogus%": invalid address'),
        (
            {"target": ["svc:web"]},
            '"svc:web"',
            '"svc:web" can not be a target of nodeAttrs',
        ),
        ({"target": ["tag:nope"]}, '"tag:nope"', 'tag not found: "tag:nope"'),
        ({"target": ["group:nope"]}, '"group:nope"', 'group not found: "group:nope"'),
        (
            {"target": ["autogroup:self"]},
            '"autogroup:self"',
            '"autogroup:self" can not be a target of nodeAttrs',
        ),
        (
            {"target": ["autogroup:internet"]},
            '"autogroup:internet"',
            '"autogroup:internet" can not be a target of nodeAttrs',
        ),
        ({"target": "*"}, '"*"', "target must be an array, not a string"),
        ({"attr": [1]}, "1", "each of attr must be a string, not a number"),
        ({"attr": [""]}, '""', '"" is not the name of an attribute'),
        ({"attr": ['a"b']}, r'"a\"b"', '"a"b" is not the name of an attribute'),
        (
            {"attr": ["https://tailscale.com/cap/data-plane-audit-logs"]},
            '"https://tailscale.com/cap/data-plane-audit-logs"',
            (
                '"https://tailscale.com/cap/data-plane-audit-logs"'
                " would make clients of this server disconnect themselves"
            ),
        ),
        ({"app": {"nope": []}}, '"nope"', '"nope" is not the name of a capability'),
        ({"app": {_APP: {}}}, "{}", f"{_APP} must be an array, not an object"),
        (
            {"app": {_APP: [{"conectors": []}]}},
            '"conectors"',
            f'{_APP} key "conectors" is not known',
        ),
        (
            {"app": {_APP: [{"connectors": ["ana@example.com"]}]}},
            '"ana@example.com"',
            '"ana@example.com" can not be a connector',
        ),
        (
            {"app": {_APP: [{"connectors": ["tag:nope"]}]}},
            '"tag:nope"',
            'tag not found: "tag:nope"',
        ),
        (
            {"app": {_APP: [{"domains": ["*.*.example.com"]}]}},
            '"*.*.example.com"',
            '"*.*.example.com" is not a domain',
        ),
        (
            {"app": {_APP: [{"routes": ["10.0.0.0-10.0.0.9"]}]}},
            '"10.0.0.0-10.0.0.9"',
            '"10.0.0.0-10.0.0.9" is not a route',
        ),
        (
            {"app": {_APP: [{"routes": ["10.0.0.1/8"]}]}},
            '"10.0.0.1/8"',
            '"10.0.0.1/8" has address bits after its prefix',
        ),
        ({"ipPool": ["10.0.0.0/8"]}, '"10.0.0.0/8"', '"10.0.0.0/8" is not inside 100.64.0.0/10'),
        ({"ipPool": ["100.0.0.0/8"]}, '"100.0.0.0/8"', '"100.0.0.0/8" is not inside 100.64.0.0/10'),
        ({"ipPool": ["100.81.0.1/16"]}, '"100.81.0.1/16"', '"100.81.0.1/16" is not an IPv4 prefix'),
        (
            {"ipPool": ["100.115.92.0/24"]},
            '"100.115.92.0/24"',
            '"100.115.92.0/24" overlaps 100.115.92.0/23, which is reserved',
        ),
        (
            {"ipPool": ["100.100.0.0/16"]},
            '"100.100.0.0/16"',
            '"100.100.0.0/16" overlaps 100.100.0.0/24, which is reserved',
        ),
        ({"attrs": []}, '"attrs"', 'nodeAttrs key "attrs" is not known'),
    ],
)
def test_what_is_wrong_is_told_with_its_place(entry: object, under: str, message: str) -> None:
    """The message says what is wrong and underlines just that."""
    written = text(entry)
    compiled, found = diagnose(written)

    assert compiled is None
    assert [(one.message, underlined(written, one)) for one in found] == [(message, under)]


def test_the_first_entry_for_a_device_names_its_pools() -> None:
    """Later entries, and those by address, do not count: a new device has no address yet."""
    compiled = policy(
        text(
            {"target": ["100.64.0.0/10"], "ipPool": ["100.80.0.0/16"]},
            {"target": ["tag:db"], "attr": ["x"]},
            {"target": ["tag:web", "group:ops"], "ipPool": ["100.81.0.0/16", "100.82.0.0/30"]},
            {"target": ["*"], "ipPool": ["100.83.0.0/16"]},
        )
    )
    world = governed(NODES, text())
    access = compiled.resolve(world)

    both = (IPv4Network("100.81.0.0/16"), IPv4Network("100.82.0.0/30"))
    assert access.address_pools(("tag:db", "tag:web"), None) == both
    assert access.address_pools((), world.users[UserId(2)]) == both
    assert access.address_pools((), world.users[UserId(1)]) == (IPv4Network("100.83.0.0/16"),)


def test_a_refresh_follows_the_device() -> None:
    """New tags, another address, a dropped or suspended node: as if resolved from scratch."""
    world = governed(
        NODES,
        text(
            {"target": ["tag:db"], "attr": ["db"]},
            {"target": ["100.64.9.0/24"], "attr": ["near"]},
            {"target": ["autogroup:member"], "attr": ["mine"]},
        ),
    )
    assert told(world) == {"laptop": ["mine"], "desk": ["mine"], "db": ["db"]}

    world = step(world, [Put(replace(named(world, "web"), tags=("tag:db",)))])
    world = step(world, [Put(replace(named(world, "laptop"), ipv4=IPv4Address("100.64.9.9")))])
    world = step(world, [Drop(named(world, "db"))])
    world = step(world, [Put(replace(world.users[UserId(2)], suspended=True))])

    assert told(world) == {"laptop": ["mine", "near"], "web": ["db"]}


def test_nodes_alike_share_what_they_are_told() -> None:
    """The answer is one object for nodes alike, and stays it over a refresh."""
    world = governed(NODES, text({"target": ["autogroup:member"], "attr": ["x"]}))
    before = world.access.attributes(slot_of(world, "laptop"))
    assert world.access.attributes(slot_of(world, "desk")) is before

    moved = replace(named(world, "web"), advertised=(ip_network("10.1.0.0/16"),),
                    approved=frozenset({ip_network("10.1.0.0/16")}))  # fmt: skip
    after = step(world, [Put(moved)])

    assert after.access is not world.access
    assert after.access.attributes(slot_of(after, "laptop")) is before


def test_rules_do_not_depend_on_attributes() -> None:
    """Chunk names and sources are the same with and without ``nodeAttrs``."""
    acls = [{"action": "accept", "src": ["*"], "dst": ["tag:web:80"]}]
    plain, told_too = (
        governed(NODES, text(*entries, acls=acls))
        for entries in ((), ({"target": ["tag:web", "*"], "attr": ["x"]},))
    )

    slot = slot_of(plain, "web")
    assert plain.access.chunks(slot) == told_too.access.chunks(slot)
    assert plain.access.visible(slot) == told_too.access.visible(slot)


def test_a_new_role_changes_nothing_that_goes_by_name() -> None:
    """Attributes of a login stay when its person becomes an administrator."""
    world = governed(NODES, text({"target": ["ana@example.com"], "attr": ["x"]}))

    after = step(world, [Put(replace(world.users[UserId(1)], role=Role.ADMIN))])

    assert told(after) == {"laptop": ["x"]}


MAC = b'{"OS":"macOS"}'


@pytest.mark.parametrize(
    ("written", "name"),
    [("mac-always", "one-cgnat?v=true"), ("mac-never", "one-cgnat?v=false"), ("", None)],
)
def test_one_route_is_told_to_macs_only(written: str, name: str | None) -> None:
    """Clients of other systems read the same attribute, so they must not have it."""
    world = governed(NODES, text(oneCGNATRoute=written))
    assert told(world) == {}

    world = step(world, [Put(replace(named(world, "desk"), hostinfo=MAC))])

    assert told(world) == ({} if name is None else {"desk": [name]})


@pytest.mark.parametrize(
    ("settings", "under", "message"),
    [
        ({"oneCGNATRoute": "mac"}, '"mac"', 'oneCGNATRoute "mac" is not known'),
        ({"oneCGNATRoute": True}, "true", "oneCGNATRoute must be a string, not a boolean"),
        ({"disableIPv4": "yes"}, '"yes"', "disableIPv4 must be a boolean, not a string"),
        ({"randomizeClientPort": 1}, "1", "randomizeClientPort must be a boolean, not a number"),
    ],
)
def test_settings_at_the_top_have_types(
    settings: dict[str, object], under: str, message: str
) -> None:
    """What is of another type is an error at the value."""
    written = text(**settings)
    compiled, found = diagnose(written)

    assert compiled is None
    assert [(one.message, underlined(written, one)) for one in found] == [(message, under)]


OPEN = [{"action": "accept", "src": ["autogroup:member"], "dst": ["tag:web:80"]},
        {"action": "accept", "src": ["tag:web"], "dst": ["autogroup:member:22"]},
        {"action": "accept", "src": ["autogroup:member"], "dst": ["autogroup:self:*"]}]  # fmt: skip


def test_without_ipv4_a_device_is_in_filters_by_ipv6_only() -> None:
    """As a source, as a destination and among one's own; all others as ever."""
    entry = {"target": ["tag:db", "ana@example.com"], "attr": ["disable-ipv4"]}
    world = governed(NODES, text(entry, acls=OPEN))

    sources = {"100.64.0.2", "fd7a:115c:a1e0::1", "fd7a:115c:a1e0::2"}
    assert [(set(rule[0]), rule[1]) for rule in filter_of(world, "db")] == [
        (sources, ["fd7a:115c:a1e0::4:80"])
    ]
    tagged = {"100.64.0.3", "fd7a:115c:a1e0::3", "fd7a:115c:a1e0::4"}
    found = [(set(rule[0]), rule[1]) for rule in filter_of(world, "laptop")]
    assert sorted(found, key=lambda one: len(one[0])) == [
        ({"fd7a:115c:a1e0::1"}, ["fd7a:115c:a1e0::1:*"]),
        (tagged, ["fd7a:115c:a1e0::1:22"]),
    ]
    without = {world.nodes[n].name for n in world.slots.nodes(world.access.without_ipv4)}
    assert without == {"db", "laptop"}


def test_disabling_ipv4_for_all_is_the_attribute_of_all() -> None:
    """The setting at the top tells every device, and takes every IPv4 address away."""
    world = governed(NODES, text(acls=OPEN, disableIPv4=True))

    assert told(world) == {name: ["disable-ipv4"] for name in world.names}
    listed = [text for name in world.names for rule in filter_of(world, name) for text in rule[0]]
    assert listed
    assert all(one.startswith("fd7a:") for one in listed)

    assert governed(NODES, text(acls=OPEN)).access.without_ipv4 == 0


def test_without_ipv4_capabilities_are_held_at_ipv6_only() -> None:
    """An ``app`` grant names the addresses that a device has."""
    grant = {"src": ["ana@example.com"], "dst": ["tag:web"], "app": {"example.com/cap": [{}]}}
    entry = {"target": ["tag:db"], "attr": ["disable-ipv4"]}
    world = governed(NODES, text(entry, grants=[grant]))

    held = [
        rule.grant.addresses
        for name in ("web", "db")
        for rule in world.access.chunks(slot_of(world, name)).values()
        if rule.grant is not None
    ]
    assert held == [("100.64.0.3/32", "fd7a:115c:a1e0::3/128"), ("fd7a:115c:a1e0::4/128",)]


def test_an_address_given_back_is_in_filters_again() -> None:
    """A refresh follows a device that loses the attribute."""
    world = governed(NODES, text({"target": ["tag:db"], "attr": ["disable-ipv4"]}, acls=OPEN))
    assert "100.64.0.4" not in filter_of(world, "laptop")[0][0]

    world = step(world, [Put(replace(named(world, "db"), tags=("tag:web",)))])

    assert any("100.64.0.4" in rule[0] for rule in filter_of(world, "laptop"))
    assert world.access.without_ipv4 == 0
