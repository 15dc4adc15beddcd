"""The expression that finds the tokens: what it finds, and that it never goes back."""

from __future__ import annotations

from collections.abc import Iterator
from re import _parser
from typing import Any

import pytest

from mergescale.policy.hujson.tokens import TOKEN, tokens


def kinds(text: str) -> list[tuple[str, str]]:
    return [(kind, text[start:end]) for kind, start, end in tokens(text)]


def test_a_text_is_cut_into_tokens() -> None:
    """Each kind once, white space left out, the end last."""
    assert kinds('{"a" : [-1.5e+3,\r\n\ttrue]} // x\n/* "y" */"\\n"') == [
        ("begin_object", "{"),
        ("plain", '"a"'),
        ("colon", ":"),
        ("begin_array", "["),
        ("number", "-1.5e+3"),
        ("comma", ","),
        ("constant", "true"),
        ("end_array", "]"),
        ("end_object", "}"),
        ("comment", "// x"),
        ("comment", '/* "y" */'),
        ("escaped", '"\\n"'),
        ("end", ""),
    ]


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("/* x * / /*", "open_comment"),
        ("// x", "open_comment"),
        ('"x\\"', "open_string"),
        ("-", "other"),
        ("1.e5", "other"),
        ("nulll", "other"),
        ("# x, y", "other"),
        ("'x, y'", "other"),
        ("é", "other"),
        ("\x0b", "other"),
    ],
)
def test_what_is_no_token_is_one_all_the_same(text: str, kind: str) -> None:
    """As much of it as a person would take for one."""
    assert kinds(text) == [(kind, text), ("end", "")]


def test_nothing_that_was_read_is_read_again() -> None:
    """Each repetition keeps what it took, or stands in a group that is never entered again.

    So each token takes time in proportion to its length, whatever the text is.
    """
    assert set(_repetitions(_parser.parse(TOKEN.pattern, TOKEN.flags))) == {"POSSESSIVE_REPEAT"}
    backtracking = _parser.parse(r'"(?:[^"\\]+|\\.)*"')
    assert set(_repetitions(backtracking)) == {"MAX_REPEAT"}


def _repetitions(part: Any) -> Iterator[str]:
    """Yield the names of the repetitions of a parsed expression, atomic groups left out."""
    match part:
        case (name, *arguments) if hasattr(name, "name"):
            if name.name == "ATOMIC_GROUP":
                return
            if name.name.endswith("REPEAT"):
                yield name.name
            for argument in arguments:
                yield from _repetitions(argument)
        case list() | tuple() | _parser.SubPattern():
            for one in part:
                yield from _repetitions(one)
