"""What the entries of ``ssh`` give each node."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from ipaddress import IPv4Address

from mergescale.domain.access import SshRule
from mergescale.domain.record import Put
from support.policies import governed
from support.ssh import entry, ssh_rules, ssh_text, told
from support.worlds import named, step

NODES = (
    "ana@example.com: a1, a2; ben@example.com: b1; eve@example.org: e1;"
    " tag:web: w1, w2; tag:db: d1; tag:rec: r1"
)
ROOT = {"root": "root"}


def test_sources_are_the_addresses_of_the_named_nodes() -> None:
    """Users, groups, tags and autogroups, both addresses of each node."""
    world = governed(
        NODES,
        ssh_text(
            entry("group:eng", "tag:web", "root"),
            entry("tag:web tag:db", "tag:db", "root"),
            entry("autogroup:member", "tag:rec", "root"),
            entry("group:none", "tag:rec", "root"),
        ),
    )
    assert told(world, "w1") == told(world, "w2") == [("a1 a2 b1", ROOT)]
    assert told(world, "d1") == [("d1 w1 w2", ROOT)]
    assert told(world, "r1") == [("a1 a2 b1 e1", ROOT)]
    assert [told(world, name) for name in ("a1", "b1", "e1")] == [[], [], []]


def test_nodes_with_the_same_rule_share_one_object() -> None:
    """What is told to many is made once."""
    world = governed(NODES, ssh_text(entry("group:eng", "tag:web", "root")))
    assert ssh_rules(world, "w1")[0] is ssh_rules(world, "w2")[0]


def test_own_devices_are_those_of_the_same_person() -> None:
    """Each person's untagged devices name one another and nobody else's."""
    world = governed(NODES, ssh_text(entry("group:eng", "autogroup:self", "root")))
    assert told(world, "a1") == told(world, "a2") == [("a1 a2", ROOT)]
    assert told(world, "b1") == [("b1", ROOT)]
    assert [told(world, name) for name in ("e1", "w1")] == [[], []]


def test_a_person_as_destination_is_that_persons_devices() -> None:
    """Which only that person may name as source."""
    world = governed(NODES, ssh_text(entry("ana@example.com", "ana@example.com", "root")))
    assert told(world, "a2") == [("a1 a2", ROOT)]
    assert told(world, "b1") == []


def test_users_become_a_mapping_that_always_speaks_of_root() -> None:
    """Root is refused where it is not listed; nonroot is everybody else."""
    world = governed(
        NODES,
        ssh_text(
            entry("tag:db", "tag:web", "ubuntu"),
            entry("tag:db", "tag:web", "autogroup:nonroot"),
            entry("tag:db", "tag:web", "root autogroup:nonroot deploy"),
            entry("tag:db", "tag:web", "group:x autogroup:self localpart:*@ localpart:x@y"),
        ),
    )
    odd = ("group:x", "autogroup:self", "localpart:*@", "localpart:x@y")
    assert [logins for _, logins in told(world, "w1")] == [
        {"root": "", "ubuntu": "ubuntu"},
        {"root": "", "*": "="},
        {"root": "root", "deploy": "deploy", "*": "="},
        {"root": "", **{name: name for name in odd}},
    ]


def test_checks_come_before_accepts() -> None:
    """Whatever their order in the file; the first rule that matches decides."""
    world = governed(
        NODES,
        ssh_text(
            entry("tag:db", "tag:web", "root"),
            entry("tag:db", "tag:web", "ubuntu", action="check", checkPeriod="1h"),
            entry("tag:db", "tag:web", "deploy"),
            entry("tag:db", "tag:web", "admin", action="check"),
        ),
    )
    found = [(one.logins[0][0], one.check_period) for one in ssh_rules(world, "w1")]
    assert found == [
        ("root", timedelta(hours=1)),
        ("admin", timedelta(hours=12)),
        ("root", None),
        ("deploy", None),
    ]


def test_local_parts_make_rules_for_each_person_and_at_their_own_devices() -> None:
    """A person of the tailnet's domain gets in as the local part; tagged sources as nobody."""
    users = "localpart:*@example.com ubuntu"
    world = governed(
        NODES, ssh_text(entry("autogroup:member tag:db", "tag:web", users, acceptEnv=["LANG"]))
    )
    base = {"root": "", "ubuntu": "ubuntu"}
    ana = [("a1 a2", base), ("a1 a2", {"ana": "ana"})]
    ben = [("b1", base), ("b1", {"ben": "ben"})]
    assert told(world, "w1") == [*ana, *ben, ("e1", base), ("d1", base)]
    assert told(world, "a1") == ana
    assert told(world, "b1") == ben
    assert told(world, "e1") == [("e1", base)]
    assert [told(world, name) for name in ("d1", "r1")] == [[], []]
    assert {one.accept_env for one in ssh_rules(world, "w1")} == {("LANG",)}


