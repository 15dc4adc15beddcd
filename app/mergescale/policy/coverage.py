"""Which rules the policy's own tests exercise: a rule is covered when it decides for a test.

Only what a test expects to be let through counts: a test that expects a refusal passes without
any rule. Where several rules admit the same, the first one decides; a rule behind it that decides for no test is not covered.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from mergescale.domain.snapshot import Snapshot
from mergescale.policy.compiled import CompiledPolicy
from mergescale.policy.diagnostics import Diagnostic, Report, Span
from mergescale.policy.selftest import admitting
from mergescale.policy.ssh.selftest import letting_in

_WHOLE: Final = 100.0


@dataclass(frozen=True, slots=True)
class CoveredRule:
    """A rule and what a test expects of it.

    Attributes:
        origin: of the entry of ``acls``, ``grants`` or ``ssh``.
        probes: where the expectations stand for which it decides, in order.
    """

    origin: Span
    probes: tuple[Span, ...]


@dataclass(frozen=True, slots=True)
class Coverage:
    """All rules that a test could exercise, in the policy's order.

    Attributes:
        rules: those that let packets or logins through; a grant of ``app`` alone cannot be tested.
    """

    rules: tuple[CoveredRule, ...]

    @property
    def uncovered(self) -> tuple[CoveredRule, ...]:
        """The rules for which no test stands."""
        return tuple(one for one in self.rules if not one.probes)

    @property
    def percent(self) -> float:
        """How many of the rules are covered; all of none are."""
        if not self.rules:
            return _WHOLE
        return _WHOLE * (len(self.rules) - len(self.uncovered)) / len(self.rules)


def cover(policy: CompiledPolicy, snapshot: Snapshot | None = None) -> Coverage:
    """Find out which rule lets each accepted expectation of the policy's tests through.

    Args:
        policy: whose tests they are.
        snapshot: which devices have which address, for ``sshTests`` that name addresses.
    """
    document = policy.document
    probes: dict[Span, dict[Span, None]] = {
        **{one.origin: {} for one in document.rules if one.targets},
        **{one.origin: {} for one in document.ssh if one.targets},
    }
    for origin, probe in _decisions(policy, snapshot):
        probes.setdefault(origin, {})[probe] = None
    return Coverage(tuple(CoveredRule(origin, tuple(found)) for origin, found in probes.items()))


def warn_uncovered(coverage: Coverage) -> tuple[Diagnostic, ...]:
    """Return a warning for each rule that no test covers."""
    report = Report()
    for one in coverage.uncovered:
        help_ = "add a test that expects what it lets through"
        report.warn("policy.untested", one.origin, "no test covers this rule", help_)
    return report.diagnostics()


def _decisions(policy: CompiledPolicy, snapshot: Snapshot | None) -> Iterator[tuple[Span, Span]]:
    """Yield (rule, expectation) wherever a rule lets an expectation through."""
    for test in policy.document.tests:
        for probe in test.accept:
            yield from (
                (rule.origin, probe.span)
                for rule in admitting(policy, test, probe)
                if rule is not None
            )
    for ssh_test in policy.document.ssh_tests:
        for one in (*ssh_test.accept, *ssh_test.check):
            yield from (
                (entry.origin, one.span)
                for entry in letting_in(policy, ssh_test, one.user, snapshot)
                if entry is not None
            )
