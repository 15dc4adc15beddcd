"""Warnings about SSH rules that never let anybody in."""

from __future__ import annotations

from typing import Any

import pytest

from support.policies import diagnose, underlined
from support.ssh import entry, ssh_text

ANA = "ana@example.com"


def warned(*entries: dict[str, Any], **more: Any) -> list[str]:
    """Return where `policy.ssh-unreachable` points, as the first destination and user."""
    text = ssh_text(*entries, **more)
    compiled, found = diagnose(text)
    assert compiled is not None
    assert {one.code for one in found} <= {"policy.ssh-unreachable"}
    return [underlined(text, one) for one in found]


SHADOWED = (
    ((ANA, "tag:web", "root"), (ANA, "tag:web", "root"), True),
    ((f"{ANA} tag:db", "tag:web tag:db", "root ubuntu"), (ANA, "tag:web", "ubuntu"), True),
    ((ANA, "tag:web", "autogroup:nonroot"), (ANA, "tag:web", "ubuntu"), True),
    ((ANA, "tag:web", "autogroup:nonroot"), (ANA, "tag:web", "root"), False),
    ((ANA, "tag:web", "ubuntu"), (ANA, "tag:web", "autogroup:nonroot"), False),
    ((ANA, "tag:web", "root"), (ANA, "tag:web tag:db", "root"), False),
    ((ANA, "tag:web", "root"), (f"{ANA} tag:db", "tag:web", "root"), False),
    ((ANA, "tag:web", "root"), (ANA, "autogroup:self", "root"), False),
    ((ANA, "autogroup:self", "root"), (ANA, "tag:web", "root"), False),
    ((ANA, "autogroup:self tag:web", "root"), (ANA, "autogroup:self", "root"), True),
    ((ANA, "tag:web", "autogroup:nonroot"), (ANA, "tag:web", "root ubuntu"), False),
    (
        ("group:eng", "tag:web", "localpart:*@example.com"),
        ("group:eng", "tag:web", "root"),
        False,
    ),
    (
        ("group:eng", "tag:web", "root"),
        ("group:eng", "tag:web", "localpart:*@example.com"),
        False,
    ),
)


@pytest.mark.parametrize(("first", "second", "shadowed"), SHADOWED, ids=str)
def test_a_rule_behind_one_that_says_more_is_told(
    first: tuple[str, str, str], second: tuple[str, str, str], shadowed: bool
) -> None:
    """Only where sources, destinations and users are all among those of the earlier one."""
    assert len(warned(entry(*first), entry(*second))) == int(shadowed)


def test_an_accept_behind_a_check_is_the_one_that_is_told() -> None:
    """The order that counts is not that of the file."""
    found = warned(entry(ANA, "tag:web", "root"), entry(ANA, "tag:web", "root", action="check"))
    assert ['"accept"' in one for one in found] == [True]


REACHED: tuple[tuple[list[str], tuple[str, str], bool], ...] = (
    ([], ("tag:db", "tag:web"), False),
    (["tag:db > tag:web:22"], ("tag:db", "tag:web"), True),
    (["tag:db > tag:web:80"], ("tag:db", "tag:web"), False),
    (["tag:db > tag:rec:22"], ("tag:db", "tag:web"), False),
    (["* > tag:web:*"], ("tag:db", "tag:web"), True),
    (["autogroup:member > tag:web:22"], ("tag:db", "tag:web"), False),
    (["autogroup:tagged > autogroup:tagged:22"], ("tag:db", "tag:web"), True),
    (["100.64.0.9 > tag:web:22"], ("tag:db", "tag:web"), True),
    (["group:eng > tag:web:22"], (ANA, "tag:web"), True),
    (["group:none > tag:web:22"], (ANA, "tag:web"), False),
    (["ben@example.com > tag:web:22"], (ANA, "tag:web"), False),
    (["ben@example.com > tag:web:22"], ("autogroup:member", "tag:web"), True),
    (["autogroup:member > autogroup:self:22"], (ANA, "autogroup:self"), True),
    (["autogroup:member > autogroup:self:22"], (ANA, ANA), True),
    (["autogroup:member > tag:web:22"], (ANA, "autogroup:self"), False),
    (["autogroup:member > autogroup:member:22"], (ANA, "autogroup:self"), True),
)


@pytest.mark.parametrize(("acls", "pair", "reached"), REACHED, ids=str)
def test_a_rule_whose_packets_nothing_admits_is_told(
    acls: list[str], pair: tuple[str, str], reached: bool
) -> None:
    """Port 22 over TCP must be admitted from some source to some destination."""
    rules = [
        {"action": "accept", "src": [src], "dst": [dst]}
        for src, _, dst in (one.partition(" > ") for one in acls)
    ]
    assert len(warned(entry(*pair, "root"), acls=rules)) == int(not reached)
    udp = [{**one, "proto": "udp"} for one in rules]
    assert len(warned(entry(*pair, "root"), acls=udp)) == 1


def test_a_huge_policy_is_compared_in_part() -> None:
    """The work is bounded: what was not compared gets no warning, and nothing is refused."""
    acls = [
        {"action": "accept", "src": [f"u{number}@example.com"], "dst": ["tag:web:22"]}
        for number in range(1000)
    ]
    entries = [entry(f"v{number}@example.com", "tag:web", "root") for number in range(150)]
    assert len(warned(*entries[:10], acls=acls)) == 10
    assert 10 < len(warned(*entries, acls=acls)) < 100
    shadowed = [entry(ANA, "tag:web", f"user-{number}") for number in range(1000)]
    assert warned(*shadowed) == []
