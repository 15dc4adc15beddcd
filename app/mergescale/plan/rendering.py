"""A plan in every form: one function for the command line and the API."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Final

import msgspec

from mergescale.kernel.errors import Invalid
from mergescale.plan.markdown import as_markdown, as_refusal
from mergescale.plan.model import Plan, encode
from mergescale.plan.notes import notes
from mergescale.plan.redaction import Redaction, redacted, without_names
from mergescale.plan.text import as_text, printable
from mergescale.policy.diagnostics import Diagnostic, has_errors
from mergescale.policy.diagnostics import render as quoted
from mergescale.policy.reports import Case, Outcome, Report, ReportForm, render

#: Its own three, and those of reports.
FORMS: Final = ("text", "json", "markdown", "sarif", "junit", "github", "gitlab")
_TITLE: Final = "mergescale policy plan"


class PlanRefused(Invalid):
    """Raised when texts to plan with are no policy.

    Attributes:
        diagnostics: why, with places.
        texts: what they are about, to be quoted.
    """

    code = "invalid.plan"

    def __init__(
        self,
        message: str,
        diagnostics: Iterable[Diagnostic],
        texts: Mapping[str, str],
        *,
        help: str = "",  # noqa: A002 - the field's word
    ) -> None:
        super().__init__(message, help=help)
        self.diagnostics = tuple(diagnostics)
        self.texts = texts

    def told(self, level: Redaction) -> PlanRefused:
        """Return as much of it as is to be told."""
        if level is Redaction.FULL:
            return self
        # What stands behind the colon is one of the diagnostics.
        message, found = self.message.partition(": ")[0], without_names(self.diagnostics, level)
        return PlanRefused(message, found, {}, help=self.help)


class Misread(msgspec.Struct, frozen=True):
    """One thing that is wrong with the texts, and where (1-based)."""

    severity: str
    code: str
    message: str
    help: str
    file: str
    line: int
    column: int


class Misreading(msgspec.Struct, frozen=True):
    """What stands in place of a plan."""

    message: str
    problems: tuple[Misread, ...]


@dataclass(frozen=True, slots=True)
class Review:
    """A plan with what else is to be said of the head.

    Attributes:
        said: warnings of its policy.
        tested: which of its tests fail.
        files: its texts; reports quote them.
    """

    plan: Plan
    said: tuple[Diagnostic, ...]
    tested: tuple[Diagnostic, ...]
    files: Mapping[str, str]

    def told(self, level: Redaction) -> Review:
        """Return as much of it as is to be told: diagnostics and texts are full of names."""
        return Review(
            redacted(self.plan, level),
            without_names(self.said, level),
            without_names(self.tested, level),
            self.files if level is Redaction.FULL else {},
        )


def rendered(review: Review, form: str, folder: str = "") -> str:
    """Return the review in one of `FORMS`; annotations are of files of the repository's `folder`."""
    match form:
        case "json":
            return encode(review.plan).decode()
        case "markdown":
            return as_markdown(review.plan)
        case "text":
            return as_text(review.plan)
        case _:
            return render(ReportForm(form), _within(folder, _report(review)))


def refusal(refused: PlanRefused, form: str, folder: str = "") -> str:
    """Return why there is no plan, in one of `FORMS`, as `rendered` does."""
    match form:
        case "json":
            found = Misreading(refused.message, tuple(map(_misread, refused.diagnostics)))
            return msgspec.json.format(msgspec.json.encode(found), indent=2).decode() + "\n"
        case "markdown":
            return as_refusal(refused.message, _quoted(refused))
        case "text":
            return "".join(f"{printable(one)}\n" for one in _quoted(refused))
        case _:
            case = Case("policy", "plan", Outcome.FAILED, refused.diagnostics)
            found_in = Report(_TITLE, refused.diagnostics, (case,), refused.texts)
            return render(ReportForm(form), _within(folder, found_in))


def _within(folder: str, report: Report) -> Report:
    """Return a report whose files are named as the repository names them."""
    if not folder:
        return report

    def placed(found: Iterable[Diagnostic]) -> tuple[Diagnostic, ...]:
        return tuple(
            replace(one, span=replace(one.span, file=f"{folder}/{one.span.file}")) for one in found
        )

    return Report(
        report.title,
        placed(report.found),
        tuple(replace(one, found=placed(one.found)) for one in report.cases),
        {f"{folder}/{name}": text for name, text in report.texts.items()},
    )


def _misread(one: Diagnostic) -> Misread:
    place = one.span.file, one.span.start_line, one.span.start_column
    return Misread(str(one.severity), one.code, one.message, one.help, *place)


def _quoted(refused: PlanRefused) -> list[str]:
    return [quoted(one, refused.texts.get(one.span.file, "")) for one in refused.diagnostics]


def _report(review: Review) -> Report:
    """Return the plan as what scanners and test reports know: notes, and one case or more."""
    plan, told = review.plan, notes(review.plan)
    refused = Outcome.FAILED if plan.refused else Outcome.PASSED
    failed = Outcome.FAILED if has_errors(review.tested) else Outcome.PASSED
    cases = (
        Case("policy", f"plan: {plan.verdict}", refused, told),
        Case("policy", f"tests: {plan.tests.run} expectations", failed, review.tested),
    )
    found = (*review.said, *review.tested, *told)
    return Report(_TITLE, found, cases, dict(review.files))
