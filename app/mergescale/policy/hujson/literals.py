"""Strings and numbers as written -> what they stand for."""

from __future__ import annotations

import json
import re
from typing import Final

from mergescale.kernel.ids import MAX_ID
from mergescale.policy.diagnostics import Report, Source, quoted

LONE_SURROGATE: Final = re.compile("[\ud800-\udfff]")
_IN_STRING: Final = re.compile(
    r'(?P<good>\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4}))|(?P<escape>\\.)|(?P<control>[\x00-\x1f])'
)


class Literals:
    """Decodes the literals of one text; what is wrong inside is reported at its own place."""

    def __init__(self, source: Source, report: Report) -> None:
        self._source = source
        self._report = report

    def number(self, start: int, end: int) -> int | float:
        """Return a number; 0 if not every reader would read the same."""
        # LIMIT: a double's largest exponent has three digits; int() is quadratic in its digits.
        text = self._source.text[start:end]
        number = float(text)
        whole = not set(text) & set(".eE")
        if abs(number) > (MAX_ID if whole else 1e300):
            message = "the number is too large to be read the same everywhere"
            self._bad("hujson.number", start, end, message)
            return 0
        return int(text) if whole else number

    def string(self, start: int, end: int) -> str:
        """Return what a string stands for; if that cannot be said, some text."""
        literal = self._source.text[start:end]
        try:
            text: str = json.loads(literal)
        except ValueError:
            self._tell_flaws(start, literal)
            return literal[1:-1]
        if LONE_SURROGATE.search(text) is not None:
            message = "the string holds half of a surrogate pair"
            self._bad("hujson.string", start, end, message)
            return LONE_SURROGATE.sub("\N{REPLACEMENT CHARACTER}", text)
        return text

    def _tell_flaws(self, start: int, literal: str) -> None:
        for found in _IN_STRING.finditer(literal):
            at, end = start + found.start(), start + found.end()
            match found.lastgroup:
                case "escape":
                    message = f"{quoted(found[0])} is not an escape sequence"
                    self._bad("hujson.string", at, end, message)
                case "control":
                    help_ = f"write it as \\u{ord(found[0]):04x}"
                    self._bad("hujson.string", at, end, "control character in a string", help_)

    def _bad(self, code: str, start: int, end: int, message: str, help: str = "") -> None:  # noqa: A002
        self._report.error(code, self._source.span(start, end), message, help)
