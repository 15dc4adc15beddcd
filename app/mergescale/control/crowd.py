"""Connections of which nothing good is known yet: bounded in all, and for each place they come from.

Whoever enters a crowd that is full drives out the longest there of its own place; where all places
together are too many, of the place that has most. So a flood drives out itself, and somebody from
elsewhere finds room whatever its size.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Generic, TypeVar

T = TypeVar("T", bound=Hashable)


class Crowd(Generic[T]):
    """Members in the order of arrival, by place."""

    def __init__(self, per_place: int, in_all: int) -> None:
        self._per_place = per_place
        self._in_all = in_all
        self._place_of: dict[T, str] = {}
        self._places: dict[str, dict[T, None]] = {}

    def __len__(self) -> int:
        return len(self._place_of)

    def enter(self, member: T, place: str) -> None:
        """Add a member; `surplus` is for the caller to look at before."""
        self._place_of[member] = place
        self._places.setdefault(place, {})[member] = None

    def leave(self, member: T) -> None:
        """Remove a member, if it is one."""
        place = self._place_of.pop(member, None)
        if place is None:
            return
        here = self._places[place]
        del here[member]
        if not here:
            del self._places[place]

    def surplus(self, place: str) -> tuple[T, ...]:
        """Return those of whom one has to leave before somebody enters, longest there first."""
        here = self._places.get(place, {})
        if len(here) >= self._per_place:
            return tuple(here)
        if len(self._place_of) >= self._in_all:
            return tuple(self._places[max(self._places, key=lambda name: len(self._places[name]))])
        return ()
