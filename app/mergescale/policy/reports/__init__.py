"""Reports of policy files in the forms that other programs read.

``sarif`` (code scanning), ``junit`` (test results), ``github`` (annotations of a GitHub run),
``gitlab`` (Code Quality of a merge request). Each takes a `Report` and returns a text.

What must hold: a report says the same in every form, and is the whole standard output.
Does not decide what is wrong, nor how a command ends.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mergescale.policy.diagnostics import Diagnostic


class ReportForm(StrEnum):
    """What ``--format`` takes."""

    TEXT = "text"
    JSON = "json"
    SARIF = "sarif"
    JUNIT = "junit"
    GITHUB = "github"
    GITLAB = "gitlab"


class Outcome(StrEnum):
    """How an expectation ended."""

    PASSED = "passed"
    FAILED = "failed"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True)
class Case:
    """One thing that was tried: an expectation of a test, or a file that was read.

    Attributes:
        file: as the person named it.
        name: what was tried, with its line where a file has several.
        found: why it is not as it should be, or what was noted beside.
    """

    file: str
    name: str
    outcome: Outcome
    found: tuple[Diagnostic, ...] = ()


@dataclass(frozen=True, slots=True)
class Report:
    """What a command found.

    Attributes:
        title: the command.
        found: all that is to be said, sorted by place.
        cases: what was tried.
        texts: file as the person named it -> its text.
    """

    title: str
    found: tuple[Diagnostic, ...]
    cases: tuple[Case, ...]
    texts: Mapping[str, str]


def render(form: ReportForm, report: Report) -> str:
    """Return the report in one of the forms that are neither text nor JSON."""
    match form:
        case ReportForm.SARIF:
            from mergescale.policy.reports.sarif import sarif

            return sarif(report)
        case ReportForm.JUNIT:
            from mergescale.policy.reports.junit import junit

            return junit(report)
        case ReportForm.GITHUB:
            from mergescale.policy.reports.github import commands

            return commands(report)
        case ReportForm.GITLAB:
            from mergescale.policy.reports.gitlab import code_quality

            return code_quality(report)
        case _:
            raise ValueError(form)
