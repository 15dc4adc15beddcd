"""``mergescale policy test``: runs a policy's own tests and says which rules they cover."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import click

from mergescale.cli.devices import Devices, about_devices
from mergescale.cli.errors import CommandFailed, ExitCode
from mergescale.cli.policy_files import PolicyFiles, count, path_argument, read_policy, refused
from mergescale.cli.problems import as_json
from mergescale.cli.reporting import checked, form_of, format_option, tell
from mergescale.cli.screen import Screen
from mergescale.policy.reports import Case, Outcome, Report, ReportForm

if TYPE_CHECKING:
    from mergescale.policy.compiled import CompiledPolicy
    from mergescale.policy.coverage import Coverage
    from mergescale.policy.diagnostics import Diagnostic, Span

_TITLE = "mergescale policy test"


@click.command("test")
@path_argument
@format_option
@click.option(
    "--min-coverage",
    type=click.FloatRange(0, 100),
    metavar="PERCENT",
    help="Fail when the tests cover fewer of the rules.",
)
@about_devices
def run_tests(
    screen: Screen,
    devices: Devices,
    path: str,
    form: str | None,
    min_coverage: float | None,
) -> None:
    """Run the tests that a policy holds; PATH is as for `check`.

    Says which rules the tests cover: those that let through what a test expects to be accepted.
    With an inventory, sshTests may name addresses.

    Exit code 3 if a test fails or too few rules are covered, 1 if the policy is refused before.
    """
    from mergescale.netmap.inventory import populate
    from mergescale.policy.compiled import compiled
    from mergescale.policy.coverage import cover
    from mergescale.policy.repository import selftest

    files, chosen = read_policy(path), form_of(screen, form)
    inventory = devices.read(path)
    declaration, found = files.declare()
    if declaration is None:
        tell(screen, chosen, checked(files, found))
        raise refused(found)
    snapshot = None if inventory is None else populate(inventory, declaration)
    said = files.as_named(selftest(declaration, snapshot))
    policy = compiled(declaration.policy)
    coverage = cover(policy, snapshot)
    cases = tuple(_cases(files, policy, said))
    _tell(screen, chosen, files, Report(_TITLE, said, cases, files.shown_texts), coverage)
    _end(screen, chosen, cases, coverage, min_coverage)


def _cases(
    files: PolicyFiles, policy: CompiledPolicy, said: Iterable[Diagnostic]
) -> Iterator[Case]:
    """Yield every expectation and how it ended; a failure stands at the place of its own."""
    found: dict[Span, list[Diagnostic]] = {}
    for one in said:
        found.setdefault(one.span, []).append(one)
    for test, name, place in _expectations(policy):
        skipped = found.get(files.place(test), [])
        failed = found.get(files.place(place), [])
        outcome = Outcome.SKIPPED if skipped else Outcome.FAILED if failed else Outcome.PASSED
        shown = files.place(place)
        yield Case(shown.file, f"{name} (line {shown.start_line})", outcome, (*skipped, *failed))


def _expectations(policy: CompiledPolicy) -> Iterator[tuple[Span, str, Span]]:
    """Yield (test, what is expected, where it stands)."""
    for test in policy.document.tests:
        for wanted, probes in (("accept", test.accept), ("deny", test.deny)):
            for probe in probes:
                yield test.span, f"{test.source} {wanted} {probe.text}", probe.span
    for login in policy.document.ssh_tests:
        places = ", ".join(one.text for one in login.targets)
        for wanted, users in (
            ("accept", login.accept),
            ("check", login.check),
            ("deny", login.deny),
        ):
            for one in users:
                yield login.span, f"{login.source} {wanted} {one.user} at {places}", one.span


def _tell(
    screen: Screen, form: ReportForm, files: PolicyFiles, report: Report, coverage: Coverage
) -> None:
    from mergescale.policy.coverage import warn_uncovered

    uncovered = files.as_named(warn_uncovered(coverage))
    match form:
        case ReportForm.TEXT:
            tell(screen, form, report)
            _tell_coverage(screen, files, coverage)
        case ReportForm.JSON:
            tell(screen, form, report, _json(files, report, coverage))
        case ReportForm.JUNIT:
            tell(screen, form, report)
        case _:
            tell(
                screen,
                form,
                Report(_TITLE, (*report.found, *uncovered), report.cases, report.texts),
            )


def _tell_coverage(screen: Screen, files: PolicyFiles, coverage: Coverage) -> None:
    if not coverage.rules:
        return
    covered = len(coverage.rules) - len(coverage.uncovered)
    screen.line(
        f"{covered} of {count(len(coverage.rules), 'rule')} covered by tests"
        f" ({_percent(coverage):g} %)"
    )
    for one in coverage.uncovered:
        screen.line(f"  not covered: {_where(files.place(one.origin))}")


def _json(files: PolicyFiles, report: Report, coverage: Coverage) -> dict[str, Any]:
    return {
        "expectations": [
            {"file": one.file, "name": one.name, "outcome": one.outcome} for one in report.cases
        ],
        "diagnostics": [as_json(one) for one in report.found],
        "coverage": {
            "percent": _percent(coverage),
            "rules": [
                {
                    "rule": _where(files.place(one.origin)),
                    "tests": [_where(files.place(probe)) for probe in one.probes],
                }
                for one in coverage.rules
            ],
        },
    }


def _end(
    screen: Screen,
    form: ReportForm,
    cases: tuple[Case, ...],
    coverage: Coverage,
    min_coverage: float | None,
) -> None:
    failed = sum(one.outcome is Outcome.FAILED for one in cases)
    skipped = sum(one.outcome is Outcome.SKIPPED for one in cases)
    if failed:
        raise CommandFailed(
            f"{failed} of {count(len(cases), 'expectation')} failed", exit_code=ExitCode.BAD_NEWS
        )
    if min_coverage is not None and coverage.percent < min_coverage:
        raise CommandFailed(
            f"the tests cover {_percent(coverage):g} % of the rules, less than {min_coverage:g} %",
            exit_code=ExitCode.BAD_NEWS,
        )
    if form is not ReportForm.TEXT:
        return
    if not cases:
        screen.done("the policy holds no tests")
    else:
        told = f", {skipped} not run" if skipped else ""
        screen.done(f"{count(len(cases) - skipped, 'expectation')} met{told}")


def _percent(coverage: Coverage) -> float:
    """Round down, so that only all of the rules are 100."""
    return int(coverage.percent * 10) / 10


def _where(span: Span) -> str:
    return f"{span.file}:{span.start_line}"
