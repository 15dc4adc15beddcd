"""What a change of each section does, as the plan tells it; over one small tailnet."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from typing import Any

import pytest

from mergescale.netmap.inventory import populate, read_inventory
from mergescale.plan.build import make_plan
from mergescale.plan.markdown import as_markdown
from mergescale.plan.model import Grant, Plan, effect_of
from mergescale.plan.notes import notes
from mergescale.plan.side import Side, tree_of
from mergescale.plan.text import as_text
from mergescale.policy.repository import declare

PEOPLE = ("ana", "ben", "cat")
DEVICES: list[dict[str, Any]] = [
    *({"name": f"{one}s", "user": f"{one}@example.com", "os": "linux"} for one in PEOPLE),
    {"name": "web", "tags": ["tag:web"]},
    {
        "name": "router",
        "tags": ["tag:router"],
        "advertised_routes": ["10.1.0.0/16", "10.2.0.0/16", "0.0.0.0/0", "::/0"],
        "approved_routes": ["10.1.0.0/16", "0.0.0.0/0", "::/0"],
    },
]
INVENTORY = read_inventory(
    {
        "domain": "example.com",
        "users": [{"login_name": f"{one}@example.com"} for one in PEOPLE],
        "nodes": [
            {**one, "ipv4": f"100.64.0.{number}", "ipv6": f"fd7a:115c:a1e0::{number}"}
            for number, one in enumerate(DEVICES, 1)
        ],
    }
)
Policy = dict[str, Any]
POLICY: Policy = {
    "groups": {
        "group:dev": ["ana@example.com", "ben@example.com"],
        "group:ops": ["cat@example.com"],
    },
    "tagOwners": {"tag:web": ["group:ops"], "tag:router": ["group:ops"]},
    "postures": {"posture:ok": ["node:os == 'linux'"]},
    "grants": [
        {"src": ["group:dev"], "dst": ["tag:web"], "ip": ["tcp:443"], "srcPosture": ["posture:ok"]},
        {"src": ["group:ops"], "dst": ["tag:web"], "app": {"example.com/cap/x": [{"a": 1}]}},
        {"src": ["group:dev"], "dst": ["10.1.4.0/24", "10.2.0.0/16"], "ip": ["22"]},
    ],
    "autoApprovers": {"exitNode": ["tag:router"]},
    "ssh": [{"action": "check", "src": ["group:ops"], "dst": ["tag:web"], "users": ["root"]}],
}
USERS = [{"login": f"{one}@example.com"} for one in PEOPLE]


def side(policy: Policy, beside: dict[str, Any], base: Side | None = None) -> Side:
    files = {"policy.hujson": json.dumps(policy, indent=1)}
    files |= {name: json.dumps(text) for name, text in beside.items()}
    declaration, found = declare(files, tested=False)
    assert declaration is not None, found
    snapshot = populate(INVENTORY, declaration, None if base is None else base.snapshot)
    return Side(tree_of(files), declaration, snapshot)


def planned(
    change: Callable[[Policy], object] = lambda _: None,
    was: dict[str, Any] | None = None,
    now: dict[str, Any] | None = None,
) -> Plan:
    """Return the plan of a change of the policy, and of files beside it."""
    after = copy.deepcopy(POLICY)
    change(after)
    base = side(POLICY, was or {})
    return make_plan(base, side(after, now if now is not None else was or {}, base), "i")


def ssh(**members: Any) -> Callable[[Policy], object]:
    return lambda policy: policy["ssh"][0].update(members)


def first(section: str, **members: Any) -> Callable[[Policy], object]:
    return lambda policy: policy[section][0].update(members)


def more(section: str, entry: Any) -> Callable[[Policy], object]:
    return lambda policy: policy.setdefault(section, []).append(entry)


def set_(section: str, name: str, value: Any) -> Callable[[Policy], object]:
    return lambda policy: policy.setdefault(section, {}).update({name: value})


def users(**changed: Any) -> dict[str, Any]:
    """Return ``users.hujson`` with other members for some; None leaves somebody out."""
    listed = [
        {**one, **(changed.get(name) or {})}
        for name, one in zip(PEOPLE, USERS, strict=True)
        if name not in changed or changed[name] is not None
    ]
    return {"users.hujson": {"users": listed}}


CHECKED = "ssh as root (check every 12h)"


@pytest.mark.parametrize(
    ("change", "verdict", "gained", "lost"),
    [
        (ssh(users=["root", "db"]), "widening", ["ssh as db (check every 12h)"], []),
        (
            ssh(action="accept"),
            "widening",
            ["ssh as root (check every 12h -> accept)"],
            [],
        ),
        (
            ssh(checkPeriod="1h"),
            "narrowing",
            [],
            ["ssh as root (check every 12h -> check every 1h)"],
        ),
        (
            ssh(acceptEnv=["GIT_*"]),
            "mixed",
            ["ssh as root (check every 12h -> check every 12h, environment GIT_*)"],
            ["ssh as root (check every 12h -> check every 12h, environment GIT_*)"],
        ),
        (
            ssh(users=["autogroup:nonroot"]),
            "mixed",
            ["ssh as autogroup:nonroot (check every 12h)"],
            [CHECKED],
        ),
        (
            lambda policy: policy["grants"][1]["app"].update({"example.com/cap/x": [{"a": 2}]}),
            "mixed",
            ['example.com/cap/x {"a":2}'],
            ['example.com/cap/x {"a":1}'],
        ),
    ],
)
def test_rights_are_told_with_who_and_where(
    change: Callable[[Policy], object], verdict: str, gained: list[str], lost: list[str]
) -> None:
    """Logins by what decides for them, capabilities by their values."""
    plan = planned(change)

    assert plan.verdict == verdict
    assert [one.what for one in plan.grants_gained] == gained
    assert [one.what for one in plan.grants_lost] == lost
    rows = (*plan.grants_gained, *plan.grants_lost)
    assert {(one.src, one.dst) for one in rows} == {(("group:ops",), ("tag:web",))}
    assert f": {rows[0].what}" in as_text(plan)
    assert f"| `{rows[0].what}` |" in as_markdown(plan)


def test_attributes_are_told_of_the_devices_that_get_them() -> None:
    """They have no source."""
    plan = planned(more("nodeAttrs", {"target": ["tag:web"], "attr": ["nextdns:abc"]}))

    assert plan.grants_gained == (Grant((), ("tag:web",), "nextdns:abc"),)
    assert plan.verdict == "widening"
    assert "  + tag:web : nextdns:abc" in as_text(plan)
    assert "| the device itself | `tag:web` | `nextdns:abc` |" in as_markdown(plan)


@pytest.mark.parametrize(
    "change",
    [
        more(
            "ssh", {"action": "accept", "src": ["group:ops"], "dst": ["tag:web"], "users": ["root"]}
        ),
        lambda policy: (
            policy["ssh"].insert(
                0,
                {
                    "action": "accept",
                    "src": ["group:dev"],
                    "dst": ["tag:router"],
                    "users": ["root"],
                },
            )
            or policy["ssh"].reverse()
            or policy["ssh"].pop()
        ),
        set_("groups", "group:nobody", []),
        set_("hosts", "corp", "10.9.0.0/16"),
        set_("postures", "posture:unused", ["node:os == 'macos'"]),
        lambda policy: (
            policy["postures"].update({"posture:fine": policy["postures"].pop("posture:ok")})
            or policy["grants"][0].update(srcPosture=["posture:fine"])
        ),
    ],
)
def test_what_decides_nothing_has_no_effect(change: Callable[[Policy], object]) -> None:
    """An entry behind one that decides, a name that no rule uses, another name for the same."""
    plan = planned(change)

    assert plan.verdict == "no effect"
    assert (plan.grants_gained, plan.grants_lost, plan.nodes) == ((), (), ())


@pytest.mark.parametrize(
    ("change", "now", "verdict", "field", "told"),
    [
        (
            set_("tagOwners", "tag:web", ["group:ops", "group:dev"]),
            {},
            "widening",
            "tag_owners",
            "tag:web: group:ops -> group:dev, group:ops",
        ),
        (
            set_("groups", "group:ops", ["cat@example.com", "ana@example.com"]),
            {},
            "widening",
            "groups",
            "group:ops: cat@example.com -> ana@example.com, cat@example.com",
        ),
        (
            set_("autoApprovers", "exitNode", []),
            {},
            "narrowing",
            "approvers",
            "exitNode: tag:router -> nobody",
        ),
        (
            set_("postures", "posture:ok", ["custom:tier == 'a'"]),
            {},
            "narrowing",
            "postures",
            "posture:ok: node:os == 'linux' -> custom:tier == 'a'",
        ),
        (
            lambda policy: policy["grants"][0].pop("srcPosture"),
            {},
            "mixed",
            "postures",
            "asked of devices: node:os == 'linux' -> none",
        ),
        (
            more("nodeAttrs", {"target": ["group:dev"], "ipPool": ["100.81.0.0/16"]}),
            {},
            "mixed",
            "settings",
            "ipPool.group:dev: none -> 100.81.0.0/16",
        ),
        (
            lambda _: None,
            {"dns.hujson": {"splitDNS": {"corp.example.com": ["10.1.0.53"]}}},
            "mixed",
            "settings",
            "dns.split: none -> corp.example.com 10.1.0.53",
        ),
        (
            lambda _: None,
            {"tailnet.hujson": {"keyExpiry": "10d"}},
            "mixed",
            "settings",
            "settings.key_expiry: 180 days -> 10 days",
        ),
    ],
)
def test_what_is_not_about_packets_is_an_effect_too(
    change: Callable[[Policy], object], now: dict[str, Any], verdict: str, field: str, told: str
) -> None:
    """Who may give a tag, what is asked of devices, what holds for everybody; in every form."""
    plan = planned(change, {}, now)

    assert plan.verdict == verdict
    assert told in getattr(plan.identity, field)
    assert told in as_text(plan)
    assert f"- `{told}`" in as_markdown(plan)
    assert f": {told}" in "\n".join(one.message for one in notes(plan))


@pytest.mark.parametrize(
    ("was", "now", "verdict", "told"),
    [
        ({}, {"ben": {"role": "owner"}}, "widening", ("ben@example.com: member -> owner",)),
        (
            {"ben": {"role": "auditor"}},
            {"ben": {"role": "it-admin"}},
            "mixed",
            ("ben@example.com: auditor -> it-admin",),
        ),
        (
            {},
            {"cat": {"suspended": True}},
            "narrowing",
            ("cat@example.com: member -> member (suspended)",),
        ),
    ],
)
def test_roles_are_an_effect(
    was: dict[str, Any], now: dict[str, Any], verdict: str, told: tuple[str, ...]
) -> None:
    """More, less, or something else."""
    plan = planned(was=users(**was), now=users(**now))

    assert (plan.verdict, plan.identity.roles) == (verdict, told)


def test_who_is_taken_out_of_the_people_is_suspended() -> None:
    """As a server does it: the devices stay, and reach nobody; a first list suspends nobody."""

    def without_ben(policy: Policy) -> None:
        policy["groups"]["group:dev"].remove("ben@example.com")

    plan = planned(without_ben, users(), users(ben=None))
    unnamed = planned(was={}, now=users())

    assert plan.identity.roles == ("ben@example.com: member -> member (suspended)",)
    assert plan.blast.cut_off == ("bens",)
    assert (unnamed.verdict, unnamed.identity.roles) == ("no effect", ())


def test_a_route_that_was_approved_stays_approved() -> None:
    """Approvers that go take nothing back, as on a server; those that come let packets through."""
    approving = copy.deepcopy(POLICY)
    approving["autoApprovers"]["routes"] = {"10.2.0.0/16": ["tag:router"]}
    plain, approved = side(POLICY, {}), side(approving, {})
    there = make_plan(plain, side(approving, {}, plain), "i")
    back = make_plan(approved, side(POLICY, {}, approved), "i")

    assert [one.dst for one in there.gained] == [("10.2.0.0/16 via router",)]
    assert (back.verdict, back.gained, back.lost, back.nodes) == ("narrowing", (), (), ())


def test_what_the_whole_tailnet_is_told_counts_every_device() -> None:
    """In the figures, not as a row for each."""
    plan = planned(now={"dns.hujson": {"nameservers": ["192.0.2.53"]}})

    assert (plan.nodes, plan.blast.nodes, plan.delivery.nodes) == ((), 5, 5)
    assert plan.delivery.bytes > 0


@pytest.mark.parametrize(
    ("entry", "src", "dst"),
    [
        (
            {"src": ["group:ops"], "dst": ["autogroup:internet"], "ip": ["*"]},
            ("group:ops",),
            ("autogroup:internet via router",),
        ),
        (
            {"src": ["group:ops"], "dst": ["10.1.0.0/16"], "ip": ["*"], "via": ["tag:router"]},
            ("group:ops",),
            ("10.1.0.0/16 via router",),
        ),
        ({"src": ["*"], "dst": ["tag:web"], "ip": ["tcp:1"]}, ("*",), ("tag:web",)),
        (
            {"src": ["autogroup:danger-all"], "dst": ["tag:web"], "ip": ["tcp:1"]},
            ("autogroup:danger-all",),
            ("tag:web",),
        ),
    ],
)
def test_addresses_are_told_by_the_fewest_words(
    entry: dict[str, Any], src: tuple[str, ...], dst: tuple[str, ...]
) -> None:
    """Stretches that touch are one, however rules cut them; what has a word gets it."""
    plan = planned(more("grants", entry))

    assert {one.src for one in plan.gained} == {src}
    assert dst in {one.dst for one in plan.gained}


def test_a_source_of_everybody_who_is_left() -> None:
    """Addresses that nobody has are one word, and so are not mistaken for somebody's."""
    plan = planned(more("grants", {"src": ["*"], "dst": ["tag:web"], "ip": ["tcp:443"]}))

    (row,) = plan.gained
    assert row.src == ("autogroup:tagged", "group:ops", "unassigned addresses", "10.1.0.0/16")


