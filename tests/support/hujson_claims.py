"""What must hold of every text that is rewritten, for properties and for fuzzing."""

from __future__ import annotations

import json
import re

from mergescale.policy import hujson
from mergescale.policy.hujson.extras import SPACE
from mergescale.policy.hujson.tokens import tokens

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
    assert hujson.format(formatted) == formatted
    assert _meaning(formatted) == value.plain()
    assert _comments(formatted) == _comments(text)


def _refusal(rewrite: hujson.Rewrite, text: str) -> str:
    """Return why a text is not rewritten; nothing if it is."""
    try:
        rewrite(text)
    except hujson.Unreadable as error:
        return error.message
    return ""


def _meaning(text: str) -> object:
    value, _ = hujson.parse(text, "f.hujson")
    assert value is not None
    return value.plain()


def _comments(text: str) -> list[str]:
    """Return the comments without their white space, which is the layout's."""
    return [
        _ANY_SPACE.sub("", text[start:end])
        for kind, start, end in tokens(text)
        if kind == "comment"
    ]
