"""Runs a policy's own ``tests`` and says which do not hold.

A test asks about kinds of devices, not about those that happen to exist: a user stands for any
untagged device of that user, a tag for any device with just that tag, an address for a device
nobody knows anything else about. The answer is therefore the same on every machine.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Final

from mergescale.domain.user import Role
from mergescale.policy.compiled import CompiledPolicy, CompiledRule, Steered, TargetKind, Wide
from mergescale.policy.diagnostics import Diagnostic, Report
from mergescale.policy.document import PolicyTest, Probe
from mergescale.policy.places import INTERNET
from mergescale.policy.ports import DEFAULT_PROTOCOLS, WITH_PORTS, Ports
from mergescale.policy.postures import Attributes
from mergescale.policy.principals import TAGGED, Principal, of_login, of_tags, principal
from mergescale.policy.selectors import Group, Host, Net, Range, Selector, Tag, User, parse_range

#: SPEC(hosted service): a test that names no protocol asks for TCP or UDP.
_ASKED = (6, 17)
_PUBLIC = {
    version: tuple(one for text in texts if isinstance(one := parse_range(text), Range))
    for version, texts in INTERNET.items()
}

#: LIMIT: pairs of devices times rules, of all tests; one takes 0.1 to 1 microseconds.
MAX_STEPS: Final = 10_000_000
_TOO_LARGE: Final = f"test(s) failed: with this one the tests compare more than {MAX_STEPS} pairs of people and rules"
_TOO_LARGE_HELP: Final = "test one person in the place of a large group"


@dataclass(frozen=True, slots=True)
class _Device:
    """A device as far as a test says what it is.

    Attributes:
        principals: what it answers to.
        login: its owner, empty for none.
        address: set where the test names one.
        attributes: for postures.
    """

    principals: frozenset[Principal]
    login: str = ""
    address: Range | None = None
    attributes: Attributes = field(default_factory=dict)


def run_tests(policy: CompiledPolicy) -> tuple[Diagnostic, ...]:
    """Return one error for each expectation that does not hold, at its place."""
    report = Report()
    steps, rules = 0, len(policy.rules) + len(policy.own_rules)
    for test in policy.document.tests:
        steps += (
            rules
            * _count(test.source, policy)
            * sum(_count(one.selector, policy) for one in (*test.accept, *test.deny))
        )
        if steps > MAX_STEPS:
            report.error("policy.tests-too-large", test.span, _TOO_LARGE, _TOO_LARGE_HELP)
            break
        sources = _sources_of(test, policy)
        for wanted, probes in ((True, test.accept), (False, test.deny)):
            for probe in probes:
                _try(policy, test, sources, probe, wanted, report)
    return report.diagnostics()


def _count(selector: Selector, policy: CompiledPolicy) -> int:
    """Return how many devices a selector stands for in a test."""
    match selector:
        case Group(name):
            return len(policy.document.groups[name])
        case _:
            return 1


def _try(
    policy: CompiledPolicy,
    test: PolicyTest,
    sources: tuple[_Device, ...],
    probe: Probe,
    wanted: bool,  # noqa: FBT001 - accept or deny
    report: Report,
) -> None:
    answers = _answers(policy, test, sources, probe)
    if wanted:
        if answers and all(answers):
            return
        told = f"test(s) failed: {test.source} should reach {probe.text}, the policy denies it"
        report.error("policy.test-failed", probe.span, told, "")
        return
    rule = next((answer for answer in answers if answer is not None), None)
    if rule is not None:
        told = f"test(s) failed: {test.source} should not reach {probe.text}, the policy admits it"
        where = f"the rule at line {rule.origin.start_line} admits it"
        report.error("policy.test-failed", probe.span, told, where)


def admitting(
    policy: CompiledPolicy, test: PolicyTest, probe: Probe
) -> tuple[CompiledRule | None, ...]:
    """Return what lets each of the test's sources through to each device of the probe."""
    return tuple(_answers(policy, test, _sources_of(test, policy), probe))


def _sources_of(test: PolicyTest, policy: CompiledPolicy) -> tuple[_Device, ...]:
    devices = _devices(test.source, policy)
    return tuple(replace(one, attributes=test.attributes) for one in devices)


def _answers(
    policy: CompiledPolicy, test: PolicyTest, sources: tuple[_Device, ...], probe: Probe
) -> list[CompiledRule | None]:
    asked = test.protocols or _ASKED
    targets = _devices(probe.selector, policy)
    pairs = [(one, other) for one in sources for other in targets]
    return [_admitting(policy, one, other, probe.port, asked) for one, other in pairs]


def _devices(selector: Selector, policy: CompiledPolicy) -> tuple[_Device, ...]:
    match selector:
        case User(login):
            return (_Device(_person(login, policy), login),)
        case Group(name):
            logins = policy.document.groups[name]
            return tuple(_Device(_person(one, policy), one) for one in logins)
        case Tag(name):
            return (_Device(of_tags((name,))),)
        case Net(found):
            return (_Device(frozenset(), address=found),)
        case Host(name):
            return (_Device(frozenset(), address=policy.document.hosts[name]),)
        case _:
            meant = principal(selector)
            return (_Device(frozenset() if meant is None else frozenset({meant})),)


def _person(login: str, policy: CompiledPolicy) -> frozenset[Principal]:
    return of_login(login, policy.document.roles.get(login, Role.MEMBER), policy.groups_of)


def _admitting(
    policy: CompiledPolicy, source: _Device, target: _Device, port: int, asked: Iterable[int]
) -> CompiledRule | None:
    """Return a rule that lets the source reach the port over one of the asked protocols."""
    inside = _sources(policy, source)
    for rule in (*policy.rules, *policy.own_rules):
        if not rule.capabilities and inside >> rule.source & 1:
            spoken = [one for one in asked if one in (rule.protocols or DEFAULT_PROTOCOLS)]
            for number, ports in rule.targets:
                kind = policy.targets[number]
                if _carries(spoken, ports, port) and _is_target(kind, source, target):
                    return rule
    return None


def _sources(policy: CompiledPolicy, device: _Device) -> int:
    lookup = policy.source_lookup
    bits = lookup.named(device.principals) | lookup.always
    if device.address is not None:
        one = device.address
        bits |= lookup.by_address.meeting(one.version, one.first, one.last)
        bits |= lookup.by_own_address.meeting(one.version, one.first, one.last)
    gates = policy.gates
    return bits & ~gates.gated | bits & gates.opened(device.attributes)


def _carries(spoken: Iterable[int], ports: Ports, port: int) -> bool:
    return any(one not in WITH_PORTS or port in ports for one in spoken)


def _is_target(kind: TargetKind, source: _Device, target: _Device) -> bool:
    match kind:
        case Wide.ANYTHING:
            return True
        case Wide.OWN_DEVICES:
            mine = source.login == target.login != ""
            return mine and TAGGED not in source.principals
        case Wide.INTERNET:
            return target.address is not None and _is_public(target.address)
        case Range():
            one = target.address
            return one is not None and kind.meets(one.version, one.first, one.last)
        case Steered(to=to):
            return _is_target(to, source, target)
        case _:
            return kind in target.principals


def _is_public(address: Range) -> bool:
    return any(
        one.meets(address.version, address.first, address.last) for one in _PUBLIC[address.version]
    )