def test_a_row_names_the_rule_that_it_comes_from() -> None:
    """Of the head what is gained, of the base what is lost; annotations stand there."""
    change: Callable[[Policy], object] = lambda policy: policy["grants"][0].update(ip=["tcp:80"])  # noqa: E731
    plan = planned(change)
    text = json.dumps(POLICY, indent=1).splitlines()
    line = 1 + next(number for number, one in enumerate(text) if '"grants"' in one) + 1

    assert [one.rules for one in plan.gained] == [(f"policy.hujson:{line}:3",)]
    assert plan.gained[0].rules == plan.lost[0].rules
    places = {one.message: one.span.start_line for one in notes(plan)}
    assert places["gains: group:dev -> tag:web : tcp:80"] == line
    assert places["loses: group:dev -> tag:web : tcp:443"] == 1


def test_where_rules_stand_is_no_part_of_the_effect() -> None:
    """An approval of a plan outlives a comment above the rules."""
    change: Callable[[Policy], object] = lambda policy: policy["grants"][0].update(ip=["tcp:80"])  # noqa: E731

    def moved(policy: Policy) -> None:
        change(policy)
        policy["groups"] = {"group:empty": [], **policy["groups"]}
        policy["groups"].pop("group:empty")
        policy["grants"].reverse()

    one, other = planned(change), planned(moved)

    assert one.gained[0].rules != other.gained[0].rules
    assert effect_of(one) == effect_of(other)


