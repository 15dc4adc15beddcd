"""SARIF 2.1.0 (OASIS), as code scanning reads it."""

from __future__ import annotations

import json
from typing import Any, Final
from urllib.parse import quote

from mergescale import __version__
from mergescale.policy.codes import CODES
from mergescale.policy.diagnostics import Diagnostic, Span
from mergescale.policy.reports import Report

_SCHEMA: Final = (
    "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
)


def sarif(report: Report) -> str:
    """Return a SARIF log with one run."""
    codes = sorted({one.code for one in report.found})
    run = {
        "tool": {
            "driver": {
                "name": "mergescale",
                "version": __version__,
                "rules": [
                    {"id": code, "shortDescription": {"text": CODES.get(code, code)}}
                    for code in codes
                ],
            }
        },
        # Ours count characters, as this name says; the default counts UTF-16.
        "columnKind": "unicodeCodePoints",
        "results": [_result(one, codes.index(one.code)) for one in report.found],
    }
    log = {"$schema": _SCHEMA, "version": "2.1.0", "runs": [run]}
    return json.dumps(log, indent=2) + "\n"


def _result(one: Diagnostic, index: int) -> dict[str, Any]:
    text = f"{one.message}; {one.help}" if one.help else one.message
    return {
        "ruleId": one.code,
        "ruleIndex": index,
        "level": str(one.severity),
        "message": {"text": text},
        "locations": [{"physicalLocation": _place(one.span)}],
    }


def _place(span: Span) -> dict[str, Any]:
    # A name with a colon would read as a scheme; "-" is standard input.
    uri = "stdin" if span.file == "-" else quote(span.file, safe="/")
    return {
        "artifactLocation": {"uri": uri},
        "region": {
            "startLine": span.start_line,
            "startColumn": span.start_column,
            "endLine": span.end_line,
            "endColumn": span.end_column,
        },
    }
