"""What is said of processor time."""

from __future__ import annotations

import pytest

from bench.site import Spent


@pytest.mark.parametrize(
    ("spent", "among", "said"),
    [
        (Spent(), 1000, ""),
        (Spent(0.088), 1, "88 ms of processor"),
        (Spent(1.5), 1000, "1.50 ms of processor each"),
        (Spent(2.5, 0.5), 1000, "2.50 ms of processor each, 0.50 of PostgreSQL's"),
    ],
)
def test_what_it_cost(spent: Spent, among: int, said: str) -> None:
    """For each client, with the database's share where there is one; nothing of a stranger."""
    assert spent.say(among) == said


def test_what_was_spent_since() -> None:
    """The difference of both."""
    assert Spent(3.0, 2.0).since(Spent(1.0, 0.5)) == Spent(2.0, 1.5)
