"""Who may give a tag, and whose routes need no operator."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_network

import pytest

from support.policies import governed
from support.worlds import named

WORLD = governed(
    "ana@example.com: laptop; ben@example.com: desk; tag:router: r; tag:exit: x",
    """
    {"groups": {"group:ops": ["ana@example.com"]},
     "tagOwners": {
       "tag:router": ["group:ops"], "tag:exit": ["autogroup:member"],
       "tag:a": ["tag:b"], "tag:b": ["tag:c"], "tag:c": ["ben@example.com", "tag:a"], "tag:none": [],
     },
     "acls": [],
     "autoApprovers": {
       "routes": {"10.0.0.0/8": ["tag:router", "ben@example.com"], "0.0.0.0/0": ["tag:exit"],
                  "fd00::/16": ["autogroup:tagged"]},
       "exitNode": ["tag:exit", "group:ops"],
     }}
    """,
)
ANA, BEN = WORLD.users.values()


@pytest.mark.parametrize(
    ("tag", "owners"),
    [
        ("tag:router", {"ana@example.com"}),
        ("tag:exit", {"ana@example.com", "ben@example.com"}),
        ("tag:a", {"ben@example.com"}),
        ("tag:b", {"ben@example.com"}),
        ("tag:c", {"ben@example.com"}),
        ("tag:none", set()),
        ("tag:unheard", set()),
    ],
)
def test_tags_are_given_by_their_owners(tag: str, owners: set[str]) -> None:
    """Users, groups, autogroups and owners of owning tags may; circles end."""
    assert {one.login for one in (ANA, BEN) if WORLD.access.may_take_tag(one, tag)} == owners
    assert WORLD.access.has_tag(tag) == (tag != "tag:unheard")


def test_the_suspended_give_no_tags() -> None:
    """Suspending an owner takes the right away."""
    assert not WORLD.access.may_take_tag(replace(ANA, suspended=True), "tag:router")


@pytest.mark.parametrize(
    ("name", "prefix", "approved"),
    [
        ("r", "10.0.0.0/8", True),
        ("r", "10.4.0.0/16", True),
        ("r", "0.0.0.0/0", False),
        ("r", "11.0.0.0/8", False),
        ("r", "fd00:5::/32", True),
        ("desk", "10.4.0.0/16", True),
        ("desk", "fd00:5::/32", False),
        ("laptop", "10.4.0.0/16", False),
        ("laptop", "::/0", True),
        ("x", "0.0.0.0/0", True),
        ("x", "192.168.0.0/16", True),
    ],
)
def test_routes_are_approved_by_containment(name: str, prefix: str, approved: bool) -> None:
    """Parts of an approved prefix are approved; exit routes by `exitNode` alone."""
    node = named(WORLD, name)

    assert WORLD.access.approves(node, WORLD.owner(node), ip_network(prefix)) == approved


def test_a_default_route_under_routes_makes_no_exit_node() -> None:
    """`routes` with 0.0.0.0/0 covers subnets, never the exit route itself."""
    world = governed(
        "tag:a: n",
        '{"tagOwners": {"tag:a": []}, "acls": [],'
        ' "autoApprovers": {"routes": {"0.0.0.0/0": ["tag:a"]}}}',
    )
    node = named(world, "n")

    assert world.access.approves(node, None, ip_network("10.0.0.0/8"))
    assert not world.access.approves(node, None, ip_network("0.0.0.0/0"))
