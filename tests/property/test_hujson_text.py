"""HuJSON, whatever is written: places of all values, and rewriting without loss."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from mergescale.policy import hujson
from mergescale.policy.hujson import Value
from mergescale.policy.hujson.tokens import tokens
from support.hujson_claims import assert_rewritten_well

words = st.text("ab */-x\té😀\u2028", max_size=8)
comments = st.one_of(
    words.map(lambda text: f"//{text}\n"),
    st.lists(words, max_size=3).map(
        lambda lines: "/*" + "\n".join(lines).replace("*/", "").rstrip("*") + "*/"
    ),
)
spaces = st.sampled_from(["", " ", "\n", "\n\n\n", "\t", "\r\n", "\n\r", "\r", "\n  "])
extras = st.lists(spaces | spaces | comments, max_size=3).map("".join)
strings = st.text(max_size=6) | st.text('ab\\/"\b\x0c\n\r\t\x00\x1f\x7fé😀\u2028', max_size=40)
scalars = st.none() | st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | strings


@st.composite
def documents(draw: st.DrawFn, depth: int = 0) -> tuple[Any, str]:
    """A value, and a text of it with anything that is allowed between the tokens."""
    around = draw(extras), draw(extras)
    kind = draw(st.integers(0, 2)) if depth < 3 else 0
    if kind == 0:
        value: Any = draw(scalars)
        text = json.dumps(value, ensure_ascii=draw(st.booleans()))
        return value, around[0] + text + around[1]
    inner = draw(st.lists(documents(depth=depth + 1), max_size=3))
    texts = [text for _, text in inner]
    if kind == 1:
        value, brackets = [one for one, _ in inner], "[]"
    else:
        keys = draw(st.lists(strings, min_size=len(inner), max_size=len(inner), unique=True))
        value, brackets = {k: one for k, (one, _) in zip(keys, inner, strict=True)}, "{}"
        texts = [
            draw(extras) + json.dumps(key) + draw(extras) + ":" + text
            for key, text in zip(keys, texts, strict=True)
        ]
    end = draw(extras)
    comma = draw(st.sampled_from(["", ","])) if texts else ""
    return value, around[0] + brackets[0] + ",".join(texts) + comma + end + brackets[1] + around[1]


@settings(max_examples=300, deadline=None)
@given(document=documents())
def test_a_document_is_read_and_rewritten_without_loss(document: tuple[Any, str]) -> None:
    """It means what it was made of, and each rewriting keeps what it promises to keep."""
    value, text = document
    read, found = hujson.parse(text, "f.hujson")

    assert found == ()
    assert read is not None
    assert read.plain() == value
    _each_value_stands_where_it_says(read, text)
    assert_rewritten_well(text)


def _each_value_stands_where_it_says(value: Value, text: str) -> None:
    span = value.span
    alone, found = hujson.parse(text[span.offset_start : span.offset_end], "f.hujson")
    assert found == ()
    assert alone is not None
    assert alone.plain() == value.plain()
    for member in value.members:
        key = text[member.key_span.offset_start : member.key_span.offset_end]
        assert json.loads(key) == member.key
        _each_value_stands_where_it_says(member.value, text)
    for item in value.items:
        _each_value_stands_where_it_says(item, text)


@settings(max_examples=150, deadline=None)
@given(document=documents())
def test_what_is_printed_is_read_back(document: tuple[Any, str]) -> None:
    """The layout of plain JSON means the same and is plain JSON."""
    value, _ = document

    for printed in (json.dumps(value), json.dumps(value, indent=1, ensure_ascii=False)):
        formatted = hujson.format(printed)
        read, found = hujson.parse(formatted, "f.hujson")
        assert found == ()
        assert read is not None
        assert read.plain() == value == json.loads(formatted)


@settings(max_examples=300, deadline=None)
@given(
    text=st.text(max_size=30) | st.text("[]{},:\"'\\/* \n\r\tu0eE+-.1nul#\udc80\ufeff", max_size=30)
)
def test_any_text_is_rewritten_well_or_refused(text: str) -> None:
    """Exactly what cannot be read is refused, and with the declared error."""
    assert_rewritten_well(text)


@settings(max_examples=300, deadline=None)
@given(text=st.text("[]{},:\"'\\/* \n\r\x0bu0e-1nultrue#é", max_size=40))
def test_tokens_cover_the_text(text: str) -> None:
    """Between them only white space is left, and they come to an end."""
    last = 0
    for _, start, end in tokens(text):
        assert text[last:start].strip(" \t\r\n") == ""
        assert start < end or (start, end) == (len(text), len(text))
        last = end
    assert last == len(text)
