"""Policies made to be slow are refused by a count, before the work, at the text that goes too far.

Nothing here looks at a clock: what bounds the time is that each limit below is what it is.
"""

from __future__ import annotations

import json
from typing import Any

import pytest

from mergescale.policy import ipsets, scope, selftest
from mergescale.policy.hujson import MAX_DEPTH, MAX_TEXT_BYTES
from mergescale.policy.repository import MAX_POLICY_CHARACTERS, declare
from mergescale.policy.ssh import selftest as ssh_selftest
from support.policies import policy

FILE = "policy.hujson"
TO_ALL = {"action": "accept", "src": ["*"], "dst": ["*:*"]}
Said = list[tuple[str, str, str, str]]


def said(files: dict[str, str]) -> Said:
    """Return (code, file:line, underlined text, message) of everything that is said."""
    declaration, found = declare(files)
    assert declaration is None
    return [
        (
            one.code,
            f"{one.span.file}:{one.span.start_line}",
            files[one.span.file][one.span.offset_start : one.span.offset_end][:60],
            one.message,
        )
        for one in found
    ]


def text(**sections: Any) -> str:
    return json.dumps({"acls": [], **sections}, indent=0)


def line_of(written: str, needle: str) -> int:
    return written[: written.index(needle)].count("\n") + 1


def test_the_limits_are_these() -> None:
    """Whoever changes one sees here that it bounds what a policy may cost."""
    assert (MAX_TEXT_BYTES, MAX_DEPTH, MAX_POLICY_CHARACTERS) == (1 << 20, 100, 2 << 20)
    assert scope.MAX_PLACES == 100_000
    assert (ipsets.MAX_STRETCHES, ipsets.MAX_DEPTH, ipsets.MAX_STEPS) == (10_000, 50, 200_000)
    assert (selftest.MAX_STEPS, ssh_selftest.MAX_STEPS) == (10_000_000, 500_000)


def test_a_rule_with_a_million_ports() -> None:
    """Written out in one destination, or multiplied by the two lists of a grant."""
    ports = ",".join(str(number % 60_000) for number in range(150_000))
    written = text(acls=[TO_ALL, {**TO_ALL, "dst": [f"10.0.0.1:{ports}"]}])
    [(code, place, underlined, message)] = said({FILE: written})
    assert (code, place) == ("policy.too-large", f"{FILE}:{line_of(written, '10.0.0.1')}")
    assert underlined.startswith('"10.0.0.1:0,1,2')
    assert message == "the rules name more than 100000 places, counted for each port"

    hosts = [f"10.0.{number // 250}.{number % 250}" for number in range(1000)]
    flows = [f"tcp:{number}" for number in range(1000)]
    grant = {"src": ["*"], "dst": hosts, "ip": flows}
    assert [one[:3] for one in said({FILE: text(grants=[grant])})] == [
        ("policy.too-large", f"{FILE}:{line_of(text(grants=[grant]), '10.0.0.99')}", '"10.0.0.99"')
    ]


def test_many_rules_together_are_one_budget() -> None:
    """Each is small; the one with which it is too much is named, and that once."""
    ports = ",".join(map(str, range(500)))
    rules = [{**TO_ALL, "src": [], "dst": [f"10.0.{n}.1:{ports}"]} for n in range(210)]
    found = said({FILE: text(acls=rules)})
    assert [(code, underlined[:11]) for code, _, underlined, _ in found] == [
        ("policy.too-large", '"10.0.200.1')
    ]


def test_a_policy_at_the_limit_is_accepted() -> None:
    """One place less than too many."""
    ports = ",".join(map(str, range(50_000)))
    rules = [{**TO_ALL, "dst": [f"10.0.0.{n}:{ports}"]} for n in (1, 2)]
    assert [one[0] for one in said({FILE: text(acls=rules)})] == ["policy.too-large"]
    assert len(policy(text(acls=[{**one, "src": []} for one in rules])).document.rules) == 2


@pytest.mark.parametrize("section", ["acls", "nodeAttrs"])
def test_large_sets_named_often(section: str) -> None:
    """A set counts as often as it is named, wherever that is."""
    sets = {"ipset:a": [f"10.{n // 128}.{n % 128 * 2}.1" for n in range(9_000)]}
    entries = {
        "acls": [{**TO_ALL, "src": ["ipset:a"], "dst": []} for _ in range(12)],
        "nodeAttrs": [{"target": ["ipset:a"], "attr": ["x"]} for _ in range(12)],
    }
    [(code, _, underlined, _)] = said({FILE: text(ipsets=sets, **{section: entries[section]})})
    assert (code, underlined) == ("policy.too-large", '"ipset:a"')


def test_group_cycles_cannot_be_written() -> None:
    """A group in a group is an error where it stands."""
    written = text(groups={"group:a": ["group:b"], "group:b": ["group:a"]})
    assert [one[2:] for one in said({FILE: written})] == [
        ('"group:b"', 'groups["group:a"]: "group:b": group members cannot be recursive'),
        ('"group:a"', 'groups["group:b"]: "group:a": group members cannot be recursive'),
    ]