def test_text_acts_on_no_terminal() -> None:
    """Policies hold whatever people wrote."""
    nasty = "a\x1b[31m\u202e@example.com"
    text = as_text(planned(set_("groups", "group:dev", [nasty])))

    assert "a\ufffd[31m\ufffd@example.com" in text
    assert text.replace("\n", "").isprintable()


@pytest.mark.parametrize(
    ("change", "gained", "lost"),
    [
        (
            set_("groups", "group:dev", ["ana@example.com", "ben@example.com", "zoe@example.com"]),
            1,
            0,
        ),
        (more("grants", {"src": ["zoe@example.com"], "dst": ["tag:web"], "ip": ["22"]}), 1, 0),
        (more("ssh", {**POLICY["ssh"][0], "src": ["zoe@example.com"]}), 1, 0),
        (set_("groups", "group:idle", ["zoe@example.com"]), 0, 0),
        (more("grants", {"src": ["group:dev"], "dst": ["tag:web"], "ip": ["1"]}), 0, 0),
    ],
)
def test_people_without_a_device_count(
    change: Callable[[Policy], object], gained: int, lost: int
) -> None:
    """Who is new has none yet; by name, group or login, as long as some entry is about them."""
    plan = planned(change)

    assert plan.absent_gained == ("zoe@example.com",) * gained
    assert plan.absent_lost == ("zoe@example.com",) * lost
    assert ("rules give them more" in as_text(plan)) is bool(gained)
    assert ("- `zoe@example.com`" in as_markdown(plan)) is bool(gained)
    if gained:
        assert plan.verdict == "widening"
        assert plan.gained == ()


