"""``--format``: what a command found, told to a person or to a program."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import click

from mergescale.cli.policy_files import PolicyFiles
from mergescale.cli.problems import as_json, as_text
from mergescale.cli.screen import Screen
from mergescale.policy.reports import Case, Outcome, Report, ReportForm, render

if TYPE_CHECKING:
    from mergescale.policy.diagnostics import Diagnostic

format_option: Final = click.option(
    "--format",
    "form",
    type=click.Choice([str(form) for form in ReportForm]),
    metavar="text|json|sarif|junit|github|gitlab",
    help="How to tell what was found; text and json are those of -o.",
)


def form_of(screen: Screen, said: str | None) -> ReportForm:
    """Return the form that was asked for, by ``--format`` or by ``-o``."""
    if said is not None:
        return ReportForm(said)
    return ReportForm.JSON if screen.is_json else ReportForm.TEXT


def tell(screen: Screen, form: ReportForm, report: Report, value: Any = None) -> None:
    """Print a report.

    Args:
        screen: where to.
        form: how.
        report: what.
        value: what programs get for JSON; the diagnostics when it is None.
    """
    match form:
        case ReportForm.TEXT:
            for one in report.found:
                screen.line(as_text(one, report.texts.get(one.span.file, "")))
        case ReportForm.JSON:
            screen.json([as_json(one) for one in report.found] if value is None else value)
        case _:
            screen.out.write(render(form, report))


def checked(files: PolicyFiles, found: tuple[Diagnostic, ...]) -> Report:
    """Return the report of a check: every file was tried."""
    from mergescale.policy.diagnostics import has_errors

    by_file: dict[str, list[Diagnostic]] = {name: [] for name in files.shown_texts}
    for one in found:
        by_file.setdefault(one.span.file, []).append(one)
    cases = tuple(
        Case(name, name, Outcome.FAILED if has_errors(said) else Outcome.PASSED, tuple(said))
        for name, said in by_file.items()
    )
    return Report("mergescale policy check", found, cases, files.shown_texts)
