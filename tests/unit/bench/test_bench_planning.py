"""The measures of plans and gates, on a company that is small."""

from __future__ import annotations

from bench.measures import planning


def test_every_measure_is_taken() -> None:
    """Time, memory and gates of a change of one rule, in a process of its own."""
    figures = planning.whole([150], 1)

    assert [(one.name, one.clients, one.unit, len(one.values)) for one in figures] == [
        ("plan, one of 200 rules changes", 150, "s", 1),
        ("memory of the plan, one of 200 rules changes", 150, "MB", 1),
        ("gates, one of 200 rules changes", 150, "ms", 1),
    ]
    assert all(value > 0 for one in figures for value in one.values)
    assert "rows" in figures[0].note


def test_the_reaches_are_those_of_the_issue() -> None:
    """3 s for 2,000 devices and 300 rules, 20 s for 10,000 and 500."""
    assert planning.REACH == {1_000: (200, None), 2_000: (300, 3.0), 10_000: (500, 20.0)}