@pytest.mark.parametrize(
    ("was", "now", "verdict"),
    [
        ({"ip": ["80-90"]}, {"ip": ["80-85", "86-90"]}, "no effect"),
        ({"ip": ["80-90"]}, {"ip": ["tcp:80-90", "udp:80-90", "icmp:*", "58:*"]}, "no effect"),
        ({"ip": ["80-90"]}, {"ip": ["81"]}, "narrowing"),
        ({"ip": ["*"]}, {"ip": ["*", "443"]}, "no effect"),
        ({"dst": ["10.8.0.0/15"]}, {"dst": ["10.8.0.0/16", "10.9.0.0/16"]}, "no effect"),
        ({"dst": ["10.8.0.0/15"]}, {"dst": ["10.9.0.0/16"]}, "narrowing"),
        ({}, {"srcPosture": ["posture:ok"]}, "narrowing"),
        ({"src": ["group:zoe"]}, {"src": ["zoe@example.com"]}, "no effect"),
        ({"dst": ["*"]}, {"dst": ["*", "tag:web"]}, "no effect"),
    ],
)
def test_of_people_without_a_device_it_counts_what_rules_mean(
    was: Policy, now: Policy, verdict: str
) -> None:
    """However it is written."""

    def one(members: Policy) -> Policy:
        entry = {"src": ["zoe@example.com"], "dst": ["tag:web"], "ip": ["22"], **members}
        groups = {**POLICY["groups"], "group:zoe": ["zoe@example.com"]}
        return {**POLICY, "groups": groups, "grants": [*POLICY["grants"], entry]}

    base = side(one(was), {})
    plan = make_plan(base, side(one(now), {}, base), "i")
    back = make_plan(side(one(now), {}), side(one(was), {}), "i")

    turned = {"narrowing": "widening"}
    # A condition that rules ask of devices is an effect by itself.
    assert plan.verdict == verdict
    assert back.verdict == turned.get(verdict, verdict)


