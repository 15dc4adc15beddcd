"""What `grants` say beyond packets: capabilities, the routers to go through, and who is meant."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from mergescale.domain.record import Put
from mergescale.domain.snapshot import Snapshot
from mergescale.domain.user import Role
from support.policies import diagnose, filter_of, governed, grants_of, policy, sees
from support.worlds import routed, step

NODES = "ana@example.com: laptop, phone; ben@other.org: desk; tag:a: web; tag:b: router, spare"
OTHER_DOMAIN = "other.org is not associated with this Tailnet and cannot be used in user:*@<domain> expressions"
TAGS: dict[str, list[str]] = {"tag:a": [], "tag:b": [], "tag:c": []}


def under(*grants: dict[str, object], **sections: object) -> Snapshot:
    return governed(NODES, json.dumps({"tagOwners": TAGS, **sections, "grants": grants}))


def messages(grant: dict[str, object], **sections: object) -> list[str]:
    _, found = diagnose(json.dumps({"tagOwners": TAGS, **sections, "grants": [grant]}))
    return [one.message for one in found]


def test_a_capability_is_granted_at_the_nodes_own_addresses() -> None:
    """`app` alone makes nodes see each other and sends values as written, without any packets."""
    app = {"example.com/cap/x": [{"role": "admin"}, {}], "example.com/cap/a": []}
    world = under(
        {"src": ["ana@example.com"], "dst": ["tag:a", "web"], "app": app},
        hosts={"web": "100.64.0.4"},
    )

    assert grants_of(world, "web") == [
        (
            ["100.64.0.1", "100.64.0.2", "fd7a:115c:a1e0::1", "fd7a:115c:a1e0::2"],
            ["100.64.0.4/32", "fd7a:115c:a1e0::4/128"],
            {"example.com/cap/a": "", "example.com/cap/x": '{"role":"admin"},{}'},
        )
    ]
    assert filter_of(world, "web")[0][1] == []
    assert sees(world, "web") == {"laptop", "phone"}
    assert sees(world, "desk") == set()


def test_packets_and_capabilities_of_one_grant_are_two_rules() -> None:
    """Clients refuse a rule that has both."""
    world = under(
        {"src": ["tag:a"], "dst": ["tag:b"], "ip": ["tcp:22"], "app": {"example.com/x": [1]}}
    )

    rules = filter_of(world, "router")
    assert sorted(places for _, places, _ in rules) == [
        [],
        ["100.64.0.5:22", "fd7a:115c:a1e0::5:22"],
    ]


def test_a_subnet_holds_no_capabilities() -> None:
    """A capability counts at a node's own address; what lies behind a router has none."""
    world = under({"src": ["tag:a"], "dst": ["10.1.0.0/16"], "app": {"example.com/x": []}})
    world = routed(world, "router", "10.1.0.0/16")

    assert grants_of(world, "router") == []
    assert sees(world, "router") == set()


@pytest.mark.parametrize(
    ("capability", "returned"),
    [
        ("tailscale.com/cap/drive", "tailscale.com/cap/drive-sharer"),
        ("tailscale.com/cap/relay", "tailscale.com/cap/relay-target"),
    ],
)
def test_some_capabilities_come_with_one_the_other_way_round(
    capability: str, returned: str
) -> None:
    """Who may use a node's shares or relay is known to it as such."""
    world = under({"src": ["tag:a"], "dst": ["tag:b"], "app": {capability: [{"k": 1}]}})

    assert grants_of(world, "web") == [
        (
            ["100.64.0.5", "100.64.0.6", "fd7a:115c:a1e0::5", "fd7a:115c:a1e0::6"],
            ["100.64.0.4/32", "fd7a:115c:a1e0::4/128"],
            {returned: ""},
        )
    ]


def test_what_comes_the_other_way_round_comes_from_whoever_the_grant_leads_to() -> None:
    """An autogroup of devices as destination gives its devices the companion at the sources."""
    drive = {"tailscale.com/cap/drive": [{"shares": ["*"]}]}
    world = under({"src": ["ben@other.org"], "dst": ["autogroup:tagged"], "app": drive})

    assert [(sources, list(app)) for sources, _, app in grants_of(world, "desk")] == [
        (
            [*(f"100.64.0.{n}" for n in (4, 5, 6)), *(f"fd7a:115c:a1e0::{n}" for n in (4, 5, 6))],
            ["tailscale.com/cap/drive-sharer"],
        )
    ]