def test_a_new_login_is_another_local_part() -> None:
    """A person who is renamed gets in under the new name only, everybody else as before."""
    groups = {"group:eng": ["ana@example.com", "ann@example.com", "ben@example.com"]}
    world = governed(
        NODES,
        ssh_text(entry("group:eng", "tag:web", "localpart:*@example.com"), groups=groups),
    )
    before = ssh_rules(world, "w1")
    ana = next(user for user in world.users.values() if user.login == "ana@example.com")
    after = step(world, [Put(replace(ana, login="ann@example.com"))])
    assert [logins for _, logins in told(after, "w1")] == [
        {"root": ""},
        {"ann": "ann"},
        {"root": ""},
        {"ben": "ben"},
    ]
    assert [dict(one.logins) for one in before][1] == {"ana": "ana"}


def test_nobody_is_named_to_a_node_that_does_not_see_it() -> None:
    """A client lets nobody in whom it does not know; so it needs no addresses of strangers."""
    acls = [{"action": "accept", "src": ["ana@example.com"], "dst": ["tag:web:22"]}]
    world = governed(NODES, ssh_text(entry("group:eng", "tag:web", "root"), acls=acls))
    assert told(world, "w1") == [("a1 a2", ROOT)]


def test_who_does_not_take_part_is_not_named() -> None:
    """A device that awaits approval, or whose owner is suspended, logs in nowhere."""
    world = governed(NODES, ssh_text(entry("group:eng", "tag:web", "root")))
    ben = next(user for user in world.users.values() if user.login.startswith("ben"))
    after = step(
        world,
        [Put(replace(named(world, "a1"), authorized=False)), Put(replace(ben, suspended=True))],
    )
    assert told(after, "w1") == [("a2", ROOT)]
    assert ssh_rules(after, "a1") == ()


def test_recorders_are_the_nodes_of_their_tags() -> None:
    """Of those that the destination sees; enforcing says so, even where there are none."""
    rule = entry("tag:db", "tag:web", "root", recorder=["tag:rec"], enforceRecorder=True)
    world = governed(NODES, ssh_text(rule))
    rec, source = named(world, "r1"), named(world, "d1")
    addresses = (str(source.ipv4), str(source.ipv6))
    (found,) = ssh_rules(world, "w1")
    assert found == SshRule(
        addresses,
        (("root", "root"),),
        recorders=(str(rec.ipv4), str(rec.ipv6)),
        recorded=True,
    )
    acls = [{"action": "accept", "src": ["tag:db"], "dst": ["tag:web:22"]}]
    (alone,) = ssh_rules(governed(NODES, ssh_text(rule, acls=acls)), "w1")
    assert (alone.recorders, alone.recorded) == ((), True)


def test_ssh_rules_admit_no_packets() -> None:
    """Without a packet rule nobody sees anybody, whatever ``ssh`` says."""
    world = governed(NODES, ssh_text(entry("group:eng", "tag:web", "root"), acls=[]))
    assert [world.access.visible(slot) for slot in world.slots.of.values()] == [0] * 8
    assert told(world, "w1") == []


def test_another_address_is_told() -> None:
    """Of a source and of a recorder alike, when it moves within the tailnet."""
    rule = entry("tag:db", "tag:web", "root", recorder=["tag:rec"])
    world = governed(NODES, ssh_text(rule))
    (before,) = ssh_rules(world, "w1")
    for name, place in (("d1", "principals"), ("r1", "recorders")):
        moved = step(world, [Put(replace(named(world, name), ipv4=IPv4Address("100.64.9.9")))])
        (after,) = ssh_rules(moved, "w1")
        assert "100.64.9.9" in getattr(after, place)
        assert replace(after, **{place: getattr(before, place)}) == before
