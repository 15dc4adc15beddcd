"""User profiles (tailcfg.UserProfile): who the self node and its visible peers belong to.

Clients merge them by id and cannot be told to forget one (spec 4.5), so a delta carries those that
its peers need and those that changed.
"""

from __future__ import annotations

from collections.abc import Container
from typing import Final

from mergescale.domain.snapshot import Snapshot
from mergescale.domain.user import TAGGED_LOGIN, TAGGED_USER_ID, User
from mergescale.kernel.ids import UserId
from mergescale.netmap.face import user_on_wire
from mergescale.wire.tailcfg.encode import encode
from mergescale.wire.tailcfg.users import UserProfile

#: Tagged nodes belong to nobody, but WhoIs and SSH fail for a peer without a profile (spec 4.7).
_TAGGED: Final = encode(
    UserProfile(id=TAGGED_USER_ID, login_name=TAGGED_LOGIN, display_name="Tagged Devices")
)


class Profiles:
    """Profiles, each encoded once for a user's record."""

    def __init__(self) -> None:
        self._known: dict[UserId, tuple[User, bytes]] = {}

    def of(self, snapshot: Snapshot, user: UserId) -> bytes:
        """Return tailcfg.UserProfile of a user of the snapshot, or of the pseudo-user."""
        if user == TAGGED_USER_ID:
            return _TAGGED
        record = snapshot.users[user]
        known = self._known.get(user)
        if known is None or known[0] is not record:
            known = self._known[user] = (record, _encoded(record))
        return known[1]

    def keep(self, users: Container[UserId]) -> None:
        """Drop what is kept of all others."""
        self._known = {user: known for user, known in self._known.items() if user in users}


def _encoded(user: User) -> bytes:
    return encode(UserProfile(id=user.id, login_name=user.login, display_name=user.display_name))


def owned(snapshot: Snapshot) -> dict[UserId, int]:
    """Return the slots of each user's nodes; the pseudo-user has the tagged ones."""
    slots: dict[UserId, int] = {}
    of = snapshot.slots.of
    for node in snapshot.nodes.values():
        user = user_on_wire(node)
        slots[user] = slots.get(user, 0) | 1 << of[node.id]
    return slots
