"""Code Quality (GitLab's subset of the Code Climate format): shown in a merge request's diff."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from typing import Any, Final

from mergescale.policy.diagnostics import Severity
from mergescale.policy.reports import Report

#: Of its words info, minor, major, critical and blocker.
_SEVERITIES: Final = {Severity.ERROR: "critical", Severity.WARNING: "minor"}


def code_quality(report: Report) -> str:
    """Return an array with one object for each diagnostic.

    What makes a fingerprint is not the line: what was there before stays the same finding when a
    line is put in above it.
    """
    return json.dumps(list(_issues(report)), indent=2) + "\n"


def _issues(report: Report) -> Iterator[dict[str, Any]]:
    seen: dict[tuple[str, str, str], int] = {}
    for one in report.found:
        # GitLab compares with paths from the root of the repository.
        path = one.span.file.removeprefix("./")
        what = (path, one.code, one.message)
        seen[what] = seen.get(what, 0) + 1
        print_of = json.dumps([*what, seen[what]]).encode()
        yield {
            "description": f"{one.message}; {one.help}" if one.help else one.message,
            "check_name": one.code,
            "fingerprint": hashlib.sha256(print_of).hexdigest(),
            "severity": _SEVERITIES[one.severity],
            "location": {"path": path, "lines": {"begin": one.span.start_line}},
        }