def test_what_every_address_may_use_is_known_to_all_nodes() -> None:
    """`autogroup:danger-all` as source stands for all nodes where they get the companion."""
    drive = {"tailscale.com/cap/drive": [{"shares": ["*"]}]}
    world = under({"src": ["autogroup:danger-all"], "dst": ["tag:a"], "app": drive})

    companion = {"tailscale.com/cap/drive-sharer": ""}
    for name, number in (("laptop", 1), ("desk", 3), ("router", 5)):
        own = [f"100.64.0.{number}/32", f"fd7a:115c:a1e0::{number}/128"]
        assert grants_of(world, name) == [(["100.64.0.4", "fd7a:115c:a1e0::4"], own, companion)]


def test_each_part_of_a_grant_says_where_the_grant_stands() -> None:
    """Packets, capabilities, and what comes the other way round."""
    grant = json.dumps(
        {
            "src": ["autogroup:member"],
            "dst": ["tag:a", "autogroup:self"],
            "ip": ["*"],
            "app": {"tailscale.com/cap/drive": []},
        }
    )
    text = f'{{"tagOwners": {{"tag:a": []}}, "grants": [{grant}]}}'
    found = policy(text)

    places = [one.origin for one in (*found.rules, *found.own_rules)]
    assert [text[one.offset_start : one.offset_end] for one in places] == [grant] * 6


def test_capabilities_among_ones_own_devices() -> None:
    """`autogroup:self` grants per person, companions included."""
    drive = {"tailscale.com/cap/drive": [{"shares": ["*"]}]}
    world = under({"src": ["autogroup:member"], "dst": ["autogroup:self"], "app": drive})

    found = sorted((src, sorted(caps)) for src, _, caps in grants_of(world, "desk"))
    assert found == [
        (["100.64.0.3", "fd7a:115c:a1e0::3"], ["tailscale.com/cap/drive"]),
        (["100.64.0.3", "fd7a:115c:a1e0::3"], ["tailscale.com/cap/drive-sharer"]),
    ]
    assert grants_of(world, "web") == []


def test_via_opens_only_the_routers_that_it_names() -> None:
    """Another router of the same subnet lets nobody through and is not seen."""
    world = under(
        {"src": ["tag:a"], "dst": ["10.1.0.0/16"], "ip": ["*"], "via": ["tag:b"]}, hosts={}
    )
    world = routed(world, "router", "10.1.0.0/16")
    world = routed(world, "desk", "10.1.0.0/16")

    assert filter_of(world, "router") == [
        (["100.64.0.4", "fd7a:115c:a1e0::4"], ["10.1.0.0/16:*"], [])
    ]
    assert filter_of(world, "desk") == []
    assert sees(world, "web") == {"router"}


def test_via_an_exit_node() -> None:
    """The internet through tagged exit nodes only."""
    world = under({"src": ["tag:a"], "dst": ["autogroup:internet"], "ip": ["*"], "via": ["tag:b"]})
    world = routed(world, "router", "0.0.0.0/0")
    world = routed(world, "desk", "0.0.0.0/0")

    assert sees(world, "web") == {"router"}
    assert filter_of(world, "desk") == []
    assert all(place.endswith(":*") for place in filter_of(world, "router")[0][1])


def test_roles_are_sources_and_follow_a_promotion() -> None:
    """`autogroup:admin` means whoever has that very role now."""
    world = under({"src": ["autogroup:admin"], "dst": ["tag:a"], "ip": ["22"]})
    assert sees(world, "web") == set()

    ana = world.users[next(iter(world.users))]
    promoted = step(world, [Put(replace(ana, role=Role.ADMIN))])
    owner = step(world, [Put(replace(ana, role=Role.OWNER))])

    assert sees(promoted, "web") == {"laptop", "phone"}
    assert sees(owner, "web") == set()


def test_the_people_of_a_domain() -> None:
    """`user:*@domain` means the logins of the tailnet's own domain and no others."""
    world = under({"src": ["user:*@example.com"], "dst": ["tag:a"], "ip": ["22"]})

    assert sees(world, "web") == {"laptop", "phone"}


def test_danger_all_is_every_address() -> None:
    """It lists ``*``, so that whatever reaches the node is let in."""
    world = under({"src": ["autogroup:danger-all"], "dst": ["tag:a"], "ip": ["tcp:80"]})

    assert [sources for sources, _, _ in filter_of(world, "web")] == [["*"]]
    assert sees(world, "web") == {"laptop", "phone", "desk", "router", "spare"}


def test_ip_sets_add_and_remove_in_order() -> None:
    """What is removed is gone, what is added later is back, and touching stretches are joined."""
    sets = {
        "ipset:all": ["10.0.0.0/30", "remove ipset:one", "10.0.0.4", "fd00::/64"],
        "ipset:one": ["printer", "add 10.0.0.1"],
    }
    world = under(
        {"src": ["ipset:all"], "dst": ["tag:a"], "ip": ["*"]},
        ipsets=sets,
        hosts={"printer": "10.0.0.2"},
    )

    assert [sources for sources, _, _ in filter_of(world, "web")] == [
        ["10.0.0.0", "10.0.0.3-10.0.0.4", "fd00::/64"]
    ]


