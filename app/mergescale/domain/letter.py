"""What is to be said to the outside: a desired state, and how far telling it is."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class Letter:
    """The desired state of one thing outside, e.g. of one status of one commit.

    Attributes:
        channel: who delivers it.
        key: which thing, within the channel.
        sequence: grows with every other state of this key; 1 for the first.
        body: the state, as JSON.
        final: whether a state that is not final (``pending``) may no longer follow.
        attempts: deliveries of this state that failed.
        due: when the next delivery makes sense.
        quiet: whether it is as good as delivered if it is the first of its key.
    """

    channel: str
    key: str
    sequence: int
    body: str
    final: bool
    attempts: int
    due: datetime
    quiet: bool = False
