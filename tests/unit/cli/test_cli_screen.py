"""How answers look: on a pipe, on a terminal, as JSON."""

from __future__ import annotations

import io

import pytest

from mergescale.cli.screen import Cell, Format, Screen, Tone, moment, printable, printable_lines

TITLES = ("ID", "NAME", "STATE")
ROWS = (
    ("1", "laptop", Cell("online", Tone.GOOD)),
    ("12", "a-very-long-name", Cell("offline", Tone.DIM)),
    ("3", "", "odd"),
)


def screen(**members: object) -> tuple[Screen, io.StringIO]:
    out = io.StringIO()
    return Screen(out, io.StringIO(), **members), out  # type: ignore[arg-type] # any of them


def test_a_pipe_gets_aligned_text_without_colour() -> None:
    """Columns are aligned by spaces, nothing is at the end of a line, an empty cell is a dash."""
    shown, out = screen()
    shown.table(TITLES, ROWS)
    assert out.getvalue() == (
        "ID  NAME              STATE\n"
        "1   laptop            online\n"
        "12  a-very-long-name  offline\n"
        "3   -                 odd\n"
    )


def test_a_terminal_gets_colour(monkeypatch: pytest.MonkeyPatch) -> None:
    """Titles are bold and a cell has the colour of its tone."""
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    shown, out = screen(terminal=True, width=40)
    shown.table(TITLES, ROWS[:1])
    assert [line.rstrip() for line in out.getvalue().splitlines()] == [
        "\x1b[1mID\x1b[0m\x1b[1m  \x1b[0m\x1b[1mNAME  \x1b[0m\x1b[1m  \x1b[0m\x1b[1mSTATE \x1b[0m",
        "1   laptop  \x1b[32monline\x1b[0m",
    ]


def test_no_color_is_honoured(monkeypatch: pytest.MonkeyPatch) -> None:
    """With NO_COLOR a terminal gets no colour either."""
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("NO_COLOR", "1")
    shown, out = screen(terminal=True, width=40)
    shown.table(TITLES, ROWS)
    assert "\x1b[3" not in out.getvalue()
    assert "online" in out.getvalue()


def test_a_name_is_no_markup(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a device calls itself is shown, not interpreted."""
    monkeypatch.setenv("TERM", "dumb")
    shown, out = screen(terminal=True, width=60)
    shown.table(("NAME",), [("[bold red]x[/]",)])
    assert "[bold red]x[/]" in out.getvalue()


def test_text_of_others_cannot_act_on_a_terminal() -> None:
    """Control and direction characters are replaced, in tables, in lines and in JSON."""
    evil = "a\x1b[2Jb\u202ec\nd"
    shown, out = screen()
    shown.table(("NAME",), [(evil,)])
    assert (
        out.getvalue()
        == "NAME\na\N{REPLACEMENT CHARACTER}[2Jb\N{REPLACEMENT CHARACTER}c\N{REPLACEMENT CHARACTER}d\n"
    )
    shown, out = screen(form=Format.JSON)
    shown.json([evil])
    assert out.getvalue() == '[\n  "a\\u001b[2Jb\\u202ec\\nd"\n]\n'
    assert printable_lines("\ta\x07\nb") == "\ta\N{REPLACEMENT CHARACTER}\nb"
    assert printable("grün") == "grün"


def test_details_leave_out_what_is_not_known() -> None:
    """Values stand under each other; a pair without a value is not there."""
    shown, out = screen()
    shown.details([("Name", "laptop"), ("Home relay", "-"), ("Key expires", "never")])
    assert out.getvalue() == "Name         laptop\nKey expires  never\n"


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("2026-03-01T10:20:30.123456Z", "2026-03-01T10:20:30Z"),
        ("2026-03-01T10:20:30Z", "2026-03-01T10:20:30Z"),
        ("0001-01-01T00:00:00Z", "-"),
        (None, "-"),
        ("", "-"),
    ],
)
def test_times_are_told_to_the_second(said: object, shown: str) -> None:
    """Go's zero time and an absent one are nothing."""
    assert moment(said) == shown


def test_what_was_done_is_for_people() -> None:
    """A pipe gets the words, a terminal a mark before them, a program nothing."""
    told = []
    for members in ({}, {"terminal": True}, {"form": Format.JSON}):
        shown, out = screen(**members)
        shown.done("renamed laptop")
        told.append(out.getvalue())
    assert told == ["renamed laptop\n", "✔ renamed laptop\n", ""]
