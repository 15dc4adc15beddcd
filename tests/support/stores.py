"""What tests of the store share: opening journals, and what two snapshots have in common."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from mergescale.domain.access import DENY_ALL, Access
from mergescale.domain.declaration import Declaration, Deployment
from mergescale.domain.snapshot import Snapshot
from mergescale.kernel.ids import Revision, TailnetName
from mergescale.state.engine import advance
from mergescale.state.ports import Batch, Journal
from mergescale.store.database import ANSWER_S, Database
from mergescale.store.journal import SqlJournal
from support.clock import START, FakeClock
from support.journal import MemoryJournal

HOME = TailnetName("default")
#: A policy text that `declare` refuses.
UNREADABLE = "unreadable"


class NobodyPolicy:
    """A policy that lets nobody reach anybody."""

    def resolve(self, snapshot: Snapshot, before: Access | None = None) -> Access:
        return DENY_ALL


def declare(files: Mapping[str, str]) -> Declaration:
    """Read any texts but the unreadable one."""
    if files.get("policy.hujson") == UNREADABLE:
        raise ValueError("the policy is unreadable")
    return Declaration(NobodyPolicy())


def deployment(commit: str, policy: str = "{}") -> Deployment:
    """Return a commit whose policy is this text."""
    files = {"policy.hujson": policy, "users.hujson": "// Ünïcode \u0000\n"}
    return Deployment(commit * 40, files, f"subject {commit}", "Ana", START, START, declare({}))


@dataclass(slots=True)
class OpenStore:
    """A journal on a database, and what it reported."""

    database: Database
    journal: SqlJournal
    unreadable: list[tuple[TailnetName, str]] = field(default_factory=list)


@asynccontextmanager
async def opened(url: str, answer_s: float = ANSWER_S) -> AsyncIterator[OpenStore]:
    """Open a migrated database as one replica does."""
    unreadable: list[tuple[TailnetName, str]] = []
    database = Database.open(url, answer_s)
    journal = SqlJournal(
        database, declare, FakeClock(), lambda name, error: unreadable.append((name, str(error)))
    )
    try:
        yield OpenStore(database, journal, unreadable)
    finally:
        await database.dispose()


async def loaded(journal: Journal, tailnet: TailnetName = HOME) -> Snapshot:
    """Load a tailnet as the engine does."""
    return after(Snapshot(tailnet), await journal.load(tailnet))


async def caught_up(journal: Journal, snapshot: Snapshot) -> Snapshot:
    """Take in what others committed, as the engine does."""
    return after(snapshot, await journal.since(snapshot.tailnet, snapshot.revision))


async def replayed(memory: MemoryJournal, tailnet: TailnetName = HOME) -> Snapshot:
    """Apply every write that was ever committed, in order: what the database must amount to."""
    return after(Snapshot(tailnet), await memory.since(tailnet, Revision(0)))


def after(snapshot: Snapshot, batch: Batch) -> Snapshot:
    """Apply what the journal says."""
    advanced, _ = advance(snapshot, batch)
    return advanced


def content(snapshot: Snapshot) -> dict[str, Any]:
    """Return everything that two replicas at one revision must agree on, indexes included."""
    deployed = snapshot.deployment
    return {
        "revision": snapshot.revision,
        "counters": snapshot.counters,
        "deployment": None
        if deployed is None
        else (
            deployed.commit,
            dict(deployed.files),
            deployed.subject,
            deployed.author,
            deployed.committed,
            deployed.applied,
        ),
        "users": dict(snapshot.users),
        "nodes": dict(snapshot.nodes),
        "auth_keys": dict(snapshot.auth_keys),
        "api_keys": dict(snapshot.api_keys),
        "logins": dict(snapshot.logins),
        "ssh_checks": dict(snapshot.ssh_checks),
        "presence": dict(snapshot.presence),
        "primaries": dict(snapshot.primaries),
        "following": snapshot.following,
        "slots": set(snapshot.slots.of),
        "by_node_key": dict(snapshot.by_node_key),
        "by_machine": dict(snapshot.by_machine),
        "by_login": dict(snapshot.by_login),
        "names": dict(snapshot.names),
        "addresses": dict(snapshot.addresses),
    }


def at(revision: int) -> Revision:
    """Return the revision with this number."""
    return Revision(revision)