def test_a_tag_without_a_device_counts() -> None:
    """What is prepared for machines to come is to be read before they come."""
    later = {"src": ["group:dev"], "dst": ["tag:db"], "ip": ["5432"]}

    def declared(policy: Policy) -> None:
        policy["tagOwners"]["tag:db"] = []
        policy["grants"].append(later)

    plan = planned(declared)
    assert (plan.absent_gained, plan.unresolved) == (("tag:db",), ("tag:db",))
    assert plan.verdict == "widening"


def test_who_is_suspended_before_the_first_device_has_less() -> None:
    """Nothing that a rule says is for them any more."""
    zoe = {"login": "zoe@example.com"}

    def people(**members: Any) -> dict[str, Any]:
        return {"users.hujson": {"users": [*USERS, {**zoe, **members}]}}

    def joined(policy: Policy) -> None:
        policy["groups"]["group:dev"].append("zoe@example.com")

    after = copy.deepcopy(POLICY)
    joined(after)
    base = side(after, people())
    plan = make_plan(base, side(after, people(suspended=True), base), "i")

    assert (plan.verdict, plan.absent_lost) == ("narrowing", ("zoe@example.com",))


TESTS = [{"src": "ana@example.com", "accept": ["tag:web:443"], "deny": ["tag:web:22"]}]
SSH_TESTS = [{"src": "cat@example.com", "dst": ["tag:web"], "check": ["root"]}]


