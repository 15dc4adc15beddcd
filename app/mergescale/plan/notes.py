"""A plan as diagnostics: a note for each row, for code scanning and annotations."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from mergescale.plan.model import Plan, Verdict
from mergescale.plan.text import (
    absent_words,
    few,
    gate_words,
    grant_words,
    identity_words,
    reach_words,
    summary,
)
from mergescale.policy.diagnostics import Diagnostic, Severity, Span, file_span
from mergescale.policy.repository import POLICY

#: LIMIT: forges show a few dozen annotations at most.
MAX_NOTES = 50
_TOP: Final = file_span(POLICY)


def notes(plan: Plan) -> tuple[Diagnostic, ...]:
    """Return what the gates say, then the verdict and each row; no rows when nothing differs."""
    gates = (
        Diagnostic(
            f"plan.gate-{one.gate}",
            gate_words(one),
            "",
            file_span(POLICY),
            Severity.ERROR if one.refuses else Severity.WARNING,
        )
        for one in plan.gates
    )
    if plan.verdict is Verdict.NO_EFFECT:
        return tuple(gates)
    rows = [*_rows(plan)]
    rest = len(rows) - MAX_NOTES
    more = [_note("plan.verdict", f"and {rest} more; --format json has them all")]
    return (
        *gates,
        _note("plan.verdict", summary(plan)),
        *rows[:MAX_NOTES],
        *(more if rest > 0 else ()),
    )


def _rows(plan: Plan) -> Iterator[Diagnostic]:
    """Yield a note for each row, at the rule that it comes from where the head has that."""
    for what, entries in identity_words(plan):
        yield from (_note("plan.identity", f"{what}: {one}") for one in entries)
    for what, names in absent_words(plan):
        yield _note("plan.absent", f"{what}: {', '.join(few(tuple(names)))}")
    for row in plan.gained:
        yield _note("plan.gained", f"gains: {reach_words(row)}", _span(row.rules))
    for grant in plan.grants_gained:
        yield _note("plan.gained", f"may: {grant_words(grant)}")
    for row in plan.lost:
        yield _note("plan.lost", f"loses: {reach_words(row)}")
    for grant in plan.grants_lost:
        yield _note("plan.lost", f"may no longer: {grant_words(grant)}")


def _note(code: str, message: str, span: Span = _TOP) -> Diagnostic:
    return Diagnostic(code, message, "", span, Severity.WARNING)


def _span(rules: tuple[str, ...]) -> Span:
    """Return the place of the first of them."""
    if not rules:
        return _TOP
    file, line, column = rules[0].rsplit(":", 2)
    return Span(file, int(line), int(column), int(line), int(column) + 1, 0, 0)
