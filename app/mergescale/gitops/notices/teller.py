"""Says the state of every topic to every channel after each look; that it changed is for the outbox."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from mergescale.gitops.notices.events import State
from mergescale.gitops.notices.topics import Seen, topics
from mergescale.gitops.outbox import Says
from mergescale.gitops.status import Status
from mergescale.state.ports import Fence

#: Channels of the outbox that tell notifications are called so, and then by their own names.
PREFIX = "notify/"


class Teller:
    """Of one tailnet.

    Args:
        says: the outbox.
        channels: names of its channels.
        look: what is known after a look; given the commit that was in force before it.
        term: what this replica's right to follow rests on.
    """

    def __init__(
        self,
        says: Says,
        channels: Sequence[str],
        look: Callable[[str], Seen],
        term: Callable[[], Fence | None],
    ) -> None:
        self._says = says
        self._channels = tuple(channels)
        self._look = look
        self._term = term
        self._said: dict[str, State] = {}
        self._said_in: Fence | None = None

    def heard(self, before: Status, after: Status) -> None:  # noqa: ARG002 - a listener's
        """Take note of a look; a listener of `Reconciler`."""
        if self._said_in != self._term():
            # Others may have told something else since.
            self._said, self._said_in = {}, self._term()
        was_in_force = before.current.commit if before.current is not None else ""
        for key, state in topics(self._look(was_in_force)):
            if state.same_as(self._said.get(key)):
                continue
            self._said[key] = state
            for channel in self._channels:
                body = state.as_body()
                self._says.say(f"{PREFIX}{channel}", key, body, quiet=state.quiet)
