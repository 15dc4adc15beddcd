"""What a decision returns."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Generic, TypeVar

from mergescale.domain.change import Change
from mergescale.domain.record import Put, Record, Write
from mergescale.domain.snapshot import Snapshot

T = TypeVar("T")
R = TypeVar("R", bound=Record)


@dataclass(frozen=True, slots=True)
class Outcome(Generic[T]):
    """The result of a decision.

    Attributes:
        snapshot: the snapshot after `writes`; ``is`` the one before when there are none.
        change: what they may have changed.
        writes: what must become durable, in order.
        answer: what the caller asked for.
    """

    snapshot: Snapshot
    change: Change
    writes: Sequence[Write]
    answer: T


#: A pure function from a snapshot and the time to an outcome; raises a Refusal to say no.
Decision = Callable[[Snapshot, datetime], Outcome[T]]


def outcome(before: Snapshot, writes: Sequence[Write], answer: T) -> Outcome[T]:
    """Build the outcome of a decision by applying its writes."""
    if not writes:
        return Outcome(before, Change(), (), answer)
    snapshot, change = before.apply(writes)
    return Outcome(snapshot, change, writes, answer)


def replaced(before: Snapshot, old: R, new: R) -> Outcome[R]:
    """Build the outcome of replacing one record: no write at all when nothing differs."""
    return outcome(before, () if new == old else (Put(new),), new)
