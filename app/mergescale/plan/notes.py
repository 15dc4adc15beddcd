"""A plan as diagnostics: a note for each row, for code scanning and annotations."""

from __future__ import annotations

from mergescale.plan.model import Plan
from mergescale.plan.text import gate_words, reach_words, summary
from mergescale.policy.diagnostics import Diagnostic, Severity, file_span
from mergescale.policy.repository import POLICY

#: LIMIT: forges show a few dozen annotations at most.
MAX_NOTES = 50


def notes(plan: Plan) -> tuple[Diagnostic, ...]:
    """Return what the gates say, then the verdict and each row; no rows when nothing differs."""
    gates = tuple(
        Diagnostic(
            f"plan.gate-{one.gate}",
            gate_words(one),
            "",
            file_span(POLICY),
            Severity.ERROR if one.refuses else Severity.WARNING,
        )
        for one in plan.gates
    )
    rows = [
        *(("plan.gained", f"gains: {reach_words(row)}") for row in plan.gained),
        *(("plan.lost", f"loses: {reach_words(row)}") for row in plan.lost),
    ]
    if not rows and not plan.nodes:
        return gates
    told = [("plan.verdict", summary(plan)), *rows[:MAX_NOTES]]
    rest = (
        Diagnostic(code, message, "", file_span(POLICY), Severity.WARNING) for code, message in told
    )
    return (*gates, *rest)
