"""HuJSON text -> JSON text: without comments and trailing commas."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from mergescale.policy.hujson.extras import size
from mergescale.policy.hujson.reader import require_well_formed
from mergescale.policy.hujson.tokens import tokens

_VISIBLE: Final = re.compile(r"[^ \t\r\n]++")


def standardize(text: str) -> str:
    """Return the text as JSON in which all that is left stands where it stood.

    Comments and trailing commas become spaces, one for each byte of their UTF-8, so lines and
    byte offsets stay what they were.

    Raises:
        Unreadable: the text is no HuJSON.
    """
    require_well_formed(text)
    parts, last = [], 0
    for start, end in _standard(text):
        between = _VISIBLE.sub(lambda found: " " * size(found[0]), text[last:start])
        parts += [between, text[start:end]]
        last = end
    return "".join(parts)


def minimize(text: str) -> str:
    """Return the text as JSON without anything between its tokens.

    Raises:
        Unreadable: the text is no HuJSON.
    """
    require_well_formed(text)
    return "".join(text[start:end] for start, end in _standard(text))


def is_standard(text: str) -> bool:
    """Say whether a well-formed text has neither comments nor trailing commas."""
    last = 0
    for start, end in _standard(text):
        if _VISIBLE.search(text, last, start) is not None:
            return False
        last = end
    return True


def _standard(text: str) -> Iterator[tuple[int, int]]:
    """Yield where the tokens of a well-formed text stand that JSON has; the end last."""
    comma: tuple[int, int] | None = None
    for kind, start, end in tokens(text):
        if kind == "comment":
            continue
        if comma is not None and kind not in {"end_object", "end_array"}:
            yield comma
        comma = (start, end) if kind == "comma" else None
        if comma is None:
            yield start, end
