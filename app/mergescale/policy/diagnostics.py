"""What is wrong with a file, where, and what to do about it; as values, never as exceptions.

A `Report` collects diagnostics while a file is read; nothing that a user wrote makes it raise.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass, field
from difflib import get_close_matches
from enum import StrEnum
from itertools import islice

#: LIMIT: more than anybody reads at once; keeps the work on a hostile file linear.
MAX_DIAGNOSTICS = 200
#: LIMIT: comparing names is slow, so only so many are tried for one suggestion.
_MAX_CANDIDATES = 500
_LONGEST_NAME = 80
#: LIMIT: characters of a line that are shown; a hostile file is a single one.
_LONGEST_LINE = 400
_LINE_END = re.compile("\n")


class Severity(StrEnum):
    """A file with an error is refused; a warning is only told."""

    ERROR = "error"
    WARNING = "warning"


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of a file.

    Attributes:
        start_line, start_column: 1-based, in characters.
        end_line, end_column: the first place after the stretch.
        offset_start, offset_end: the same in characters from the start of the text, 0-based, so
            that ``text[offset_start:offset_end]`` is what the span names.
    """

    file: str
    start_line: int
    start_column: int
    end_line: int
    end_column: int
    offset_start: int
    offset_end: int


def file_span(file: str) -> Span:
    """Return the empty span at the start of a file, for what concerns the file as a whole."""
    return Span(file, 1, 1, 1, 1, 0, 0)


@dataclass(frozen=True, slots=True)
class Diagnostic:
    """One problem.

    Attributes:
        code: stable, dotted, lower case.
        message: lower case, no full stop, user input in quotes.
        help: what to do, one sentence, or empty.
    """

    code: str
    message: str
    help: str
    span: Span
    severity: Severity = Severity.ERROR


class Source:
    """A text with its line starts, to turn character offsets into spans."""

    __slots__ = ("_starts", "file", "text")

    def __init__(self, text: str, file: str) -> None:
        self.text = text
        self.file = file
        self._starts = [0, *(end.end() for end in _LINE_END.finditer(text))]

    def span(self, start: int, end: int) -> Span:
        """Return the span of ``text[start:end]``."""
        return Span(self.file, *self._place(start), *self._place(end), start, end)

    def _place(self, offset: int) -> tuple[int, int]:
        line = bisect_right(self._starts, offset)
        return line, offset - self._starts[line - 1] + 1


@dataclass(slots=True)
class Report:
    """Collects diagnostics, at most `MAX_DIAGNOSTICS` of them and as many warnings."""

    _errors: list[Diagnostic] = field(default_factory=list)
    _warnings: list[Diagnostic] = field(default_factory=list)

    def error(
        self,
        code: str,
        span: Span,
        message: str,
        help: str = "",  # noqa: A002 - the field's word
    ) -> None:
        """Note an error."""
        if len(self._errors) < MAX_DIAGNOSTICS:
            self._errors.append(Diagnostic(code, message, help, span))

    def warn(self, code: str, span: Span, message: str, help: str = "") -> None:  # noqa: A002
        """Note a warning."""
        if len(self._warnings) < MAX_DIAGNOSTICS:
            warning = Diagnostic(code, message, help, span, Severity.WARNING)
            self._warnings.append(warning)

    def unknown(self, code: str, span: Span, what: str, name: str, known: Iterable[str]) -> None:
        """Note that `name` is not among the `known` names of this kind, and suggest one."""
        self.missing(code, span, f"{what} {quoted(name)} is not known", name, known)

    def missing(
        self,
        code: str,
        span: Span,
        message: str,
        name: str,
        known: Iterable[str],
        fallback: str = "",
    ) -> None:
        """Note an error about `name`; suggest one of the `known` names, else the `fallback`."""
        if len(self._errors) < MAX_DIAGNOSTICS:
            close = nearest(name, known)
            self.error(code, span, message, f"did you mean {quoted(close)}?" if close else fallback)

    @property
    def failed(self) -> bool:
        """Say whether an error was noted."""
        return bool(self._errors)

    def diagnostics(self) -> tuple[Diagnostic, ...]:
        """Return what was noted, sorted by place."""
        return sort_diagnostics([*self._errors, *self._warnings])


def sort_diagnostics(diagnostics: Iterable[Diagnostic]) -> tuple[Diagnostic, ...]:
    """Order by file and place, errors before warnings at one place; drop repetitions."""
    return tuple(
        sorted(
            dict.fromkeys(diagnostics),
            key=lambda one: (
                one.span.file,
                one.span.offset_start,
                one.span.offset_end,
                one.severity is Severity.WARNING,
                one.code,
                one.message,
            ),
        )
    )


def has_errors(diagnostics: Iterable[Diagnostic]) -> bool:
    """Say whether one of them refuses the file."""
    return any(one.severity is Severity.ERROR for one in diagnostics)


def render(diagnostic: Diagnostic, text: str) -> str:
    """Return the diagnostic as a few lines for a person, with the source line underlined.

    Args:
        diagnostic: what to show.
        text: the text of the file that its span names.
    """
    span = diagnostic.span
    place = f"{span.file}:{span.start_line}:{span.start_column}"
    lines = [f"{place}: {diagnostic.severity}: {diagnostic.message}"]
    start = span.offset_start - span.start_column + 1
    end = text.find("\n", start)
    line = text[start : end if end >= 0 else len(text)].rstrip("\r")
    if line.strip():
        cut = max(0, span.start_column - _LONGEST_LINE // 2) if len(line) > _LONGEST_LINE else 0
        line, before = line[cut : cut + _LONGEST_LINE], line[cut : span.start_column - 1]
        width = span.offset_end - span.offset_start
        width = max(1, min(width, len(line) - len(before)))
        margin = "".join("\t" if char == "\t" else " " for char in before)
        number = str(span.start_line)
        lines.append(f"{number} | {line}")
        lines.append(f"{' ' * len(number)} | {margin}{'^' * width}")
    if diagnostic.help:
        lines.append(f"help: {diagnostic.help}")
    return "\n".join(lines)


def nearest(name: str, candidates: Iterable[str]) -> str | None:
    """Return the candidate that `name` was probably meant to be, if one is close enough."""
    if len(name) > _LONGEST_NAME:
        return None
    known = {one.casefold(): one for one in islice(candidates, _MAX_CANDIDATES)}
    close = get_close_matches(name.casefold(), known, n=1, cutoff=0.7)
    return known[close[0]] if close else None


def quoted(text: str) -> str:
    """Return user input in quotes: one line, printable, not too long to read."""
    short = text if len(text) <= _LONGEST_NAME else text[: _LONGEST_NAME - 1] + "…"
    return (
        '"'
        + "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in short)
        + '"'
    )
