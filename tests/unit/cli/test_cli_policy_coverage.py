"""``mergescale policy test``: which rules the tests cover, and what an inventory adds."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from support.command_line import CommandLine, Ended

mergescale = CommandLine()

POLICY = """{
  "groups": {"group:ops": ["ana@example.com"]},
  "tagOwners": {"tag:web": [], "tag:db": []},
  "acls": [
    {"action": "accept", "src": ["group:ops"], "dst": ["tag:web:22"]},
    {"action": "accept", "src": ["*"], "dst": ["tag:web:80"]},
    {"action": "accept", "src": ["tag:web"], "dst": ["tag:db:5432"]},
  ],
  "ssh": [
    {"action": "accept", "src": ["group:ops"], "dst": ["tag:web"], "users": ["root"]},
  ],
  "tests": [{"src": "ana@example.com", "accept": ["tag:web:22"], "deny": ["tag:db:5432"]}],
  "sshTests": [{"src": "ana@example.com", "dst": ["100.64.0.2"], "accept": ["root"]}],
}
"""
INVENTORY: dict[str, list[dict[str, object]]] = {
    "users": [{"login_name": "ana@example.com", "role": "admin"}],
    "nodes": [
        {
            "name": "laptop",
            "ipv4": "100.64.0.1",
            "ipv6": "fd7a:115c:a1e0::1",
            "user": "ana@example.com",
        },
        {"name": "web", "ipv4": "100.64.0.2", "ipv6": "fd7a:115c:a1e0::2", "tags": ["tag:web"]},
    ],
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "policy.hujson").write_text(POLICY, "utf-8")
    (tmp_path / "tailnet.json").write_text(json.dumps(INVENTORY), "utf-8")
    return tmp_path


def test_rules_without_a_test_are_listed(folder: Path) -> None:
    """A rule counts when it lets an accepted probe through, not when a refusal passes by it."""
    ended = mergescale("policy", "test")
    assert ended.code == 0
    assert ended.out.splitlines()[-5:] == [
        "1 of 4 rules covered by tests (25 %)",
        "  not covered: policy.hujson:6",
        "  not covered: policy.hujson:7",
        "  not covered: policy.hujson:10",
        "2 expectations met, 1 not run",
    ]


def test_an_inventory_says_whose_an_address_is(folder: Path) -> None:
    """Then the test of the address is run, and the rule that decides it is covered."""
    ended = mergescale("policy", "test", "--inventory", "tailnet.json", "-o", "json")
    assert (ended.code, ended.err) == (0, "")
    assert ended.json == {
        "expectations": [
            {
                "file": "policy.hujson",
                "name": name,
                "outcome": "passed",
            }
            for name in (
                "ana@example.com accept tag:web:22 (line 12)",
                "ana@example.com deny tag:db:5432 (line 12)",
                "ana@example.com accept root at 100.64.0.2 (line 13)",
            )
        ],
        "diagnostics": [],
        "coverage": {
            "percent": 50.0,
            "rules": [
                {"rule": "policy.hujson:5", "tests": ["policy.hujson:12"]},
                {"rule": "policy.hujson:6", "tests": []},
                {"rule": "policy.hujson:7", "tests": []},
                {"rule": "policy.hujson:10", "tests": ["policy.hujson:13"]},
            ],
        },
    }


def test_an_inventory_may_come_from_standard_input(folder: Path) -> None:
    """But not together with the policy."""
    raw = json.dumps(INVENTORY).encode()
    ended = mergescale("policy", "test", "--inventory", "-", stdin=raw)
    assert ended.out.splitlines()[-1] == "3 expectations met"
    ended = mergescale("policy", "test", "-", "--inventory", "-", stdin=raw)
    assert ended.code == 2
    assert ended.err.startswith("error: only one of PATH and --inventory can be standard input")


def test_too_little_coverage_has_the_exit_code_of_a_failure(folder: Path) -> None:
    """3, below the bound only."""
    assert mergescale("policy", "test", "--min-coverage", "25").code == 0
    ended = mergescale("policy", "test", "--min-coverage", "25.5")
    assert ended.code == 3
    assert ended.err == "error: the tests cover 25 % of the rules, less than 25.5 %\n"
    assert mergescale("policy", "test", "--min-coverage", "101").code == 2


def test_a_policy_without_rules_is_covered() -> None:
    """There is nothing that a test could be missing for."""
    ended = mergescale("policy", "test", "-", "--min-coverage", "100", stdin=b'{"acls": []}')
    assert ended == Ended(0, "the policy holds no tests\n", "")


def test_a_rule_behind_another_that_says_the_same_is_not_covered() -> None:
    """The first one decides, so taking the second one away would fail no test."""
    rule = '{"action": "accept", "src": ["ana@example.com"], "dst": ["10.0.0.1:80"]}'
    text = f"""{{"acls": [
      {rule},
      {rule}],
      "tests": [{{"src": "ana@example.com", "accept": ["10.0.0.1:80"]}}]}}"""
    ended = mergescale("policy", "test", "-", "-o", "json", stdin=text.encode())
    rules = ended.json["coverage"]["rules"]
    assert rules == [{"rule": "-:2", "tests": ["-:4"]}, {"rule": "-:3", "tests": []}]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("nope", 'error: "bad.json": not an inventory: '),
        ('{"nodes": [{"name": 1}]}', "Expected `str`, got `int` - at `$.nodes[0].name`"),
        (
            json.dumps({**INVENTORY, "users": []}),
            'error: the user "ana@example.com" of node "laptop" is not listed',
        ),
        (
            json.dumps({**INVENTORY, "nodes": INVENTORY["nodes"] * 2}),
            'error: two nodes of the inventory have "laptop"',
        ),
    ],
)
def test_a_bad_inventory_is_told(folder: Path, content: str, said: str) -> None:
    """One line that says what and where, and exit code 1."""
    (folder / "bad.json").write_text(content, "utf-8")
    ended = mergescale("policy", "test", "--inventory", "bad.json")
    assert (ended.code, ended.out) == (1, "")
    assert said in ended.err.splitlines()[0]


def test_a_missing_inventory_is_told(folder: Path) -> None:
    """By the name that was given."""
    ended = mergescale("policy", "test", "--inventory", "nope.json")
    assert ended == Ended(1, "", 'error: "nope.json" cannot be read: No such file or directory\n')


def test_a_policy_that_is_refused_is_not_tested(folder: Path) -> None:
    """Exit code 1 as for `check`, whatever the form."""
    (folder / "policy.hujson").write_text(POLICY.replace("tag:web:80", "tag:wep:80"), "utf-8")
    for form in ("text", "json", "sarif", "junit", "github"):
        ended = mergescale("policy", "test", "--format", form)
        assert ended.code == 1, form
        assert "policy.unknown-tag" in ended.out or form == "text"
        assert ended.err == "error: the policy is refused: 1 error\n"
