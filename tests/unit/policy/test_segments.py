"""Segments answer as looking at every range would."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mergescale.policy.segments import cut
from mergescale.policy.selectors import Range

spans = st.tuples(st.sampled_from([4, 6]), st.integers(0, 12), st.integers(0, 6))
TOP = {4: 2**32 - 1, 6: 2**128 - 1}


@given(
    numbered=st.lists(st.tuples(st.integers(0, 3), spans), max_size=6),
    asked=spans,
)
def test_bits_are_those_of_the_ranges_that_meet(
    numbered: list[tuple[int, tuple[int, int, int]]], asked: tuple[int, int, int]
) -> None:
    """A bit is set exactly when a range with its number shares an address with what is asked."""
    ranges = [(bit, Range(v, first, first + more, "")) for bit, (v, first, more) in numbered]
    version, first, more = asked

    bits = cut(ranges).meeting(version, first, first + more)

    met = {bit for bit, one in ranges if one.meets(version, first, first + more)}
    assert bits == sum(1 << bit for bit in met)


def test_whole_families_do_not_run_into_each_other() -> None:
    """The last IPv4 address and the first IPv6 one are neighbours on the line only."""
    segments = cut([(0, Range(4, 0, TOP[4], "")), (1, Range(6, 0, TOP[6], ""))])

    assert segments.meeting(4, TOP[4], TOP[4]) == 0b01
    assert segments.meeting(4, 0, TOP[4]) == 0b01
    assert segments.meeting(6, 0, 0) == 0b10
    assert segments.meeting(6, 0, TOP[6]) == 0b10
