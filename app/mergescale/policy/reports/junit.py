"""JUnit's XML, in the dialect that Jenkins, GitLab and the others read.

There is no official schema; this keeps to what Jenkins's xunit plugin declares (junit-10.xsd).
"""

from __future__ import annotations

from xml.etree.ElementTree import Element, SubElement, indent, tostring

from mergescale.policy.diagnostics import Diagnostic, Severity, render
from mergescale.policy.reports import Case, Outcome, Report


def junit(report: Report) -> str:
    """Return a document with one suite for each file, and one case for each thing tried."""
    suites: dict[str, list[Case]] = {}
    for case in report.cases:
        suites.setdefault(case.file, []).append(case)
    root = Element("testsuites", _counted(report.title, report.cases))
    for file, cases in suites.items():
        skipped = sum(one.outcome is Outcome.SKIPPED for one in cases)
        counts = {**_counted(file, cases), "skipped": str(skipped)}
        suite = SubElement(root, "testsuite", counts)
        for case in cases:
            _add(suite, case, report)
    indent(root)
    text = tostring(root, "unicode", xml_declaration=False)
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{text}\n'


def _counted(name: str, cases: list[Case] | tuple[Case, ...]) -> dict[str, str]:
    failed = sum(one.outcome is Outcome.FAILED for one in cases)
    return {
        "name": _sayable(name),
        "tests": str(len(cases)),
        "failures": str(failed),
        "errors": "0",
    }


def _add(suite: Element, case: Case, report: Report) -> None:
    name = {"name": _sayable(case.name), "classname": _sayable(case.file)}
    element = SubElement(suite, "testcase", name)
    errors = [one for one in case.found if one.severity is Severity.ERROR]
    match case.outcome:
        case Outcome.FAILED:
            for one in errors:
                told = {"type": one.code, "message": _sayable(one.message)}
                SubElement(element, "failure", told).text = _shown(one, report)
        case Outcome.SKIPPED:
            told = {"message": _sayable(case.found[0].message)} if case.found else {}
            SubElement(element, "skipped", told)
        case Outcome.PASSED:
            pass
    if warnings := [one for one in case.found if one.severity is Severity.WARNING]:
        text = "\n".join(_shown(one, report) for one in warnings)
        SubElement(element, "system-out").text = text


def _shown(one: Diagnostic, report: Report) -> str:
    return _sayable(render(one, report.texts.get(one.span.file, "")))


def _sayable(text: str) -> str:
    """Return the text without the characters that XML 1.0 has no way to write."""
    return "".join(
        char if char in "\t\n" or char.isprintable() else "\N{REPLACEMENT CHARACTER}"
        for char in text
    )
