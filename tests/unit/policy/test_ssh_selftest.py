"""The policy's own tests of its SSH rules."""

from __future__ import annotations

from typing import Any

import pytest

from mergescale.policy.diagnostics import Severity
from mergescale.policy.ssh.selftest import run_ssh_tests
from support.policies import diagnose, underlined
from support.ssh import entry, ssh_text
from support.worlds import world

ANA, BEN = "ana@example.com", "ben@example.com"
RULES = (
    entry(ANA, "tag:web", "root ubuntu"),
    entry("group:eng", "tag:web", "autogroup:nonroot"),
    entry("group:eng", "tag:db", "postgres", action="check"),
    entry("autogroup:member", "autogroup:self", "root"),
    entry("autogroup:member", "tag:rec", "localpart:*@example.com"),
    entry("tag:web", "tag:db", "backup"),
)


def asked(src: str, dst: str, **expected: list[str]) -> dict[str, Any]:
    return {"src": src, "dst": dst.split(), **expected}


HOLDING = (
    asked(ANA, "tag:web", accept=["root", "ubuntu", "anybody"]),
    asked(BEN, "tag:web", accept=["anybody"], deny=["root"]),
    asked("group:eng", "tag:web", accept=["anybody"]),
    asked(BEN, "tag:db", check=["postgres"], deny=["root", "ubuntu"]),
    asked("eve@example.com", "tag:web tag:db", deny=["root", "ubuntu", "postgres"]),
    asked(ANA, ANA, accept=["root", "ana"], deny=["ben", "ubuntu"]),
    asked(ANA, BEN, deny=["root", "ana", "ben"]),
    asked(ANA, "tag:rec", accept=["ana"], deny=["ben", "root"]),
    asked("eve@example.org", "tag:rec", deny=["eve"]),
    asked("tag:web", "tag:db", accept=["backup"], deny=["postgres"]),
    asked("autogroup:tagged", "tag:db", deny=["backup"]),
    asked("tag:web", ANA, deny=["root"]),
    asked("group:none", "tag:web", deny=["root"]),
)
FAILING = (
    asked(BEN, "tag:web", accept=["root"]),
    asked("group:eng", "tag:web", accept=["root"]),
    asked(BEN, "tag:db", accept=["postgres"]),
    asked(ANA, "tag:web", check=["root"]),
    asked(ANA, "tag:web tag:db", accept=["ubuntu"]),
    asked("group:none", "tag:web", accept=["root"]),
    asked(ANA, "", accept=["root"]),
    asked(ANA, "tag:web", deny=["root"]),
    asked("group:eng", "tag:web", deny=["root"]),
    asked(BEN, "tag:db", deny=["postgres"]),
    asked(ANA, "tag:rec", accept=["ben"]),
)


@pytest.mark.parametrize("test", HOLDING, ids=str)
def test_an_expectation_that_holds_says_nothing(test: dict[str, Any]) -> None:
    """Sources, destinations and users mean what the rules mean by them."""
    assert [
        one.message
        for one in diagnose(ssh_text(*RULES, sshTests=[test]))[1]
        if one.code == "policy.ssh-test-failed"
    ] == []


@pytest.mark.parametrize("test", FAILING, ids=str)
def test_an_expectation_that_does_not_hold_refuses_the_policy(test: dict[str, Any]) -> None:
    """With one error at the user that it names."""
    text = ssh_text(*RULES, sshTests=[test])
    compiled, found = diagnose(text)
    failed = [one for one in found if one.severity is Severity.ERROR]
    (user,) = [one for key in ("accept", "check", "deny") for one in test.get(key, [])]
    assert compiled is None
    assert [(one.code, underlined(text, one)) for one in failed] == [
        ("policy.ssh-test-failed", f'"{user}"')
    ]
    assert failed[0].message.startswith("test(s) failed")


ADDRESSED = (
    (asked(ANA, "srv", accept=["root"]), True),
    (asked(ANA, "100.64.0.3", accept=["root"]), True),
    (asked("100.64.0.1", "tag:web", accept=["root"]), True),
    (asked("100.64.0.2", "tag:web", accept=["root"]), False),
    (asked("100.64.0.99", "tag:web", accept=["root"]), False),
    (asked(ANA, "100.64.0.4", accept=["root"]), False),
    (asked(ANA, "fd7a:115c:a1e0::3", accept=["root"]), False),
    (asked("100.64.0.1", "100.64.0.1", accept=["root"]), True),
)


@pytest.mark.parametrize(("test", "holds"), ADDRESSED, ids=str)
def test_an_address_stands_for_the_device_that_has_it(test: dict[str, Any], holds: bool) -> None:
    """By its IPv4 address only, as the hosted service does; an unknown one is nobody."""
    text = ssh_text(*RULES, sshTests=[test], hosts={"srv": "100.64.0.3"})
    snapshot = world(f"{ANA}: laptop; {BEN}: desk; tag:web: w; tag:db: d")
    tested, found = diagnose(text)
    if tested is None:
        assert [one.code for one in found if one.severity is Severity.ERROR] == [
            "policy.ssh-test-failed"
        ]
        assert not holds
        return
    assert [one.code for one in run_ssh_tests(tested)] == ["policy.ssh-test-undecided"]
    failed = [one.code for one in run_ssh_tests(tested, snapshot)]
    assert failed == ([] if holds else ["policy.ssh-test-failed"])


def test_a_test_of_addresses_is_not_decided_without_devices() -> None:
    """The policy is accepted, and a warning says what was not run."""
    test = asked(ANA, "100.64.0.3", accept=["root"])
    compiled, found = diagnose(ssh_text(*RULES, sshTests=[test]))
    assert compiled is not None
    assert "policy.ssh-test-undecided" in {one.code for one in found}


def test_an_ipv6_address_is_nobody_with_devices_or_without() -> None:
    """Nothing is left to be decided: nobody gets in there, whoever has the address."""
    test = asked(ANA, "fd7a:115c:a1e0::3", deny=["root"])
    compiled, _ = diagnose(ssh_text(*RULES, sshTests=[test]))
    assert compiled is not None
    assert run_ssh_tests(compiled) == ()
    assert run_ssh_tests(compiled, world(f"{ANA}: laptop; {BEN}: desk; tag:web: w")) == ()
