"""Posture conditions over everything that can be written and said."""

from __future__ import annotations

from itertools import zip_longest

from hypothesis import given, settings
from hypothesis import strategies as st

from mergescale.policy.postures import (
    Attribute,
    Condition,
    Operator,
    Posture,
    evaluate,
    parse_condition,
)
from mergescale.policy.versions import version

words = st.text(st.sampled_from("ab 1.,[]=<é'"), max_size=6)
values = st.one_of(words, st.booleans(), st.integers(-9, 9).map(float))
versions = st.from_regex(r"[0-9]{1,3}([.-][a-z]{0,2}[0-9]{1,3}){0,3}", fullmatch=True)


@st.composite
def conditions(draw: st.DrawFn) -> Condition:
    operator = draw(st.sampled_from(Operator))
    match operator:
        case Operator.SET | Operator.NOT_SET:
            asked: tuple[Attribute, ...] = ()
        case Operator.IN | Operator.NOT_IN:
            asked = tuple(draw(st.lists(values, max_size=3)))
        case Operator.EQUAL | Operator.UNEQUAL:
            asked = (draw(values),)
        case _:
            asked = (draw(st.integers(-9, 9).map(float)),)
    return Condition(draw(st.sampled_from(["custom:a", "custom:b.c-d"])), operator, asked)


@given(st.text(max_size=40))
@settings(max_examples=200, deadline=None)
def test_no_text_breaks_the_reader(text: str) -> None:
    """Whatever is written is a condition that prints as one, or malformed."""
    read = parse_condition(text)
    if isinstance(read, Condition):
        assert parse_condition(str(read)) == read


@given(conditions())
@settings(max_examples=200, deadline=None)
def test_printed_conditions_read_back(condition: Condition) -> None:
    """Printing loses nothing."""
    assert parse_condition(str(condition)) == condition


@given(conditions(), st.none() | values)
@settings(max_examples=200, deadline=None)
def test_opposites_divide_those_who_have_the_attribute(
    condition: Condition, value: Attribute | None
) -> None:
    """Of a condition and its opposite exactly one holds where the attribute is set, else none."""
    opposites = {
        Operator.EQUAL: Operator.UNEQUAL,
        Operator.IN: Operator.NOT_IN,
        Operator.SET: Operator.NOT_SET,
    }
    other = opposites.get(condition.operator)
    if other is None:
        return
    attributes = {} if value is None else {condition.name: value}
    opposite = Condition(condition.name, other, condition.values)
    said = [evaluate(Posture("posture:x", (one,)), attributes) for one in (condition, opposite)]
    expected = value is not None or condition.operator is Operator.SET
    assert sum(said) == int(expected)


def order(first: str, second: str) -> int:
    """Compare versions part by part: runs of digits as numbers, others as text."""
    one, two = first, second
    while one or two:
        a, one = split(one, digits=False)
        b, two = split(two, digits=False)
        if a.encode() != b.encode():
            return -1 if a.encode() < b.encode() else 1
        a, one = split(one, digits=True)
        b, two = split(two, digits=True)
        if int(a or 0) != int(b or 0):
            return -1 if int(a or 0) < int(b or 0) else 1
    return 0


def split(text: str, *, digits: bool) -> tuple[str, str]:
    end = next((i for i, c in enumerate(text) if ("0" <= c <= "9") != digits), len(text))
    return text[:end], text[end:]


@given(versions, versions)
@settings(max_examples=300, deadline=None)
def test_versions_order_part_by_part(first: str, second: str) -> None:
    """Comparing keys is comparing the parts one after the other."""
    one, two = version(first), version(second)
    assert (one > two) - (one < two) == order(first, second)
    assert all(a == b for a, b in zip_longest(one, version(first)))
