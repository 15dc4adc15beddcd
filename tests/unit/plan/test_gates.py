"""Gates let pass what teams do on ordinary days, and nothing that breaks a tailnet."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from mergescale.domain.declaration import Declaration
from mergescale.domain.record import Put
from mergescale.domain.snapshot import Snapshot
from mergescale.domain.user import Role
from mergescale.plan.gates import Demand, Limits, connections, judge
from mergescale.plan.model import Finding
from support.policies import policy
from support.worlds import deployment, step, world

TESTS = [{"src": "ana@example.com", "accept": ["ana@example.com:22"]}]
SMALL = "ana@example.com: laptop; ben@example.com: desk; tag:web: web"
LARGE = "ana@example.com: laptop; ben@example.com: " + ", ".join(f"n{one}" for one in range(26))
MEDIUM = "ana@example.com: laptop; ben@example.com: " + ", ".join(f"n{one}" for one in range(9))
ALL: list[dict[str, Any]] = [{"src": ["*"], "dst": ["*"], "ip": ["*"]}]


def grant(src: str, dst: str, ip: str = "*") -> dict[str, Any]:
    return {"src": [src], "dst": [dst], "ip": [ip]}


def under(nodes: Snapshot, *grants: dict[str, Any], tests: bool = False) -> Snapshot:
    """Return the tailnet with another policy in force."""
    text = {"tagOwners": {"tag:web": []}, "grants": grants, "tests": TESTS if tests else []}
    made = deployment(Declaration(policy(json.dumps(text))))
    return step(nodes, [Put(made)])


def roles(snapshot: Snapshot, **by_name: Role) -> Snapshot:
    """Return the tailnet in which people have other roles."""
    people = [one for one in snapshot.users.values() if one.login.partition("@")[0] in by_name]
    changed = [replace(one, role=by_name[one.login.partition("@")[0]]) for one in people]
    return step(snapshot, [Put(one) for one in changed])


def gates(before: Snapshot, after: Snapshot, limits: Limits | None = None) -> list[str]:
    """Return the gates that refuse."""
    return [one.gate for one in judge(before, after, limits or Limits()).refusing]


def test_connections_are_counted_by_pair_and_direction() -> None:
    """A port more or less of a connection that stays is no figure of the gates."""
    base = world(SMALL)
    before = under(base, grant("ana@example.com", "tag:web", "22"), grant("ben@example.com", "*"))
    after = under(base, grant("ana@example.com", "tag:web", "443"), grant("*", "ana@example.com"))
    found = connections(before, after)

    # web -> laptop is new, ben -> laptop stays, ben -> web is gone.
    assert (found.gained, found.lost, found.before, found.after, found.of) == (1, 1, 3, 3, 6)
    assert str(found) == (
        "1 pair of devices get their first connection, 1 lose their last, of 6 (33.3%)"
    )
    assert str(connections(before, before)) == (
        "no pair of devices gets its first or loses its last connection"
    )


def test_own_devices_and_routes_count() -> None:
    """``autogroup:self`` is a rule about packets as any other; a capability alone is none."""
    nodes = world("ana@example.com: laptop, phone; ben@example.com: desk")
    own = grant("autogroup:member", "autogroup:self", "22")
    app = {"src": ["*"], "dst": ["*"], "app": {"example.com/cap": [{}]}}
    found = connections(under(nodes, app), under(nodes, own))

    assert (found.before, found.after) == (0, 2)


def test_an_empty_policy_is_refused_while_something_is_in_force() -> None:
    """Not as the first one, nor where nothing could be sent before; and not where it is off."""
    base = world(SMALL)
    full, none = under(base, *ALL), under(base)

    assert judge(full, none, Limits()).refusing == (
        Finding("empty", "nobody may send anything to anybody any more (6 pairs could)"),
    )
    assert gates(base, none) == []
    first = roles(base, ana=Role.ADMIN)
    assert gates(first, roles(full, ana=Role.MEMBER)) == []
    assert gates(none, none) == []
    assert gates(full, none, Limits(empty=False)) == []


def test_rules_for_devices_to_come_are_not_empty_where_there_are_few() -> None:
    """In a large tailnet a policy that concerns none of its devices is a mistake."""
    later = grant("tag:web", "tag:web", "80")
    small, medium, large = world(SMALL), world(MEDIUM), world(LARGE)

    assert gates(under(small, *ALL), under(small, later)) == []
    assert gates(under(large, *ALL), under(large, later)) == ["empty", "blast"]
    assert gates(under(medium, *ALL), under(medium, later)) == ["empty"]


def test_administrators_do_not_lose_all_access() -> None:
    """One that keeps a device with some is fine; so is who is no administrator."""
    base = roles(world("ana@example.com: laptop, phone; ben@example.com: desk"), ana=Role.ADMIN)
    before = under(base, *ALL)
    out = under(base, grant("ben@example.com", "*"))
    phone = under(base, grant("100.64.0.2", "*"))
    one = Finding(
        "lockout",
        "1 administrator loses all access (2 of their devices had some)",
        ("ana@example.com",),
    )

    assert judge(before, out, Limits()).refusing == (one,)
    assert gates(before, phone) == []
    assert gates(before, out, Limits(lockout=False)) == []
    assert gates(roles(before, ana=Role.MEMBER), roles(out, ana=Role.MEMBER)) == []


@pytest.mark.parametrize("role", [Role.OWNER, Role.ADMIN, Role.NETWORK_ADMIN, Role.IT_ADMIN])
def test_the_last_administrator_stays_one(role: Role) -> None:
    """Suspending is the same; with another administrator it is nobody's lock-out."""
    before = roles(under(world(SMALL), *ALL), ana=role)
    after = roles(before, ana=Role.AUDITOR)
    lost = Finding("lockout", "nobody is an administrator any more (1 were)", ("ana@example.com",))
    ana = next(one for one in before.users.values() if one.login == "ana@example.com")

    assert judge(before, after, Limits()).refusing == (lost,)
    suspended = step(before, [Put(replace(ana, suspended=True))])
    assert lost in judge(before, suspended, Limits()).refusing
    assert gates(before, roles(after, ben=Role.OWNER)) == []


