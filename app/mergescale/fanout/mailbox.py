"""The ledger of one client: what it holds, what is on its way to it, and what it has not heard.

::

    post ─► pending ─take─► in flight ─delivered─► sent

Plain values, no waiting; ``hub`` adds the waking.
"""

from __future__ import annotations

from dataclasses import dataclass

from mergescale.domain.change import NOTHING, Change
from mergescale.domain.declaration import Deployment
from mergescale.domain.snapshot import Snapshot
from mergescale.kernel.errors import LocalProtocolError
from mergescale.kernel.ids import Revision


@dataclass(frozen=True, slots=True)
class Step:
    """What to compare for a client: from the snapshot it holds to the newest one."""

    sent: Snapshot
    now: Snapshot
    change: Change


class Mailbox:
    """Starts empty; the first thing taken from it is the first map.

    INVARIANT(ledger): folding everything that was delivered gives the full map of `sent`, and
    `pending` names everything that differs between what is in flight (or `sent`) and `latest`.
    """

    __slots__ = ("_in_flight", "_latest", "_pending", "_sent")

    def __init__(self, latest: Snapshot) -> None:
        self._latest = latest
        self._sent: Snapshot | None = None
        self._in_flight: Snapshot | None = None
        self._pending = NOTHING

    @property
    def waiting(self) -> bool:
        """Say whether there is something to take: changes after the last thing delivered."""
        return self._sent is not None and self._in_flight is None and bool(self._pending)

    @property
    def revision(self) -> Revision | None:
        """The revision of what was delivered last; None before the first map was."""
        return None if self._sent is None else self._sent.revision

    def holds(self, deployment: Deployment | None) -> bool:
        """Say whether what was delivered last is a map under this very deployment."""
        return self._sent is not None and self._sent.deployment is deployment

    def post(self, latest: Snapshot, change: Change, *, concerned: bool) -> bool:
        """Note a newer snapshot; return whether there is something to take that was not before.

        A client that holds everything and is not concerned holds the newest map already. One that
        is behind keeps the change, because its pending step has to name all that differs.
        """
        self._latest = latest
        if self._in_flight is None:
            if self._sent is None:
                return False
            if not self._pending:
                if concerned:
                    self._pending = change
                else:
                    self._sent = latest
                return concerned
        self._pending |= change
        return False

    def first(self) -> Snapshot:
        """Return the snapshot whose full map is sent now.

        Raises:
            LocalProtocolError: it was taken before.
        """
        if self._sent is not None or self._in_flight is not None:
            raise LocalProtocolError("a stream has one first map")
        self._in_flight = self._latest
        return self._latest

    def take(self) -> Step:
        """Return the step to the newest snapshot and put it in flight.

        Raises:
            LocalProtocolError: nothing waits to be taken.
        """
        if self._sent is None or not self.waiting:
            raise LocalProtocolError("nothing is waiting, or the last message is still in flight")
        step = Step(self._sent, self._latest, self._pending)
        self._in_flight, self._pending = self._latest, NOTHING
        return step

    def delivered(self) -> bool:
        """Note that what was in flight has been written, or had nothing to say.

        Returns:
            Whether that was under another deployment than what was delivered before.
        """
        if self._in_flight is None:
            return False
        before, self._sent, self._in_flight = self._sent, self._in_flight, None
        return before is None or before.deployment is not self._sent.deployment
