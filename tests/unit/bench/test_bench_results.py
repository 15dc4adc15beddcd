"""Figures, and what is said of them."""

from __future__ import annotations

import pytest

from bench.results import Figure, Verdict, judged, percentile


def test_typical_and_best_follow_the_direction() -> None:
    """The typical value is the median; the best is the smallest, or of a rate the largest."""
    took = Figure("took", 10, (3.0, 1.0, 2.0), "s", 2.5)
    rate = Figure("rate", 10, (3.0, 1.0, 2.0), "/s", 2.5, at_least=True)
    assert (took.typical, took.best, took.verdict) == (2.0, 1.0, Verdict.OK)
    assert (rate.typical, rate.best, rate.verdict) == (2.0, 3.0, Verdict.OVER)


def test_larger_sizes_are_judged_by_the_base() -> None:
    """At five times the clients five times the figure is linear; a rate may be a fifth of it."""
    base = [
        Figure("took", 1000, (1.0,), "s", 8),
        Figure("rate", 1000, (400.0,), "/s", 300, at_least=True),
        Figure("only told", 1000, (1.0,), "s"),
    ]
    large = [
        Figure("took", 5000, (6.0,), "s", 8),
        Figure("rate", 5000, (90.0,), "/s", 300, at_least=True),
        Figure("only told", 5000, (9.0,), "s"),
    ]
    found = judged([*base, *large], 1000)
    assert found[:3] == base
    assert [(one.reach, one.verdict) for one in found[3:]] == [
        (5.0, Verdict.OVER),
        (80.0, Verdict.OK),
        (None, Verdict.FIGURE),
    ]


@pytest.mark.parametrize(("share", "value"), [(0.0, 1.0), (0.5, 51.0), (0.99, 100.0), (1.0, 100.0)])
def test_a_percentile_is_one_of_the_values(share: float, value: float) -> None:
    """Of 1 to 100 in any order."""
    assert percentile([float(one) for one in range(100, 0, -1)], share) == value


def test_nothing_measured_has_no_percentile() -> None:
    """Zero, as for a loop that was never late."""
    assert percentile([], 0.99) == 0
