"""Any history of batches: whoever loads, and whoever catches up from anywhere, ends the same."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mergescale.domain.node import Node
from mergescale.domain.record import Counters, Drop, Presence, Put, Write
from mergescale.domain.snapshot import Snapshot
from mergescale.domain.user import Role, User
from mergescale.kernel.ids import NodeId, ReplicaId, Revision, UserId
from mergescale.store.schema import migrate
from support.clock import START
from support.journal import MemoryJournal
from support.stores import HOME, caught_up, content, deployment, loaded, opened, replayed
from support.worlds import node

#: What happens, and two numbers that pick to whom.
STEPS = st.tuples(
    st.sampled_from(
        ["add", "drop", "swap", "online", "offline", "user", "logins", "deploy", "withdraw"]
    ),
    st.integers(0, 5),
    st.integers(0, 5),
)
HISTORIES = st.lists(st.lists(STEPS, min_size=1, max_size=6), min_size=1, max_size=6)


def decide(snapshot: Snapshot, step: tuple[str, int, int]) -> list[Write]:
    """Return the writes of a step that make sense now; none when it makes none."""
    what, first, second = step
    nodes = list(snapshot.nodes.values())
    users = list(snapshot.users.values())
    replica = ReplicaId(f"replica-{second % 2}")
    match what:
        case "add":
            number = snapshot.counters.next_node
            owner = users[first % len(users)].id if users and second % 2 else None
            tags = () if owner else ("tag:x",)
            added = node(number, f"n{number}", user=owner, tags=tags)
            return [Put(added), Put(replace(snapshot.counters, next_node=NodeId(number + 1)))]
        case "drop" if nodes:
            return [Drop(nodes[first % len(nodes)])]
        case "swap" if len(nodes) > 1:
            return swap(nodes[first % len(nodes)], nodes[second % len(nodes)])
        case "online" if nodes:
            return [Put(Presence(nodes[first % len(nodes)].id, replica, START))]
        case "offline" if snapshot.presence:
            gone = list(snapshot.presence)[first % len(snapshot.presence)]
            return [Drop(Presence(gone, replica, START))]
        case "user":
            next_user = snapshot.counters.next_user
            person = User(next_user, f"U{next_user}@example.com", "U", Role.MEMBER, START)
            counters = Counters(snapshot.counters.next_node, UserId(next_user + 1))
            return [Put(person), Put(counters)]
        case "logins" if len(users) > 1:
            one, two = users[first % len(users)], users[(first + 1) % len(users)]
            return [Put(replace(one, login=two.login)), Put(replace(two, login=one.login))]
        case "deploy":
            return [Put(deployment("abcdef"[first]))]
        case "withdraw" if snapshot.deployment is not None:
            return [Drop(snapshot.deployment)]
        case _:
            return []


def swap(one: Node, two: Node) -> list[Write]:
    """Exchange everything that only one node may have."""
    if one.id == two.id:
        return [Drop(one), Put(one)]
    return [
        Put(replace(one, name=two.name, ipv4=two.ipv4, ipv6=two.ipv6, node_key=two.node_key)),
        Put(replace(two, name=one.name, ipv4=one.ipv4, ipv6=one.ipv6, node_key=one.node_key)),
    ]


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated SQLite file, copied for each example."""
    path = tmp_path_factory.mktemp("histories") / "template.db"
    migrate(f"sqlite+aiosqlite:///{path}")
    return path


@settings(max_examples=25, deadline=None)
@given(history=HISTORIES)
def test_every_way_to_the_newest_revision_ends_the_same(
    template: Path, history: Sequence[Sequence[tuple[str, int, int]]]
) -> None:
    """Loading, and catching up from each revision, equal replaying every write in order."""
    path = shutil.copy(template, template.with_name("example.db"))
    asyncio.run(live(f"sqlite+aiosqlite:///{path}", history))


async def live(url: str, history: Sequence[Sequence[tuple[str, int, int]]]) -> None:
    """Commit a history to a database and to its twin, and compare."""
    memory = MemoryJournal()
    async with opened(url) as store:
        passed = [await loaded(store.journal)]
        for base, steps in enumerate(history):
            snapshot, writes = passed[-1], []
            for step in steps:
                decided = decide(snapshot, step)
                snapshot, _ = snapshot.apply(decided)
                writes.extend(decided)
            assert await store.journal.commit(HOME, Revision(base), writes, START) == base + 1
            await memory.commit(HOME, Revision(base), writes, START)
            passed.append(await caught_up(memory, passed[-1]))
        newest = content(await replayed(memory))
        assert content(await loaded(store.journal)) == newest
        for old in passed:
            assert content(await caught_up(store.journal, old)) == newest
