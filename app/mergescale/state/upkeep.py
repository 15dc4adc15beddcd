"""What time does: ephemeral nodes, logins, SSH checks and keys that nobody needs any more.

A timer asks `due`, which only looks, and carries `sweep` out when there is something to do. No
timer per node: after a restart or a takeover there is nothing to set up again.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from mergescale.domain.apikey import ApiKey
from mergescale.domain.authkey import AuthKey
from mergescale.domain.node import Node
from mergescale.domain.record import Drop, Put, Write
from mergescale.domain.snapshot import Snapshot
from mergescale.state import apikeys, attributes, authkeys, logins, sshchecks
from mergescale.state.nodes import removal
from mergescale.state.outcome import Decision, Outcome, outcome


@dataclass(frozen=True, slots=True)
class Swept:
    """How many of each were removed; SSH checks count as logins, attributes by their nodes."""

    nodes: int
    logins: int
    keys: int
    attributes: int = 0


def due(snapshot: Snapshot, now: datetime) -> bool:
    """Say whether `sweep` would remove anything."""
    return (
        any(True for _ in _abandoned(snapshot, now))
        or bool(logins.expired(snapshot, now))
        or bool(sshchecks.expired(snapshot, now))
        or bool(authkeys.forgotten(snapshot, now))
        or bool(apikeys.forgotten(snapshot, now))
        or any(True for _ in attributes.lapsed(snapshot, now))
    )


def sweep() -> Decision[Swept]:
    """Remove ephemeral nodes offline too long, expired logins, SSH checks and attributes, old keys."""

    def decide(snapshot: Snapshot, now: datetime) -> Outcome[Swept]:
        nodes = list(_abandoned(snapshot, now))
        done = logins.expired(snapshot, now)
        checks = sshchecks.expired(snapshot, now)
        keys: list[AuthKey | ApiKey] = [*authkeys.forgotten(snapshot, now)]
        keys += apikeys.forgotten(snapshot, now)
        writes: list[Write] = [write for node in nodes for write in removal(snapshot, node)]
        writes += [Drop(login) for login in done]
        writes += [Drop(check) for check in checks]
        writes += [Drop(key) for key in keys]
        gone = {node.id for node in nodes}
        lapsed = [node for node in attributes.lapsed(snapshot, now) if node.id not in gone]
        writes += [Put(node) for node in lapsed]
        swept = Swept(len(nodes), len(done) + len(checks), len(keys), len(lapsed))
        return outcome(snapshot, writes, swept)

    return decide


def _abandoned(snapshot: Snapshot, now: datetime) -> Iterator[Node]:
    """Yield ephemeral nodes whose time is over; one that never connected counts from its birth."""
    limit = now - snapshot.settings.ephemeral_timeout
    for node in snapshot.nodes.values():
        if node.ephemeral and not snapshot.online(node.id):
            alive = node.created if node.last_seen is None else max(node.created, node.last_seen)
            if alive <= limit:
                yield node
