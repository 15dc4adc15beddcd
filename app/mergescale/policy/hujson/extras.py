"""What stands between two tokens, white space and comments: measured, and laid out anew.

SPEC(reference implementation): its `Format`, byte for byte. Lengths are in bytes of UTF-8, white
space inside a comment is Unicode's, and both are part of what has to be the same.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, NamedTuple

#: Unicode's White_Space, of which comments are freed at the ends of lines.
SPACE: Final = (
    "\t\n\v\f\r \x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a"
    "\u2028\u2029\u202f\u205f\u3000"
)
#: White space between tokens.
BLANK: Final = " \t\r\n"
_PIECE: Final = re.compile(
    r"(?P<blank>[ \t\r\n]++)|(?P<line>//[^\n]*+)|(?P<block>/\*(?>(?s:.)*?\*/))"
)
#: A comment of one line, or as much of it as stands on this line.
_IN_LINE: Final = re.compile(
    r"[ \t\r\n]*+(?:(?P<block>/\*(?>.*?\*/))|(?P<rest>//.*+|/\*.*+))", re.DOTALL
)


class Measure(NamedTuple):
    """How long the lines are that something takes, in bytes.

    Attributes:
        first, last: length of the first and of the last line; the same if there is one only.
        several: there are more lines than one.
    """

    first: int
    last: int
    several: bool


def size(text: str) -> int:
    """Return the bytes that a text takes."""
    return len(text) if text.isascii() else len(text.encode())


def measure(extra: str) -> Measure:
    """Return what the comments of an extra add to their lines."""
    if "\n" not in extra:
        length = _length(extra)
        return Measure(length, length, several=False)
    first, _, rest = extra.partition("\n")
    return Measure(_length(first), _length(rest.rpartition("\n")[2]), several=True)


def _length(line: str) -> int:
    """Return the length of a line's comments, with a space before each and behind the last."""
    length, at = 0, 0
    while (comment := _IN_LINE.match(line, at)) is not None:
        kind = comment.lastgroup or ""
        length += 1 + size(comment[kind])
        if kind == "rest":
            return length
        at = comment.end()
    return length + (length > 0)


def has_comment(extra: str) -> bool:
    """Say whether there is more than white space."""
    return bool(extra.strip(BLANK))


@dataclass(frozen=True, slots=True)
class Rules:
    """What becomes of the line breaks at the ends of an extra.

    Attributes:
        starts_line: there is a line break at the start, if there is none at all.
        ends_line: there is one at the end.
        cut_first, cut_last: no empty line is left at the start, at the end.
        outdent: what follows on a new line stands one level further out.
        parted: not nothing at all, but a space.
    """

    starts_line: bool = False
    ends_line: bool = False
    cut_first: bool = False
    cut_last: bool = False
    outdent: bool = False
    parted: bool = False


def arranged(extra: str, depth: int, rules: Rules) -> str:
    """Return an extra as it should be.

    Args:
        extra: as written.
        depth: tabs before each comment that starts a line.
        rules: for its ends.
    """
    extra = extra.replace("\r\n", "\n").replace("\n\r", "\n").replace("\r", " ")
    breaks = rules.starts_line and "\n" not in extra
    out = "".join(_arranged("\n" if breaks else "", extra, "\t" * depth))
    if rules.ends_line and not out.endswith("\n"):
        out += "\n"
    if rules.cut_first and out.startswith("\n\n"):
        out = "\n" + out.lstrip("\n")
    if rules.cut_last and out.endswith("\n\n"):
        out = out.rstrip("\n") + "\n"
    if out.endswith("\n"):
        return out + "\t" * (depth - rules.outdent)
    return out + " " if out or rules.parted else ""


def _arranged(last: str, extra: str, indent: str) -> Iterator[str]:
    yield last
    for piece in _PIECE.finditer(extra):
        text = piece[0]
        if piece.lastgroup == "blank":
            # At most one empty line is left of several.
            breaks = "\n" * min(2, text.count("\n"))
            yield breaks
            last = breaks or last
            continue
        yield indent if last.endswith("\n") else " "
        if piece.lastgroup == "block" and "\n" in text:
            yield from _block(text, indent)
        else:
            yield text.rstrip(SPACE)
        last = text


def _block(comment: str, indent: str) -> Iterator[str]:
    """Yield a comment of several lines, moved as a whole so that its left edge is the indent.

    Lines that all start with a star get it below the first one's.
    """
    head, *lines = (line.rstrip(SPACE) for line in comment.split("\n"))
    # A last line that only closes the comment follows the edge of the others, if there are any.
    closes = lines[-1].lstrip(BLANK) == "*/"
    inner = [line for line in (lines[:-1] if closes else lines) if line] or lines[-1:]
    edge = _edge(inner)
    starred = "" not in lines and all(line[edge : edge + 1] == "*" for line in inner)
    start = indent + " " * starred
    yield head
    for line in lines[:-1]:
        yield "\n" + start + line[edge:] if line else "\n"
    yield "\n" + start + ("*/" if closes else lines[-1][edge:])


def _edge(lines: list[str]) -> int:
    """Return how much white space the lines have in common at their start."""
    first, last = min(lines), max(lines)
    same = next((at for at, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), None)
    common = first[:same]
    return len(common) - len(common.lstrip(BLANK))
