"""Annotations of a GitHub run: workflow commands on standard output.

::error file=policy.hujson,line=3,col=41,endLine=3,endColumn=50,title=policy.unknown-group::…
"""

from __future__ import annotations

from mergescale.policy.diagnostics import Diagnostic
from mergescale.policy.reports import Report


def commands(report: Report) -> str:
    """Return one workflow command for each diagnostic."""
    return "".join(f"{_command(one)}\n" for one in report.found)


def _command(one: Diagnostic) -> str:
    span = one.span
    properties = {
        "file": span.file,
        "line": span.start_line,
        "col": span.start_column,
        "endLine": span.end_line,
        # Inclusive there.
        "endColumn": max(span.end_column - 1, 1),
        "title": one.code,
    }
    told = ",".join(f"{name}={_property(str(value))}" for name, value in properties.items())
    message = f"{one.message}\nhelp: {one.help}" if one.help else one.message
    return f"::{one.severity} {told}::{_data(message)}"


def _data(text: str) -> str:
    """Escape a message; what the runner takes for the end of a command must not stand in it."""
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
