"""A bounded cache that forgets what was not asked for lately."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Recent(Generic[K, V]):
    """Keeps at least the `limit` values used last, at most twice as many.

    Two generations: what is used moves to the younger one; when that is full, it becomes the
    older one and what the older one held is dropped. Cheaper than an order per use.
    """

    __slots__ = ("_limit", "_old", "_young")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._young: dict[K, V] = {}
        self._old: dict[K, V] = {}

    def get(self, key: K, make: Callable[[], V]) -> V:
        """Return the value of `key`, made now if it is not there."""
        young = self._young
        if key in young:
            return young[key]
        value = self._old[key] if key in self._old else make()
        if len(young) >= self._limit:
            self._old, self._young = young, {}
        self._young[key] = value
        return value

    def __len__(self) -> int:
        return len(self._young.keys() | self._old.keys())