def test_expectations_that_are_gone_are_told() -> None:
    """Who takes rights away, or gives too many, takes the tests away first."""
    tested = {**POLICY, "tests": TESTS, "sshTests": SSH_TESTS}
    base = side(tested, {})
    plan = make_plan(base, side({**POLICY, "tests": [{**TESTS[0], "deny": []}]}, {}, base), "i")

    gone = ("ana@example.com deny tag:web:22", "cat@example.com check root at tag:web")
    assert (plan.tests.run, plan.tests.gone) == (1, gone)
    assert "expectations that are gone:\n  ana@example.com deny tag:web:22\n" in as_text(plan)
    assert "- `ana@example.com deny tag:web:22`" in as_markdown(plan)


def test_what_failed_before_is_no_fault_of_the_change() -> None:
    """It is told all the same."""
    wrong = [{"src": "ana@example.com", "accept": ["tag:web:80", "10.1.4.1:22"]}]
    base = side({**POLICY, "tests": wrong}, {})
    plan = make_plan(base, side({**POLICY, "tests": wrong, "grants": []}, {}, base), "i")

    assert (len(plan.tests.failing), len(plan.tests.newly_failing)) == (2, 1)
    text = as_text(plan)
    assert text.count(" (as before)") == as_markdown(plan).count(" (as before)`") == 1
    assert "should reach tag:web:80, the policy denies it (as before)" in text


def test_the_hash_is_of_texts_that_none_can_pretend() -> None:
    """A text with a NUL in it is not two texts."""
    assert tree_of({"a": "b\0c\0d"}) != tree_of({"a": "b", "c": "d"})
    assert tree_of({"a": "b", "c": "d"}) == tree_of({"c": "d", "a": "b"})


def test_names_are_literal_in_markdown_wherever_they_stand() -> None:
    """Bars end cells of tables only; ticks end no code; nobody is mentioned."""
    nasty = ["a|b@example.com", "c`d@example.com", "</details>@example.com"]
    grant = {"src": ["group:dev"], "dst": ["tag:web"], "app": {"example.com/cap/y": ["|x` @team"]}}

    def change(policy: Policy) -> None:
        policy["groups"]["group:dev"] += nasty
        policy["grants"].append(grant)

    lines = as_markdown(planned(change)).splitlines()
    assert "- `a|b@example.com`" in lines
    assert "- ``c`d@example.com``" in lines
    assert "- `</details>@example.com`" in lines
    (row,) = (line for line in lines if "example.com/cap/y" in line)
    assert row.endswith(' | ``example.com/cap/y "\\|x` @team"`` |')


def test_who_records_a_login_is_named() -> None:
    """By the name of the device."""
    seen = {"src": ["tag:web"], "dst": ["tag:router"], "ip": ["80"]}
    policy = {**POLICY, "grants": [*POLICY["grants"], seen]}
    after = copy.deepcopy(policy)
    after["ssh"][0]["recorder"] = ["tag:router"]
    base = side(policy, {})
    plan = make_plan(base, side(after, {}, base), "i")

    how = "check every 12h -> check every 12h, recorded at router"
    assert [one.what for one in plan.grants_gained] == [f"ssh as root ({how})"]
    assert plan.verdict == "mixed"


def test_what_stands_for_nobody_is_told() -> None:
    """Logins, tags, services, and groups of which nobody is known; not those that have somebody."""

    def change(policy: Policy) -> None:
        policy["groups"] |= {"group:gone": ["eve@example.com"], "group:empty": []}
        policy["tagOwners"]["tag:db"] = []
        names = ["group:gone", "group:empty", "group:dev", "eve@example.com", "tag:db"]
        policy["grants"].append({"src": names, "dst": ["svc:db", "tag:web"], "ip": ["1"]})
        policy["ssh"].append({**policy["ssh"][0], "src": ["zoe@example.com"]})

    assert planned(change).unresolved == (
        *("eve@example.com", "group:empty", "group:gone", "svc:db", "tag:db", "zoe@example.com"),
    )


def test_one_address_of_a_device_is_told_with_its_name() -> None:
    """On either side."""
    plan = planned(more("grants", {"src": ["100.64.0.3"], "dst": ["100.64.0.4"], "ip": ["1"]}))

    (row,) = plan.gained
    assert (row.src, row.dst) == (("cats (100.64.0.3)",), ("web (100.64.0.4)",))
