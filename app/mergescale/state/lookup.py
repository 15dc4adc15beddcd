"""Finding what a decision is about, or refusing."""

from __future__ import annotations

from mergescale.domain.node import Node
from mergescale.domain.snapshot import Snapshot
from mergescale.domain.user import User
from mergescale.kernel.errors import NotFound
from mergescale.kernel.ids import NodeId, UserId


def node(snapshot: Snapshot, node_id: NodeId) -> Node:
    """Return the node; raise `NotFound` if there is none."""
    found = snapshot.nodes.get(node_id)
    if found is None:
        raise NotFound("no such node")
    return found


def user(snapshot: Snapshot, user_id: UserId) -> User:
    """Return the user; raise `NotFound` if there is none."""
    found = snapshot.users.get(user_id)
    if found is None:
        raise NotFound("no such user")
    return found


def user_by_login(snapshot: Snapshot, login: str) -> User:
    """Return the user with this login; raise `NotFound` if there is none."""
    found = snapshot.user_by_login(login)
    if found is None:
        raise NotFound(f'no user "{login[:80]}"', help="`mergescale users list` shows who there is")
    return found
