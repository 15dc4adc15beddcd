"""What a command prints: text for people, plain text for a pipe, or JSON."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final, TextIO

#: Stands for a value that is not there.
NOTHING: Final = "-"
_GAP: Final = "  "


class Format(StrEnum):
    """What ``-o`` takes."""

    TEXT = "text"
    JSON = "json"


class Tone(StrEnum):
    """How a cell is meant, told by colour on a terminal."""

    PLAIN = ""
    GOOD = "green"
    BAD = "red"
    DIM = "dim"


@dataclass(frozen=True, slots=True)
class Cell:
    """A cell of a table with its tone; a bare str is a plain one."""

    text: str
    tone: Tone = Tone.PLAIN


@dataclass(frozen=True, slots=True)
class Screen:
    """Where answers go.

    Attributes:
        out: for answers.
        err: for hints.
        form: text or JSON.
        terminal: a person looks at `out`; tables get colour and may be wrapped.
        width: columns of that terminal; None finds out.
    """

    out: TextIO
    err: TextIO
    form: Format = Format.TEXT
    terminal: bool = False
    width: int | None = None

    @classmethod
    def standard(cls, form: str | None) -> Screen:
        """Return the screen of this process."""
        dumb = os.environ.get("TERM") == "dumb"
        return cls(sys.stdout, sys.stderr, Format(form or "text"), sys.stdout.isatty() and not dumb)

    @property
    def is_json(self) -> bool:
        """Say whether the answer is for a program."""
        return self.form is Format.JSON

    def json(self, value: Any) -> None:
        """Print a value as JSON, in ASCII so that no device's name can act on a terminal."""
        import json

        print(json.dumps(value, indent=2), file=self.out)

    def table(self, titles: Sequence[str], rows: Iterable[Sequence[Cell | str]]) -> None:
        """Print rows under their titles: aligned by spaces, or by rich on a terminal."""
        cells = [[_cell(one) for one in row] for row in rows]
        if self.terminal:
            # rich takes longer to import than all the rest; a pipe does without.
            from mergescale.cli.tables import print_table

            print_table(titles, cells, self.out, self.width)
            return
        for line in _aligned([list(titles), *([one.text for one in row] for row in cells)]):
            print(line, file=self.out)

    def details(self, pairs: Iterable[tuple[str, Cell | str]]) -> None:
        """Print names and values, one pair a line; pairs without a value are left out."""
        known = [(name, _cell(value)) for name, value in pairs]
        known = [(name, value) for name, value in known if value.text != NOTHING]
        width = max((len(name) for name, _ in known), default=0)
        for name, value in known:
            print(f"{name:<{width}}{_GAP}{value.text}", file=self.out)

    def line(self, text: str) -> None:
        """Print a line of an answer."""
        print(text, file=self.out)

    def done(self, text: str) -> None:
        """Say that something was done; nothing for programs, which have the exit code."""
        if not self.is_json:
            mark = "✔ " if self.terminal else ""
            print(f"{mark}{printable(text)}", file=self.out)

    def hint(self, text: str) -> None:
        """Tell the person, past whatever captures the answer."""
        print(text, file=self.err, flush=True)


def printable(text: str) -> str:
    """Return one line that cannot act on a terminal, whoever chose its characters."""
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text)


def printable_lines(text: str) -> str:
    """Return the same of several lines; tabs stay."""
    lines = text.splitlines()
    return "\n".join("\t".join(printable(part) for part in line.split("\t")) for line in lines)


def moment(text: object) -> str:
    """Return an RFC 3339 time of the API to the second; nothing for Go's zero time."""
    if not isinstance(text, str) or not text or text.startswith("0001-"):
        return NOTHING
    whole, _, zone = text.partition(".")
    return whole if not zone else f"{whole}Z" if zone.endswith("Z") else text


def several(values: object) -> str:
    """Return a list in one cell."""
    return ",".join(str(one) for one in values) if isinstance(values, list) and values else NOTHING


def yes(value: object) -> str:
    """Return a boolean as a word."""
    return "yes" if value else "no"


def _cell(value: Cell | str) -> Cell:
    cell = Cell(value) if isinstance(value, str) else value
    return Cell(printable(cell.text) or NOTHING, cell.tone)


def _aligned(rows: Sequence[Sequence[str]]) -> Iterable[str]:
    widths = [max(len(text) for text in column) for column in zip(*rows, strict=True)]
    for row in rows:
        padded = (f"{text:<{width}}" for text, width in zip(row, widths, strict=True))
        yield _GAP.join(padded).rstrip()