def test_tags_may_own_each_other_in_a_circle_however_long() -> None:
    """It means that whoever may give one may give all; no lists of all for each are made."""
    count = 3_000
    owners = {f"tag:t{n}": [f"tag:t{(n + 1) % count}"] for n in range(count)}
    ownership = policy(text(tagOwners={**owners, "tag:t7": ["ana@example.com"]})).ownership

    assert sum(map(len, ownership.tag_owners.values())) == count
    assert "ana@example.com" in {one.removeprefix("user:") for one in ownership.owners("tag:t9")}
    assert len(ownership.owners("tag:t8")) == count


def test_ipset_circles_and_chains_end() -> None:
    """Both are told at the name that closes the circle, or goes too deep."""
    circle = {f"ipset:s{n}": [f"ipset:s{(n + 1) % 3}"] for n in range(3)}
    assert [one[2:] for one in said({FILE: text(ipsets=circle)})] == [
        ('"ipset:s0"', "ipsets go in a circle: ipset:s0 -> ipset:s1 -> ipset:s2 -> ipset:s0")
    ]
    chain = {f"ipset:s{n}": [f"ipset:s{n + 1}"] for n in range(2_000)}
    found = said({FILE: text(ipsets={**chain, "ipset:s2000": ["10.0.0.0/8"]})})
    assert found[0][2:] == ('"ipset:s50"', "ipsets name each other more than 50 deep")


@pytest.mark.parametrize("word", ["add", "remove"])
def test_sets_of_very_many_addresses(word: str) -> None:
    """At the entry with which there are too many, not at the end of the list."""
    entries = [f"{word} 10.{n // 128}.{n % 128 * 2}.1" for n in range(20_000)]
    base = ["10.0.0.0/8"] if word == "remove" else []
    found = said({FILE: text(ipsets={"ipset:a": [*base, *entries]})})
    at = 10_000 - len(base)
    assert [one[2:] for one in found] == [
        (f'"{entries[at]}"', '"ipset:a" has more than 10000 stretches of addresses')
    ]


def test_sets_that_multiply_sets() -> None:
    """What is joined is counted over all of them."""
    sets = {"ipset:a": [f"10.{n // 128}.{n % 128 * 2}.1" for n in range(5_000)]}
    sets |= {f"ipset:b{n}": ["ipset:a"] * 10 for n in range(50)}
    found = said({FILE: text(ipsets=sets)})
    message = "ipsets join more than 200000 stretches of addresses in all"
    assert [one[2:] for one in found] == [('"ipset:a"', message)]


@pytest.mark.parametrize("opening", ["[", '{"a":', "[//\n"])
def test_nesting_without_end(opening: str) -> None:
    """Ten megabytes are too large; one is too deep, at the 101st level."""
    [(code, place, _, _)] = said({FILE: opening * (10_000_000 // len(opening))})
    assert (code, place.split(":")[0]) == ("hujson.text", FILE)
    lines = opening.count("\n")
    [(_, place, _, message)] = said({FILE: opening * 50_000})
    assert (place, message) == (f"{FILE}:{1 + 100 * lines}", "nested deeper than 100 levels")


def test_a_file_of_sixteen_megabytes() -> None:
    """The line where the first megabyte ends."""
    lines = '{"acls": [\n' + " " * 63 + "\n"
    [(code, place, _, message)] = said({FILE: lines + (" " * 63 + "\n") * (1 << 18)})
    assert (code, place) == ("hujson.text", f"{FILE}:16385")
    assert message == "the file is larger than 1048576 bytes"


def test_many_fragments_together() -> None:
    """Each fits; the file with which the policy is too large is named, and none is read after it."""
    groups = {f"group:g{n}": [f"u{m}@example.com" for m in range(1000)] for n in range(40)}
    one = json.dumps({"groups": groups})
    files = {f"policy.d/{n}.hujson": one.replace("group:g", f"group:g{n}x") for n in range(6)}
    found = said({FILE: text(), **files})
    assert [(code, place) for code, place, _, _ in found] == [
        ("repository.too-large", f"policy.d/{MAX_POLICY_CHARACTERS // len(one)}.hujson:1")
    ]


def test_tests_of_large_groups_against_large_groups() -> None:
    """The test with which they are too many is named and not run."""
    groups = {"group:g": [f"u{n}@example.com" for n in range(2_000)]}
    pairs = {"src": "group:g", "deny": ["group:g:9"]}
    rules = [{**TO_ALL, "dst": [f"10.0.0.{n}:22"]} for n in range(3)]
    written = text(
        groups=groups, acls=rules, tests=[{"src": "group:g", "deny": ["10.9.9.9:9"]}, pairs]
    )
    [(code, _, underlined, message)] = said({FILE: written})
    assert (code, underlined[:1]) == ("policy.tests-too-large", "{")
    assert message.startswith("test(s) failed: with this one the tests compare more than 10000000 ")

    ssh = {"action": "accept", "src": ["group:g"], "dst": ["tag:a"], "users": ["root"]}
    test = {"src": "group:g", "dst": ["group:g"], "deny": ["root"]}
    written = text(groups=groups, tagOwners={"tag:a": []}, ssh=[ssh], sshTests=[test])
    assert "policy.tests-too-large" in [one[0] for one in said({FILE: written})]
