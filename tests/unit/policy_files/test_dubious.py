"""Warnings of what a policy may say and yet hardly means."""

from __future__ import annotations

import json
from collections.abc import Mapping

import pytest

from mergescale.policy.diagnostics import Severity
from mergescale.policy.repository import declare

ANA, BEN = "ana@example.com", "ben@example.com"
SECTIONS: dict[str, object] = {
    "groups": {"group:two": [ANA, BEN], "group:one": [ANA], "group:none": []},
    "tagOwners": {"tag:web": ["group:two"], "tag:db": [ANA]},
    "postures": {
        "posture:new": ["node:tsVersion >= '1.90'"],
        "posture:mac": ["node:os == 'macos'"],
    },
    "ipsets": {"ipset:empty": ["10.0.0.0/24", "remove 10.0.0.0/24"]},
}


def warned(sections: Mapping[str, object], users: object = None) -> list[tuple[str, str]]:
    """Return (code, what is underlined) of everything that is said of a good policy."""
    text = json.dumps({**SECTIONS, **sections})
    files = {"policy.hujson": text}
    if users is not None:
        files["users.hujson"] = json.dumps(users)
    declaration, found = declare(files)
    assert declaration is not None, found
    assert {one.severity for one in found} <= {Severity.WARNING}
    return [
        (one.code, text[one.span.offset_start : one.span.offset_end].strip('"')) for one in found
    ]


def acl(src: str, dst: str, **more: object) -> dict[str, object]:
    return {"action": "accept", "src": src.split(), "dst": dst.split(), **more}


def test_a_plain_policy_is_not_dubious() -> None:
    """Rules that each admit something of their own are told nothing about."""
    rules = [acl("group:two", "tag:web:80"), acl("group:one", "tag:web:22"), acl("*", "tag:db:1")]
    assert warned({"acls": rules}) == []


@pytest.mark.parametrize(
    ("src", "dst", "name"),
    [
        ("group:none", "tag:web:80", "group:none"),
        (ANA, "group:none:80", "group:none"),
        ("autogroup:shared", "tag:web:80", "autogroup:shared"),
        (ANA, "ipset:empty:80", "ipset:empty:80"),
    ],
)
def test_a_selector_that_stands_for_nobody_is_told(src: str, dst: str, name: str) -> None:
    """An empty group or set, and people of other tailnets."""
    [(code, underlined)] = warned({"acls": [acl(src, dst)]})
    assert code == "policy.nobody"
    assert underlined.startswith(name)


def test_a_role_that_nobody_has_is_told_where_everybody_is_known() -> None:
    """With users.hujson only: without it somebody may get the role at any time."""
    rules = {"acls": [acl("autogroup:auditor", "tag:web:80")]}
    people = [{"login": ANA, "role": "admin"}, {"login": BEN}]
    assert warned(rules) == []
    assert warned(rules, {"users": people}) == [("policy.nobody", "autogroup:auditor")]
    people[1]["role"] = "auditor"
    assert warned(rules, {"users": people}) == []


def test_a_tag_that_nobody_owns_is_told() -> None:
    """An empty list, or owners that are nobody; at the place where the tag is declared."""
    owners = {
        "tag:a": [],
        "tag:b": ["group:none"],
        "tag:c": ["group:none", ANA],
        "tag:d": ["tag:c"],
    }
    assert warned({"tagOwners": owners, "acls": []}) == [
        ("policy.no-owner", "tag:a"),
        ("policy.no-owner", "tag:b"),
    ]


SHADOWS: tuple[tuple[dict[str, object], dict[str, object], bool], ...] = (
    (acl("group:two", "tag:web:80"), acl(ANA, "tag:web:80"), True),
    (acl("group:two", "tag:web:80"), acl("group:one", "tag:web:80"), True),
    (acl("group:one", "tag:web:80"), acl("group:two", "tag:web:81"), False),
    (acl("*", "*:*"), acl("tag:web", "tag:db:5432"), True),
    (acl("*", "*:*"), acl("192.0.2.1", "tag:db:5432"), False),
    (acl("autogroup:member", "tag:web:1-90"), acl(ANA, "tag:web:80-90"), True),
    (acl("autogroup:member", "tag:web:1-90"), acl(ANA, "tag:web:80-91"), False),
    (acl("autogroup:member", "tag:web:80"), acl("tag:db", "tag:web:80"), False),
    (acl("10.0.0.0/8", "10.0.0.0/8:80"), acl("10.1.0.0/16", "10.2.0.1:80"), True),
    (acl(ANA, "tag:web:80", proto="tcp"), acl(ANA, "tag:web:80", proto="udp"), False),
    (acl(ANA, "tag:web:80"), acl(ANA, "tag:web:80", proto="udp"), True),
    (acl(ANA, "tag:web:80"), acl(ANA, "tag:web:80", proto="sctp"), False),
    (acl(ANA, "tag:web:80"), acl(ANA, "tag:web:80", srcPosture=["posture:new"]), True),
    (
        acl(ANA, "tag:web:80", srcPosture=["posture:new"]),
        acl(ANA, "tag:web:80", srcPosture=["posture:mac"]),
        False,
    ),
    (
        acl(ANA, "tag:web:80", srcPosture=["posture:new", "posture:mac"]),
        acl(ANA, "tag:web:80", srcPosture=["posture:mac"]),
        True,
    ),
)


@pytest.mark.parametrize(("wide", "narrow", "shadowed"), SHADOWS, ids=str)
@pytest.mark.parametrize("reverse", [False, True])
def test_a_rule_that_another_one_holds_is_told(
    wide: dict[str, object], narrow: dict[str, object], shadowed: bool, reverse: bool
) -> None:
    """Whichever comes first; by sources, destinations, ports, protocols and postures."""
    rules = [narrow, wide] if reverse else [wide, narrow]
    expected = [("policy.shadowed", json.dumps(narrow))] if shadowed else []
    assert warned({"acls": rules}) == expected


def test_of_two_equal_rules_the_second_one_is_told() -> None:
    """Once, not both."""
    rule = acl(ANA, "tag:web:80")
    assert warned({"acls": [rule, rule]}) == [("policy.shadowed", json.dumps(rule))]


def test_via_and_applications_make_a_rule_another_one() -> None:
    """A grant through some routers holds none through all; what an application may do is not packets."""
    plain = {"src": [ANA], "dst": ["10.0.0.0/8"], "ip": ["80"]}
    via = {**plain, "via": ["tag:web"]}
    app = {**plain, "app": {"example.com/cap/x": [{}]}}
    assert warned({"grants": [via, plain]}) == [("policy.shadowed", json.dumps(via))]
    assert warned({"grants": [plain, app]}) == [("policy.shadowed", json.dumps(plain))]
    assert warned({"grants": [via, {**plain, "via": ["tag:db"]}]}) == []
