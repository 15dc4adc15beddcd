"""What replicas tell each other of the watched repository: one follows it, any is asked about it."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from mergescale.domain.snapshot import Snapshot
from mergescale.state.outcome import Decision, Outcome, outcome, replaced


def ask() -> Decision[int]:
    """Ask whoever follows the repository for a look; return the number of the request."""

    def decide(snapshot: Snapshot, _: datetime) -> Outcome[int]:
        before = snapshot.following
        after = replace(before, asked=before.asked + 1)
        made = replaced(snapshot, before, after)
        return Outcome(made.snapshot, made.change, made.writes, after.asked)

    return decide


def tell(status: str, answered: int) -> Decision[None]:
    """Say how following the repository stands, and which requests that answers.

    Args:
        status: `domain.record.Following.status`.
        answered: number of the newest request that was there when the look began.
    """

    def decide(snapshot: Snapshot, _: datetime) -> Outcome[None]:
        before = snapshot.following
        after = replace(before, status=status, answered=max(before.answered, answered))
        made = replaced(snapshot, before, after)
        return outcome(snapshot, made.writes, None)

    return decide
