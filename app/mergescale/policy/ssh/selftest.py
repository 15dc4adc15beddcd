"""Runs a policy's own ``sshTests`` and says which do not hold.

A test asks about kinds of devices, as ``tests`` do, so its answer is the same on every machine.
Only an address stands for the device that has it.

SPEC(hosted service): devices are found by their IPv4 addresses; an IPv6 address is nobody.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from ipaddress import IPv4Address
from typing import Final

from mergescale.domain.snapshot import Snapshot
from mergescale.domain.user import Role
from mergescale.policy.compiled import CompiledPolicy
from mergescale.policy.diagnostics import Diagnostic, Report, quoted
from mergescale.policy.principals import TAGGED, Principal, named, of_login, of_node, of_tags
from mergescale.policy.selectors import Group, Host, Net, Range, Selector, Tag, User
from mergescale.policy.ssh.compiled import CompiledSsh
from mergescale.policy.ssh.document import Expected, SshTest, admits
from mergescale.policy.ssh.testcases import FAILED

#: LIMIT: pairs of devices times users and entries, of all tests; one takes some microseconds.
MAX_STEPS: Final = 500_000


class Verdict(StrEnum):
    """What the policy does with a login."""

    ACCEPT = "accept"
    CHECK = "check"
    DENY = "deny"


@dataclass(frozen=True, slots=True)
class _Device:
    """A device as far as a test says what it is.

    Attributes:
        principals: what it answers to.
        login: its owner, empty for none.
    """

    principals: frozenset[Principal]
    login: str = ""


_NOBODY = _Device(frozenset())


def run_ssh_tests(
    policy: CompiledPolicy, snapshot: Snapshot | None = None
) -> tuple[Diagnostic, ...]:
    """Return one error for each expectation that does not hold, at its place.

    Args:
        policy: whose tests they are.
        snapshot: which devices have which address; without it, tests that name addresses are
            not run, and a warning says so.
    """
    report = Report()
    steps, entries = 0, len(policy.document.ssh)
    for test in policy.document.ssh_tests:
        steps += entries * _size(test, policy)
        if steps > MAX_STEPS:
            message = f"{FAILED}with this one sshTests compare more than {MAX_STEPS} pairs"
            help_ = "test one person in the place of a large group"
            report.error("policy.tests-too-large", test.span, message, help_)
            break
        if snapshot is None and _names_addresses(test, policy):
            message = "this test names addresses and was not run: nobody said whose they are"
            report.warn("policy.ssh-test-undecided", test.span, message, "test tags or users")
        else:
            _run(policy, test, snapshot, report)
    return report.diagnostics()


def _size(test: SshTest, policy: CompiledPolicy) -> int:
    """Return for how many pairs of devices and users a test asks."""
    groups = policy.document.groups
    sources, targets = (
        sum(len(groups[one.name]) if isinstance(one, Group) else 1 for one in side)
        for side in ((test.source,), [target.selector for target in test.targets])
    )
    return sources * targets * len((*test.accept, *test.check, *test.deny))


def _run(policy: CompiledPolicy, test: SshTest, snapshot: Snapshot | None, report: Report) -> None:
    pairs = _pairs(policy, test, snapshot)
    for wanted, expected in (
        (Verdict.ACCEPT, test.accept),
        (Verdict.CHECK, test.check),
        (Verdict.DENY, test.deny),
    ):
        for one in expected:
            found = {_verdict(_entry(policy, *pair, one.user)) for pair in pairs}
            if not pairs and wanted is not Verdict.DENY:
                found = {Verdict.DENY}
            if wrong := found - {wanted}:
                _failed(test, one, wanted, min(wrong), report)


def letting_in(
    policy: CompiledPolicy, test: SshTest, user: str, snapshot: Snapshot | None = None
) -> tuple[CompiledSsh | None, ...]:
    """Return what decides for each pair of the test's devices; empty for a test that is not run."""
    if snapshot is None and _names_addresses(test, policy):
        return ()
    return tuple(_entry(policy, *pair, user) for pair in _pairs(policy, test, snapshot))


def _pairs(
    policy: CompiledPolicy, test: SshTest, snapshot: Snapshot | None
) -> list[tuple[_Device, _Device]]:
    return [
        (source, target)
        for source in _devices(test.source, policy, snapshot)
        for one in test.targets
        for target in _devices(one.selector, policy, snapshot)
    ]


def _failed(
    test: SshTest, expected: Expected, wanted: Verdict, found: Verdict, report: Report
) -> None:
    places = ", ".join(one.text for one in test.targets)
    message = (
        f"{FAILED}{test.source} as {quoted(expected.user)} at {places}:"
        f" the test expects {wanted}, the policy says {found}"
    )
    report.error("policy.ssh-test-failed", expected.span, message)


def _names_addresses(test: SshTest, policy: CompiledPolicy) -> bool:
    selectors = (test.source, *(one.selector for one in test.targets))
    found = [_address(one, policy) for one in selectors]
    return any(one is not None and one.version == 4 for one in found)


def _address(selector: Selector, policy: CompiledPolicy) -> Range | None:
    match selector:
        case Net(found):
            return found
        case Host(name):
            return policy.document.hosts[name]
        case _:
            return None


def _devices(
    selector: Selector, policy: CompiledPolicy, snapshot: Snapshot | None
) -> tuple[_Device, ...]:
    match selector:
        case User(login):
            return (_Device(_person(login, policy), login),)
        case Group(name):
            logins = policy.document.groups[name]
            return tuple(_Device(_person(one, policy), one) for one in logins)
        case Tag(name):
            return (_Device(of_tags((name,))),)
        case Net() | Host():
            return (_real(_address(selector, policy), policy, snapshot),)
        case _:
            return (_Device(named((selector,))),)


def _person(login: str, policy: CompiledPolicy) -> frozenset[Principal]:
    return of_login(login, policy.document.roles.get(login, Role.MEMBER), policy.groups_of)


def _real(address: Range | None, policy: CompiledPolicy, snapshot: Snapshot | None) -> _Device:
    """Return the device that has the address, or one that answers to nothing."""
    if snapshot is None or address is None or address.version != 4:
        return _NOBODY
    node = snapshot.addresses.get(IPv4Address(address.first))
    if node is None:
        return _NOBODY
    record = snapshot.nodes[node]
    owner = snapshot.owner(record)
    principals = of_node(record.tags, owner, policy.groups_of)
    return _Device(principals, "" if owner is None else owner.login)


def _entry(
    policy: CompiledPolicy, source: _Device, target: _Device, user: str
) -> CompiledSsh | None:
    """Return the entry that decides about a login, None when none lets the user in."""
    inside = policy.source_lookup.named(source.principals)
    among = policy.target_lookup.named(target.principals)
    same = source.login.casefold() == target.login.casefold() != ""
    for entry in policy.ssh:
        leads = entry.among & among or (
            same and TAGGED not in source.principals and (entry.own or entry.logins.domain)
        )
        if leads and inside >> entry.source & 1 and _lets_in(entry, source, user):
            return entry
    return None


def _verdict(entry: CompiledSsh | None) -> Verdict:
    if entry is None:
        return Verdict.DENY
    return Verdict.ACCEPT if entry.check_period is None else Verdict.CHECK


def _lets_in(entry: CompiledSsh, source: _Device, user: str) -> bool:
    return admits(entry.logins.mapping(), user) or user == entry.logins.local_part(source.login)
