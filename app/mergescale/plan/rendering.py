"""A plan in every form: one function for the command line and the API."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from mergescale.kernel.errors import Invalid
from mergescale.plan.markdown import as_markdown
from mergescale.plan.model import Plan, encode
from mergescale.plan.notes import notes
from mergescale.plan.redaction import Redaction, redacted, without_names
from mergescale.plan.text import as_text
from mergescale.policy.diagnostics import Diagnostic, has_errors
from mergescale.policy.reports import Case, Outcome, Report, ReportForm, render

#: Its own three, and those of reports.
FORMS: Final = ("text", "json", "markdown", "sarif", "junit", "github", "gitlab")


class PlanRefused(Invalid):
    """Raised when texts to plan with are no policy.

    Attributes:
        diagnostics: why, with places.
    """

    code = "invalid.plan"

    def __init__(self, message: str, diagnostics: Iterable[Diagnostic]) -> None:
        super().__init__(message)
        self.diagnostics = tuple(diagnostics)


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


def rendered(review: Review, form: str) -> str:
    """Return the review in one of `FORMS`."""
    match form:
        case "json":
            return encode(review.plan).decode()
        case "markdown":
            return as_markdown(review.plan)
        case "text":
            return as_text(review.plan)
        case _:
            return render(ReportForm(form), _report(review))


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
    return Report("mergescale policy plan", found, cases, dict(review.files))
