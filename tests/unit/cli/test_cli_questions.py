"""Questions, and spans of time."""

from __future__ import annotations

import io
import sys

import pytest

from mergescale.cli.errors import CommandFailed
from mergescale.cli.questions import confirm, span_s


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90d", 7_776_000), ("12h", 43_200), ("30m", 1_800), ("1w2d", 777_600), ("45s", 45)],
)
def test_spans_are_read_as_people_write_them(text: str, seconds: int) -> None:
    """Weeks, days, hours, minutes and seconds, also one after another."""
    assert span_s(text) == seconds


@pytest.mark.parametrize("text", ["", "90", "d", "-1d", "1.5h", "90 d", "0d", "1y", "\u0661d"])
def test_what_is_no_span_is_refused(text: str) -> None:
    """A number without a unit is none: nobody knows what it was meant to be."""
    with pytest.raises(ValueError, match="span of time"):
        span_s(text)


def test_nobody_is_asked_where_nobody_is() -> None:
    """Without a terminal a destructive command wants --yes."""
    with pytest.raises(CommandFailed) as failed:
        confirm("Delete laptop?", yes=False)
    assert failed.value.help == "say --yes if you are sure"
    confirm("Delete laptop?", yes=True)


@pytest.mark.parametrize(("answer", "goes_on"), [("y\n", True), ("n\n", False), ("\n", False)])
def test_a_person_is_asked(answer: str, goes_on: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only a yes goes on, and the question is not on standard output."""
    out, err = io.StringIO(), Terminal()
    monkeypatch.setattr(sys, "stdin", Terminal(answer))
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(sys, "stderr", err)
    if goes_on:
        confirm("Delete laptop?", yes=False)
    else:
        with pytest.raises(CommandFailed, match="cancelled, nothing was changed"):
            confirm("Delete laptop?", yes=False)
    assert "Delete laptop? [y/N]:" in err.getvalue() + out.getvalue()
