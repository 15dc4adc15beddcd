"""How problems are shown, ordered and counted."""

from __future__ import annotations

import pytest

from mergescale.policy.diagnostics import (
    Diagnostic,
    Report,
    Severity,
    Source,
    file_span,
    has_errors,
    nearest,
    quoted,
    render,
    sort_diagnostics,
)

TEXT = '{\n\t"acls": [],\n  "gruops": {\n  }\n}'
SOURCE = Source(TEXT, "policy.hujson")


def at(stretch: str, message: str, severity: Severity = Severity.ERROR) -> Diagnostic:
    start = TEXT.index(stretch)
    return Diagnostic("x", message, "", SOURCE.span(start, start + len(stretch)), severity)


def test_a_diagnostic_shows_its_place_its_line_and_help() -> None:
    """Place, severity and message; the line underlined; what to do."""
    span = at('"gruops"', "").span
    one = Diagnostic("x", 'key "gruops" is not known', 'did you mean "groups"?', span)

    assert render(one, TEXT) == (
        'policy.hujson:3:3: error: key "gruops" is not known\n'
        '3 |   "gruops": {\n'
        "  |   ^^^^^^^^\n"
        'help: did you mean "groups"?'
    )


def test_tabs_stay_tabs_under_the_line() -> None:
    """The underline stands below its text whatever a tab is wide."""
    assert render(at('"acls"', "m"), TEXT).splitlines()[1:] == ['2 | \t"acls": [],', "  | \t^^^^^^"]


def test_a_stretch_of_several_lines_is_underlined_to_the_end_of_the_first() -> None:
    """Only the first line is shown."""
    assert render(at("{\n  }", "m"), TEXT).splitlines()[1:] == [
        '3 |   "gruops": {',
        "  |             ^",
    ]


def test_a_whole_file_has_no_line() -> None:
    """What concerns a file that is not there is told without a source line."""
    one = Diagnostic("x", "there is no file", "", file_span("policy.hujson"))

    assert render(one, "") == "policy.hujson:1:1: error: there is no file"


def test_order_is_by_place_and_repetitions_are_dropped() -> None:
    """Errors come before warnings at one place."""
    warning = at('"acls"', "w", Severity.WARNING)
    first, second, third = at('"acls"', "e"), at('"gruops"', "a"), at('"gruops"', "b")

    assert sort_diagnostics([third, warning, second, first, second]) == (
        first,
        warning,
        second,
        third,
    )


def test_warnings_do_not_fail_a_report() -> None:
    """Only errors refuse a file."""
    report = Report()
    report.warn("x", file_span("f"), "hm")
    assert (report.failed, has_errors(report.diagnostics())) == (False, False)

    report.unknown("x", file_span("f"), "tag", "tag:wbe", ["tag:web", "tag:db"])
    assert (report.failed, has_errors(report.diagnostics())) == (True, True)
    assert report.diagnostics()[0].message == 'tag "tag:wbe" is not known'
    assert report.diagnostics()[0].help == 'did you mean "tag:web"?'


@pytest.mark.parametrize(
    ("name", "guess"),
    [
        ("gruops", "groups"),
        ("ACL", "acls"),
        ("tagowners", "tagOwners"),
        ("zebra", None),
        ("", None),
    ],
)
def test_the_nearest_name_is_guessed_without_case(name: str, guess: str | None) -> None:
    """Close names are suggested, far ones are not."""
    assert nearest(name, ["groups", "acls", "tagOwners"]) == guess


def test_user_input_is_quoted_short_and_printable() -> None:
    """A message stays one readable line whatever is in it."""
    assert quoted("a\nb\x1b") == '"a\ufffdb\ufffd"'
    assert len(quoted("x" * 500)) == 82


def test_an_endless_line_is_shown_in_part() -> None:
    """The part around the place, so that a file of one line does not fill the screen."""
    text = '["' + "a" * 5000 + '", ?, "' + "b" * 5000 + '"]'
    at = text.index("?")
    wrong = Diagnostic("x", "odd", "", Source(text, "f").span(at, at + 1))

    head, line, mark = render(wrong, text).splitlines()

    assert head == f"f:1:{at + 1}: error: odd"
    assert len(line) == len("1 | ") + 400
    assert line[mark.index("^")] == "?"
    assert mark.count("^") == 1
