"""What must hold of every text that is rewritten, for properties and for fuzzing."""

from __future__ import annotations

import json
import re

from mergescale.policy import hujson
from mergescale.policy.hujson.extras import SPACE
from mergescale.policy.hujson.tokens import tokens

_START_IN_COMMENT = re.compile(r"\n[ \t]*/[/*]")
_ANY_SPACE = re.compile(f"[{SPACE}]+")

#: Codes of errors that leave nothing to rewrite.
_BROKEN = {"hujson.text", "hujson.syntax", "hujson.string"}


def assert_rewritten_well(text: str) -> None:
    """Assert all that is promised about `format`, `standardize` and `minimize` of a text."""
    value, found = hujson.parse(text, "f.hujson")
    if any(one.code in _BROKEN for one in found):
        assert all(_refusal(one, text) for one in (hujson.format, hujson.standardize))
        return
    assert value is not None
    standard, minimal = hujson.standardize(text), hujson.minimize(text)
    before, after = text.encode(), standard.encode()
    assert len(after) == len(before)
    assert all(b in {a, ord(" ")} for a, b in zip(before, after, strict=True))
    assert hujson.minimize(standard) == minimal
    if not found:
        assert json.loads(standard) == json.loads(minimal) == value.plain()

    if refusal := _refusal(hujson.format, text):
        assert "would be larger" in refusal
        return
    formatted = hujson.format(text)
    settled = hujson.format(formatted)
    assert settled == formatted or _misleads(formatted)
    assert hujson.format(settled) == settled
    assert _meaning(formatted) == value.plain()
    assert _comments(formatted) == _comments(text)


def _refusal(rewrite: hujson.Rewrite, text: str) -> str:
    """Return why a text is not rewritten; nothing if it is."""
    try:
        rewrite(text)
    except hujson.Unreadable as error:
        return error.message
    return ""


def _misleads(text: str) -> bool:
    """Say whether a line within a comment looks like the start of one.

    The reference implementation measures such a line with the space behind it, which it adds
    itself; so the line may be too long only when it is looked at again.
    """
    return any(_START_IN_COMMENT.search(comment) for comment in _raw_comments(text))


def _meaning(text: str) -> object:
    value, _ = hujson.parse(text, "f.hujson")
    assert value is not None
    return value.plain()


def _comments(text: str) -> list[str]:
    """Return the comments without their white space, which is the layout's."""
    return [_ANY_SPACE.sub("", one) for one in _raw_comments(text)]


def _raw_comments(text: str) -> list[str]:
    return [text[start:end] for kind, start, end in tokens(text) if kind == "comment"]