def test_who_never_had_access_is_not_locked_out() -> None:
    """An administrator without devices, or whose devices reached nobody, loses nothing."""
    base = roles(world("ana@example.com: ; ben@example.com: desk; tag:web: web"), ana=Role.OWNER)

    assert gates(under(base, *ALL), under(base, grant("ben@example.com", "tag:web"))) == []


def test_half_of_all_pairs_is_the_limit_where_there_are_more_than_a_few() -> None:
    """Everything opened is refused by default; editing the ports of a rule for everybody is not."""
    base = world(LARGE)
    some, everything = under(base, grant("ana@example.com", "*", "22")), under(base, *ALL)
    ports = under(base, grant("*", "*", "443"))

    (refused,) = judge(some, everything, Limits()).refusing
    assert refused == Finding(
        "blast",
        "96.3% of the pairs of devices get their first or lose their last connection"
        " (676 of 702); the limit is 50%",
    )
    assert gates(everything, ports) == []
    assert gates(some, everything, Limits(blast_percent=97)) == []
    assert gates(everything, some, Limits(blast_percent=10)) == ["blast"]
    small = world(SMALL)
    assert gates(under(small, grant("ana@example.com", "tag:web")), under(small, *ALL)) == []


@pytest.mark.parametrize(
    ("demand", "said"), [(Demand.OFF, []), (Demand.WARN, [False]), (Demand.REQUIRE, [True])]
)
def test_a_policy_without_tests(demand: Demand, said: list[bool]) -> None:
    """Told of by default, refused where they are required, the first policy included."""
    base = world(SMALL)
    judged = judge(base, under(base, *ALL), Limits(tests=demand))

    assert [one.refuses for one in judged.findings] == said
    assert judge(base, under(base, *ALL, tests=True), Limits(tests=demand)).findings == ()
