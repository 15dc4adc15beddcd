from __future__ import annotations

from mergescale.control.crowd import Crowd


def crowd(*places: str, per_place: int = 3, in_all: int = 5) -> Crowd[int]:
    """Return a crowd whose members are numbered in the order of arrival."""
    made: Crowd[int] = Crowd(per_place, in_all)
    for number, place in enumerate(places):
        made.enter(number, place)
    return made


def test_a_full_place_is_told_oldest_first() -> None:
    """Whoever comes from there has to drive out one of its own; others find room."""
    here = crowd("a", "b", "a", "a")
    assert (here.surplus("a"), here.surplus("b"), here.surplus("c")) == ((0, 2, 3), (), ())


def test_too_many_in_all_is_the_fault_of_the_fullest_place() -> None:
    """However few come from where the next one is from."""
    full = crowd("a", "b", "b", "c", "b", per_place=9)
    assert full.surplus("a") == full.surplus("elsewhere") == (1, 2, 4)


def test_who_left_makes_room() -> None:
    """Once, and whoever was no member changes nothing; no place is remembered for nothing."""
    here = crowd("a", "a", "a", "b")
    for _ in range(2):
        here.leave(1)
    here.leave(99)
    assert (len(here), here.surplus("a")) == (3, ())
    here.enter(4, "a")
    assert here.surplus("a") == (0, 2, 4)
    for member in (0, 2, 3, 4):
        here.leave(member)
    assert (len(here), here._places, here._place_of) == (0, {}, {})
