"""Whatever is written in a policy file: nothing raises, and every problem lies on its text."""

from __future__ import annotations

import json

from hypothesis import given, settings
from hypothesis import strategies as st

from mergescale.policy import hujson
from mergescale.policy.diagnostics import render
from support.policies import diagnose

GOOD = """// a policy
{
  "groups": {"group:dev": ["ana@example.com", "ben@example.com"]},
  "hosts": {"büro": "10.0.0.0/8"}, /* 😀 */
  "tagOwners": {"tag:web": ["group:dev"]},
  "acls": [
    {"action": "accept", "proto": "tcp", "src": ["group:dev"], "dst": ["tag:web:80,443", "büro:*"]},
  ],
  "grants": [{"src": ["*"], "dst": ["autogroup:internet"], "ip": ["tcp:443"]}],
  "autoApprovers": {"routes": {"10.0.0.0/8": ["tag:web"]}, "exitNode": ["group:dev"]},
  "tests": [{"src": "ana@example.com", "accept": ["tag:web:80"], "deny": ["tag:web:22"]}],
}
"""
scraps = st.one_of(
    st.text(max_size=4),
    st.sampled_from(
        ['"', "{", "}", "[", "]", ",", ":", "null", "0", "\\u", "\ud800", "\0", "tag:", "*"]
    ),
)


@st.composite
def broken(draw: st.DrawFn) -> str:
    """A good policy with a few stretches replaced."""
    text = GOOD
    for _ in range(draw(st.integers(1, 3))):
        start = draw(st.integers(0, len(text)))
        end = min(len(text), start + draw(st.integers(0, 12)))
        text = text[:start] + draw(scraps) + text[end:]
    return text


def test_the_text_that_gets_broken_is_good() -> None:
    """Without damage there is nothing to say about it."""
    assert diagnose(GOOD)[1] == ()


@settings(max_examples=300, deadline=None)
@given(text=st.one_of(broken(), st.text(max_size=40)))
def test_nothing_raises_and_spans_lie_in_the_text(text: str) -> None:
    """Each diagnostic's line, column and offsets name one place of the text."""
    policy, found = diagnose(text)

    assert policy is not None or found
    lines = text.split("\n")
    for one in found:
        span = one.span
        assert 0 <= span.offset_start <= span.offset_end <= len(text)
        for line, column, offset in (
            (span.start_line, span.start_column, span.offset_start),
            (span.end_line, span.end_column, span.offset_end),
        ):
            assert sum(len(each) + 1 for each in lines[: line - 1]) + column - 1 == offset
        head = f"policy.hujson:{span.start_line}:{span.start_column}: {one.severity}: "
        assert render(one, text).startswith(head)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | st.text(max_size=6),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3)
    ),
    max_leaves=12,
)


@settings(max_examples=150, deadline=None)
@given(value=json_values, ascii_only=st.booleans())
def test_every_json_value_is_read_back(value: object, ascii_only: bool) -> None:
    """HuJSON holds all of JSON, and plain() gives back what was written."""
    text = json.dumps(value, ensure_ascii=ascii_only)
    read, found = hujson.parse(text, "value.hujson")

    assert found == ()
    assert read is not None
    assert read.plain() == value
