"""Figures, and what is said of them."""

from __future__ import annotations

import re
from io import StringIO

import pytest
from rich.console import Console

from bench.results import Figure, Verdict, judged, percentile, show


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


def test_replicas_do_not_judge_the_larger_sizes() -> None:
    """What several servers did is no base for one server with more clients."""
    base = Figure("took", 1000, (1.0,), "s", 8)
    two = Figure("took", 1000, (3.0,), "s", 8, replicas=2)
    large = Figure("took", 5000, (6.0,), "s", 8)
    found = judged([base, two, large], 1000)
    assert [(one.replicas, one.clients, one.reach) for one in found] == [
        (0, 1000, 8),
        (2, 1000, 8),
        (0, 5000, 5.0),
    ]


def test_replicas_stand_beside_each_other() -> None:
    """A row for each measure; what only two have leaves the other cell empty, notes that agree are one."""
    figures = [
        Figure("took", 10, (1.0, 3.0, 2.0), "s", 2.5, note="same", replicas=1),
        Figure("memory", 10, (1.0,), "MB", note="a", replicas=1),
        Figure("took", 10, (3.0,), "s", 2.5, note="same", replicas=2),
        Figure("elsewhere", 10, (4.0,), "s", replicas=2),
        Figure("memory", 10, (2.0,), "MB", note="b", replicas=2),
    ]
    console = Console(width=120, file=StringIO(), record=True)
    show(figures, console)
    lines = [re.split(r"\s{2,}", line.strip()) for line in console.export_text().splitlines()]
    assert lines == [
        ["on PostgreSQL", "clients", "1 replica", "2 replicas", "reach", "note"],
        ["took", "10", "2.00 s", "ok", "3.00 s", "over", "≤ 2.50", "same"],
        ["elsewhere", "10", "4.00 s"],
        ["memory", "10", "1.00 MB", "2.00 MB", "1: a"],
        ["2: b"],
    ]
