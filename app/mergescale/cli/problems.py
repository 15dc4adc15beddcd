"""Diagnostics of policy files as a command prints them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mergescale.cli.screen import printable_lines

if TYPE_CHECKING:
    from mergescale.policy.diagnostics import Diagnostic


def as_text(one: Diagnostic, text: str) -> str:
    """Return a diagnostic for a person, with the line of the text that it names underlined."""
    from mergescale.policy.diagnostics import render

    return printable_lines(render(one, text)) + "\n"


def as_json(one: Diagnostic) -> dict[str, Any]:
    """Return a diagnostic with the members that the API has for those of a bad commit."""
    span = one.span
    return {
        "severity": one.severity,
        "code": one.code,
        "message": one.message,
        "help": one.help,
        "file": span.file,
        "line": span.start_line,
        "column": span.start_column,
        "endLine": span.end_line,
        "endColumn": span.end_column,
    }