@pytest.mark.parametrize(
    ("grant", "sections", "message"),
    [
        ({"via": ["autogroup:tagged"]}, {}, "via can only be a tag"),
        ({"via": ["tag:no"]}, {}, 'tag "tag:no" not found'),
        (
            {"app": {"https://x.com/cap": []}},
            {},
            "capability name must have the form {domain}/{path}",
        ),
        ({"app": {"x": []}}, {}, "capability name must have the form {domain}/{path}"),
        ({"ip": [], "app": {}}, {}, "ip and app can not both be empty"),
        (
            {"dst": ["autogroup:internet"], "app": {"x.com/a": []}},
            {},
            "cannot use app grants with autogroup:internet",
        ),
        ({"dst": ["autogroup:danger-all"]}, {}, "cannot use autogroup:danger-all as a dst"),
        (
            {"src": ["user:*@other.org"]},
            {},
            OTHER_DOMAIN,
        ),
        ({"src": ["ipset:no"]}, {}, 'src="ipset:no": ipset not found: "ipset:no"'),
        ({}, {"ipsets": {"lab": []}}, '"lab" is not the name of an ipset'),
        ({}, {"ipsets": {"ipset:a": ["tag:a"]}}, '"tag:a" is not an address'),
        ({}, {"ipsets": {"ipset:a": ["nobody"]}}, 'host not found: "nobody"'),
        (
            {},
            {"ipsets": {"ipset:a": ["ipset:b"], "ipset:b": ["ipset:a"]}},
            "ipsets go in a circle: ipset:a -> ipset:b -> ipset:a",
        ),
    ],
)
def test_what_is_refused(
    grant: dict[str, object], sections: dict[str, object], message: str
) -> None:
    """Each is an error with the hosted service's words, never a rule that means less."""
    whole: dict[str, object] = {"src": ["*"], "dst": ["tag:a"], "ip": ["*"], **grant}
    policy, _ = diagnose(json.dumps({"tagOwners": TAGS, **sections, "grants": [whole]}))

    assert policy is None
    assert message in messages(whole, **sections)


def test_a_service_that_nobody_offers_opens_nothing() -> None:
    """A rule to a service is legal and told about; whoever may offer it is checked."""
    text = {
        "tagOwners": TAGS,
        "autoApprovers": {"services": {"svc:web": ["tag:a"]}},
        "grants": [{"src": ["*"], "dst": ["svc:web"], "ip": ["443"]}],
    }
    world = governed(NODES, json.dumps(text))
    assert sees(world, "web") == set()
    _, found = diagnose(json.dumps(text))
    assert [(one.code, one.severity) for one in found] == [("policy.service", "warning")]

    for services, message in (
        ({"web": ["tag:a"]}, '"web" is not a service name'),
        ({"svc:web": ["tag:no"]}, 'tag not found: "tag:no"'),
        ({"svc:web": ["10.0.0.1"]}, '"10.0.0.1" can not be an approver'),
    ):
        policy, found = diagnose(json.dumps({**text, "autoApprovers": {"services": services}}))
        assert policy is None
        assert message in [one.message for one in found]
    policy, found = diagnose(
        json.dumps({**text, "grants": [{"src": ["svc:web"], "dst": ["*"], "ip": ["*"]}]})
    )
    assert policy is None
    assert [one.message for one in found] == ['"svc:web" not valid on the src side of a rule']


def test_old_spellings_of_a_rule_mean_the_same() -> None:
    """`users` and `ports` are what `src` and `dst` were called; both at once is an error."""
    old = '{"acls": [{"action": "accept", "users": ["*"], "ports": ["tag:a:22"]}], "tagOwners": {"tag:a": []}}'
    new = old.replace("users", "src").replace("ports", "dst")
    assert filter_of(governed(NODES.partition("; tag:b")[0], old), "web") == filter_of(
        governed(NODES.partition("; tag:b")[0], new), "web"
    )

    policy, found = diagnose(old.replace('"users": ["*"]', '"users": ["*"], "src": ["tag:a"]'))
    assert policy is None
    assert [one.message for one in found] == ["users is the old name of src, and both are written"]


def test_null_is_the_same_as_nothing() -> None:
    """A section, a field or a list that is null counts as left out."""
    text = '{"tagOwners": {"tag:a": null}, "groups": null, "acls": null, "grants": [{"src": ["*"], "dst": ["tag:a"], "ip": ["*"], "app": null, "via": null}]}'
    world = governed("tag:a: web; ana@example.com: laptop", text)

    assert sees(world, "web") == {"laptop"}
    policy, found = diagnose('{"acls": null}')
    assert policy is None
    assert [one.code for one in found] == ["policy.no-rules"]
