"""The journal on a real database: what is committed is what is loaded, or nothing is."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import event, text, update
from sqlalchemy.exc import OperationalError

from mergescale.domain.apikey import ApiKey
from mergescale.domain.authkey import AuthKey
from mergescale.domain.login import LoginState, PendingLogin
from mergescale.domain.record import (
    Counters,
    Delivered,
    Drop,
    Following,
    Hold,
    Override,
    Presence,
    Put,
    Write,
)
from mergescale.domain.snapshot import Snapshot
from mergescale.domain.sshcheck import SshCheck
from mergescale.domain.user import Role, User
from mergescale.kernel.ids import (
    ApiKeyId,
    AuthKeyId,
    LoginId,
    NodeId,
    ReplicaId,
    TailnetName,
    UserId,
)
from mergescale.kernel.keys import MachineKey, NodeKey
from mergescale.state.engine import Engine
from mergescale.state.outcome import Outcome, outcome
from mergescale.state.ports import (
    JournalTrimmed,
    RevisionMoved,
    StoreConflict,
    StoreUnavailable,
)
from mergescale.store import journal as journal_module
from mergescale.store.database import Database
from mergescale.store.tables import DEPLOYMENTS, METADATA, NODES, USERS
from support.aio import aio, turns
from support.clock import START, FakeClock
from support.journal import MemoryFeed, MemoryJournal
from support.stores import (
    HOME,
    UNREADABLE,
    at,
    caught_up,
    content,
    deployment,
    loaded,
    opened,
    replayed,
)
from support.worlds import REPLICA, named, node, world

OTHER = TailnetName("other")
ANA = User(UserId(1), "Ana@example.com", "Ana", Role.ADMIN, START, declared=True)
BO = User(UserId(2), "bo@example.com", "Bo", Role.MEMBER, START, suspended=True)


def everything() -> list[Write]:
    """Return a tailnet with every class of record, and a few that come and go."""
    snapshot = world("ana@example.com: laptop, phone; tag:web+tag:db: web1")
    laptop, web = named(snapshot, "laptop"), named(snapshot, "web1")
    login = PendingLogin(
        LoginId("login-1"),
        MachineKey(b"m" * 32),
        NodeKey(b"n" * 32),
        NodeKey.zero(),
        b'{"OS":"linux"}',
        ephemeral=False,
        capability_version=130,
        created=START,
        expires=START + timedelta(hours=1),
    )
    check = SshCheck(
        LoginId("check-1"),
        laptop.id,
        UserId(1),
        web.id,
        "ubuntu",
        START,
        START + timedelta(hours=1),
    )
    return [
        *(Put(user) for user in snapshot.users.values()),
        *(Put(node) for node in snapshot.nodes.values()),
        *(Put(Presence(node, REPLICA, START)) for node in snapshot.nodes),
        Put(Counters(NodeId(4), UserId(2))),
        Put(AuthKey(AuthKeyId("k1"), b"h" * 32, "ci", START, START, tags=("tag:web",))),
        Put(ApiKey(ApiKeyId("a1"), b"h" * 32, "admin", START)),
        Put(login),
        Put(replace(login, state=LoginState.APPROVED, node=laptop.id)),
        Put(check),
        Put(replace(check, id=LoginId("check-2"), state=LoginState.APPROVED, decided=START)),
        Drop(check),
        Put(deployment("a")),
        Put(BO),
        Drop(BO),
        Drop(Presence(web.id, REPLICA, START)),
        Put(replace(laptop, tags=("tag:a",), user=None, last_seen=START)),
    ]


@contextmanager
def statements(database: Database) -> Iterator[list[str]]:
    """Collect the statements sent to the database by its writer."""
    sent: list[str] = []

    def note(_c: Any, _cursor: Any, statement: str, *_: Any) -> None:
        sent.append(statement)

    event.listen(database.writer.sync_engine, "before_cursor_execute", note)
    try:
        yield sent
    finally:
        event.remove(database.writer.sync_engine, "before_cursor_execute", note)


@contextmanager
def failing(database: Database, *, after: int) -> Iterator[list[str]]:
    """Make one statement of the writer fail, after so many that go through; yield it."""
    failed: list[str] = []
    left = [after]

    def fail(_c: Any, _cursor: Any, statement: str, *_: Any) -> None:
        left[0] -= "BEGIN" not in statement
        if left[0] < 0 and not failed:
            failed.append(statement)
            raise OperationalError("SELECT secret", {"secret": 1}, Exception("secret"))

    event.listen(database.writer.sync_engine, "before_cursor_execute", fail)
    try:
        yield failed
    finally:
        event.remove(database.writer.sync_engine, "before_cursor_execute", fail)


async def both(store: Any, memory: MemoryJournal, base: int, writes: Sequence[Write]) -> None:
    """Commit to the database and to its twin."""
    assert await store.journal.commit(HOME, at(base), writes, START) == base + 1
    assert await memory.commit(HOME, at(base), writes, START) == base + 1


@aio
async def test_a_loaded_tailnet_is_what_was_committed(database_url: str) -> None:
    """A second process loads exactly what the in-memory twin has."""
    memory = MemoryJournal()
    async with opened(database_url) as store:
        assert content(await loaded(store.journal)) == content(Snapshot(HOME))
        await both(store, memory, 0, everything())
        await both(store, memory, 1, [Put(deployment("b")), Put(ANA)])
    async with opened(database_url) as store:
        assert content(await loaded(store.journal)) == content(await replayed(memory))
        assert store.unreadable == []


@aio
async def test_catching_up_from_any_revision_ends_at_the_newest(database_url: str) -> None:
    """A replica that missed one, some or all batches ends equal to one that missed none."""
    laptop = node(1, "laptop", user=None, tags=("tag:a",))
    batches: list[list[Write]] = [
        everything(),
        [Drop(laptop), Put(Counters(NodeId(9), UserId(9)))],
        [Put(replace(node(2, "phone", user=UserId(1)), name="renamed"))],
        [Drop(deployment("a")), Put(ANA), Drop(ApiKey(ApiKeyId("a1"), b"", "", START))],
        [Put(deployment("c")), Put(Presence(NodeId(3), ReplicaId("replica-2"), START))],
    ]
    memory = MemoryJournal()
    async with opened(database_url) as store:
        missed = [await loaded(store.journal)]
        for base, batch in enumerate(batches):
            await both(store, memory, base, batch)
            missed.append(await loaded(store.journal))
        newest = content(await replayed(memory))
        assert [content(await caught_up(store.journal, old)) for old in missed] == [newest] * 6


@aio
async def test_a_stale_base_writes_nothing(database_url: str) -> None:
    """Whoever was second is refused, at any distance, and leaves no trace."""
    async with opened(database_url) as store:
        await loaded(store.journal)
        await store.journal.commit(HOME, at(0), everything(), START)
        before = content(await loaded(store.journal))
        for base in (0, 2, 7):
            with pytest.raises(RevisionMoved):
                await store.journal.commit(HOME, at(base), [Put(BO)], START)
        assert content(await loaded(store.journal)) == before


@aio
async def test_what_is_unique_can_be_exchanged_in_one_batch(database_url: str) -> None:
    """Two nodes swap name, addresses and key, two users their logins; both replicas agree."""
    a, b = node(1, "a", user=None, tags=("tag:x",)), node(2, "b", user=None, tags=("tag:x",))
    swapped: list[Write] = [
        Put(replace(a, name="b", ipv4=b.ipv4, ipv6=b.ipv6, node_key=b.node_key)),
        Put(replace(b, name="a", ipv4=a.ipv4, ipv6=a.ipv6, node_key=a.node_key)),
        Put(replace(ANA, login=BO.login)),
        Put(replace(BO, login=ANA.login)),
    ]
    memory = MemoryJournal()
    async with opened(database_url) as store:
        await loaded(store.journal)
        await both(store, memory, 0, [Put(ANA), Put(BO), Put(a), Put(b)])
        behind = await loaded(store.journal)
        await both(store, memory, 1, swapped)
        expected = content(await replayed(memory))
        assert expected["names"] == {"a": NodeId(2), "b": NodeId(1)}
        assert content(await loaded(store.journal)) == expected
        assert content(await caught_up(store.journal, behind)) == expected


@aio
async def test_a_dropped_node_takes_its_presence_along(database_url: str) -> None:
    """Presence goes with its node, whether it is older than the batch or part of it."""
    first, second = (node(n, f"n{n}", user=None, tags=("tag:x",)) for n in (1, 2))
    async with opened(database_url) as store:
        await loaded(store.journal)
        online: list[Write] = [Put(Presence(NodeId(1), REPLICA, START)), Put(first)]
        await store.journal.commit(HOME, at(0), online, START)
        came_and_went: list[Write] = [
            Put(second),
            Put(Presence(second.id, REPLICA, START)),
            Drop(second),
            Drop(first),
        ]
        await store.journal.commit(HOME, at(1), came_and_went, START)
        snapshot = await loaded(store.journal)
        assert (dict(snapshot.nodes), dict(snapshot.presence)) == ({}, {})


@aio
async def test_a_node_dropped_and_put_again_comes_back_offline(database_url: str) -> None:
    """Who catches up agrees with who loads: the old presence is gone, a new one counts."""
    first = node(1, "n1", user=None, tags=("tag:x",))
    later = ReplicaId("replica-2")
    async with opened(database_url) as store:
        await loaded(store.journal)
        online: list[Write] = [Put(first), Put(Presence(first.id, REPLICA, START))]
        await store.journal.commit(HOME, at(0), online, START)
        behind = await loaded(store.journal)
        again: list[Write] = [Drop(first), Put(first), Put(Presence(first.id, later, START))]
        await store.journal.commit(HOME, at(1), again, START)
        snapshot = await loaded(store.journal)
        assert dict(snapshot.presence) == {first.id: frozenset({later})}
        assert content(await caught_up(store.journal, behind)) == content(snapshot)


@pytest.mark.parametrize(
    "clash",
    [
        {"name": "web1"},
        {"ipv4": node(3, "", user=None).ipv4},
        {"ipv6": node(3, "", user=None).ipv6},
        {"node_key": node(3, "web1", user=None).node_key},
        {"stable_id": "n3CNTRL"},
    ],
    ids=lambda clash: next(iter(clash)),
)
@aio
async def test_a_constraint_fails_the_whole_batch(database_url: str, clash: dict[str, Any]) -> None:
    """What two nodes may not share is refused whatever was decided, and nothing is written."""
    async with opened(database_url) as store:
        await loaded(store.journal)
        await store.journal.commit(HOME, at(0), everything(), START)
        before = content(await loaded(store.journal))
        twin = replace(node(8, "eight", user=None, tags=("tag:x",)), **clash)
        with pytest.raises(StoreConflict) as refused:
            await store.journal.commit(HOME, at(1), [Put(BO), Put(twin)], START)
        assert str(refused.value).startswith("the database found the write inconsistent (")
        assert refused.value.__suppress_context__
        assert content(await loaded(store.journal)) == before


@pytest.mark.parametrize(
    "write",
    [Put(node(9, "nine", user=UserId(77))), Put(Presence(NodeId(77), REPLICA, START))],
    ids=["owner", "node"],
)
@aio
async def test_a_reference_to_nothing_fails_the_whole_batch(
    database_url: str, write: Write
) -> None:
    """References are checked when the batch commits; the next batch goes through."""
    async with opened(database_url) as store:
        await loaded(store.journal)
        with pytest.raises(StoreConflict):
            await store.journal.commit(HOME, at(0), [Put(BO), write], START)
        assert content(await loaded(store.journal)) == content(Snapshot(HOME))
        assert await store.journal.commit(HOME, at(0), [Put(BO)], START) == 1


@aio
async def test_logins_differ_by_more_than_case(database_url: str) -> None:
    """Two users of one tailnet cannot have one login in two spellings."""
    async with opened(database_url) as store:
        await loaded(store.journal)
        shouting = replace(BO, login=ANA.login.upper())
        with pytest.raises(StoreConflict):
            await store.journal.commit(HOME, at(0), [Put(ANA), Put(shouting)], START)


@aio
async def test_tailnets_never_meet(database_url: str) -> None:
    """Equal names, users, addresses and ids in two tailnets stay apart, also when one is emptied."""
    async with opened(database_url) as store:
        for tailnet, secret in ((HOME, "home"), (OTHER, "other")):
            mine = replace(
                node(1, "laptop", user=ANA.id),
                node_key=NodeKey(secret.encode().ljust(32)),
                stable_id=secret,
            )
            await loaded(store.journal, tailnet)
            await store.journal.commit(tailnet, at(0), [Put(ANA), Put(mine)], START)
        kept = content(await loaded(store.journal, OTHER))
        emptied = [Drop(node(1, "laptop", user=ANA.id)), Drop(ANA)]
        await store.journal.commit(HOME, at(1), emptied, START)
        assert content(await loaded(store.journal, OTHER)) == kept
        assert dict((await loaded(store.journal)).nodes) == {}
        assert await store.journal.tailnets() == (HOME, OTHER)


@aio
async def test_a_node_key_is_of_one_tailnet_only(database_url: str) -> None:
    """One node key cannot be registered in two tailnets."""
    async with opened(database_url) as store:
        await loaded(store.journal)
        await loaded(store.journal, OTHER)
        mine = node(1, "laptop", user=None, tags=("tag:x",))
        await store.journal.commit(HOME, at(0), [Put(mine)], START)
        theirs = replace(mine, stable_id="another")
        with pytest.raises(StoreConflict):
            await store.journal.commit(OTHER, at(0), [Put(theirs)], START)


@aio
async def test_a_deployment_that_means_nothing_any_more_leaves_the_tailnet_without(
    database_url: str,
) -> None:
    """The tailnet loads, nobody reaches anybody, and the reason is reported."""
    async with opened(database_url) as store:
        await loaded(store.journal)
        writes = [*everything(), Put(deployment("d", UNREADABLE))]
        await store.journal.commit(HOME, at(0), writes, START)
        snapshot = await loaded(store.journal)
        assert (snapshot.deployment, len(snapshot.nodes), snapshot.revision) == (None, 3, 1)
        assert store.unreadable == [(HOME, "the policy is unreadable")]


@aio
async def test_a_replica_that_cannot_read_the_newest_policy_withdraws_the_old_one(
    database_url: str,
) -> None:
    """The newer policy may have narrowed access, so the older one does not stay."""
    async with opened(database_url) as store:
        await loaded(store.journal)
        await store.journal.commit(HOME, at(0), [Put(deployment("a"))], START)
        behind = await loaded(store.journal)
        assert behind.deployment is not None
        await store.journal.commit(HOME, at(1), [Put(deployment("b", UNREADABLE))], START)
        assert (await caught_up(store.journal, behind)).deployment is None
        assert store.unreadable == [(HOME, "the policy is unreadable")]


@aio
async def test_a_row_that_is_no_record_costs_only_itself(database_url: str) -> None:
    """Damaged rows are reported and left out, an unreadable user with the nodes it owns."""
    async with opened(database_url) as store:
        await loaded(store.journal)
        people: list[Write] = [Put(ANA), Put(BO)]
        devices = [Put(node(n, f"n{n}", user=UserId(n % 2 + 1))) for n in (1, 2, 3)]
        await store.journal.commit(HOME, at(0), [*people, *devices], START)
        async with store.database.writing() as connection:
            await connection.execute(update(NODES).where(NODES.c.id == 2).values(ipv4="nonsense"))
            await connection.execute(update(USERS).where(USERS.c.id == 2).values(role="king"))
        snapshot = await loaded(store.journal)
        assert (dict(snapshot.users), dict(snapshot.nodes)) == ({ANA.id: ANA}, {})
        assert store.unreadable == [
            (HOME, "the stored user '2' cannot be read"),
            (HOME, "the owner of the stored node '1' cannot be read"),
            (HOME, "the stored node '2' cannot be read"),
            (HOME, "the owner of the stored node '3' cannot be read"),
        ]


@aio
async def test_history_lists_deployments_newest_first(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """History says what was in force and what is; the oldest are forgotten."""
    monkeypatch.setattr(journal_module, "HISTORY_LIMIT", 3)
    async with opened(database_url) as store:
        await loaded(store.journal)
        for base, commit in enumerate("abcde"):
            await store.journal.commit(HOME, at(base), [Put(deployment(commit))], START)
        kept = await store.journal.history(HOME)
        assert [(one.commit[0], one.revision, one.in_force) for one in kept] == [
            ("e", 5, True),
            ("d", 4, False),
            ("c", 3, False),
        ]
        assert (kept[0].subject, kept[0].author, kept[0].applied) == ("subject e", "Ana", START)
        assert (kept[0].by, kept[0].reason) == ("", "")
        assert await store.journal.history(HOME, limit=1) == kept[:1]
        assert await store.journal.texts(HOME, at(4)) == deployment("d").files
        assert await store.journal.texts(HOME, at(1)) is None
        await store.journal.commit(HOME, at(5), [Drop(deployment("e"))], START)
        assert [one.in_force for one in await store.journal.history(HOME)] == [False] * 3


@aio
async def test_what_operators_say_about_following_is_stored(database_url: str) -> None:
    """Why it is suspended, what is skipped and accepted; who put a commit in force, and why."""
    held = Hold("it broke ssh", "ana", START, START + timedelta(hours=1), "d" * 40)
    far = Delivered(ReplicaId("r"), "a", START, "1-4,7")
    over = Override("f" * 64, "an emergency", "ben", START, START + timedelta(hours=2), at(7), "e")
    told = Following("{}", 2, 1, held, ("b" * 40,), "c" * 40, over, (far, far))
    ends = START + timedelta(days=1)
    rolled = replace(
        deployment("a"), by="ana", reason="it broke ssh", until=ends, verified_by=("ben", "é")
    )
    async with opened(database_url) as store:
        await loaded(store.journal)
        await store.journal.commit(HOME, at(0), [Put(told), Put(rolled)], START)
        snapshot = await loaded(store.journal)
        assert snapshot.following == told
        assert snapshot.deployment is not None
        put = snapshot.deployment
        assert (put.by, put.reason, put.until) == ("ana", "it broke ssh", ends)
        past = await store.journal.history(HOME)
        assert put.verified_by == past[0].verified_by == ("ben", "é")
        assert [(one.by, one.reason, one.until) for one in past] == [("ana", "it broke ssh", ends)]
        resumed = Following("{}", 2, 1)
        await store.journal.commit(HOME, at(1), [Put(resumed)], START)
        assert (await loaded(store.journal)).following == resumed


@aio
async def test_nonsense_about_who_signed_is_nobody(database_url: str) -> None:
    """It is only told: the commit stays in force, and the history can be read."""
    async with opened(database_url) as store:
        await loaded(store.journal)
        await store.journal.commit(HOME, at(0), [Put(deployment("a"))], START)
        for nonsense in ("", "{", "7", '{"ana": 1}', "[1, null]"):
            async with store.database.writing() as connection:
                await connection.execute(update(DEPLOYMENTS).values(verified_by=nonsense))
            snapshot = await loaded(store.journal)
            assert snapshot.deployment is not None
            assert snapshot.deployment.verified_by == ()
            assert [one.verified_by for one in await store.journal.history(HOME)] == [()]


@aio
async def test_a_replica_too_far_behind_or_ahead_is_told_to_load_anew(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A journal with a gap never passes for the whole difference."""
    monkeypatch.setattr(journal_module, "JOURNAL_LIMIT", 3)
    monkeypatch.setattr(journal_module, "_TRIM_EVERY", 1)
    async with opened(database_url) as store:
        await loaded(store.journal)
        for base in range(6):
            await store.journal.commit(HOME, at(base), [Put(ANA)], START)
        assert (await store.journal.since(HOME, at(3))).revision == 6
        for revision in (0, 2, 7):
            with pytest.raises(JournalTrimmed):
                await store.journal.since(HOME, at(revision))


@aio
async def test_a_batch_of_64_registrations_is_a_handful_of_statements(database_url: str) -> None:
    """The number of statements depends on the classes touched, never on how many records."""
    key = AuthKey(AuthKeyId("k1"), b"h" * 32, "ci", START, START, tags=("tag:x",), reusable=True)
    writes: list[Write] = []
    for number in range(1, 65):
        writes.append(Put(node(number, f"n{number}", user=None, tags=("tag:x",))))
        writes.append(Put(replace(key, uses=number)))
        writes.append(Put(Counters(NodeId(number + 1), UserId(1))))
    async with opened(database_url) as store:
        await loaded(store.journal)
        with statements(store.database) as sent:
            await store.journal.commit(HOME, at(0), writes, START)
        told = ["SELECT pg_notify %"] if store.database.shared else []
        words = [statement.replace("(", " ").split() for statement in sent]
        assert [" ".join(some[:3]) for some in words if some[0] != "BEGIN"] == [
            "UPDATE tailnets SET",
            "DELETE FROM nodes",
            "DELETE FROM auth_keys",
            "INSERT INTO nodes",
            "INSERT INTO auth_keys",
            "INSERT INTO journal",
            *told,
        ]


@aio
async def test_any_statement_that_fails_leaves_nothing_behind(database_url: str) -> None:
    """Whichever statement of a commit the database refuses, memory and database stay equal."""
    writes = [Put(ANA), Put(node(1, "laptop", user=ANA.id)), Put(deployment("a"))]
    async with opened(database_url) as store:
        await loaded(store.journal)
        statements_sent = 9 if store.database.shared else 8
        for number in range(statements_sent):
            with (
                failing(store.database, after=number) as failed,
                pytest.raises(StoreUnavailable) as refused,
            ):
                await store.journal.commit(HOME, at(0), writes, START)
            assert len(failed) == 1
            assert str(refused.value) == "the database did not take the write (Exception)"
            assert content(await loaded(store.journal)) == content(Snapshot(HOME))
        with failing(store.database, after=statements_sent) as failed:
            assert await store.journal.commit(HOME, at(0), writes, START) == 1
        assert failed == []


@pytest.mark.parametrize("arrives", [True, False])
@aio
async def test_a_lost_answer_to_commit_is_looked_up(
    database_url: str, monkeypatch: pytest.MonkeyPatch, arrives: bool
) -> None:
    """A batch that became durable is acknowledged although the connection broke on COMMIT."""
    async with opened(database_url) as store:
        await loaded(store.journal)
        dialect = store.database.writer.sync_engine.dialect
        commit = dialect.do_commit

        def lose_the_answer(connection: Any) -> None:
            if arrives:
                commit(connection)
            raise OperationalError("COMMIT", None, Exception("connection lost"))

        with monkeypatch.context() as broken:
            broken.setattr(dialect, "do_commit", lose_the_answer)
            if arrives:
                assert await store.journal.commit(HOME, at(0), [Put(ANA)], START) == 1
            else:
                with pytest.raises(StoreUnavailable):
                    await store.journal.commit(HOME, at(0), [Put(ANA)], START)
        assert (await loaded(store.journal)).revision == int(arrives)
        assert await store.journal.commit(HOME, at(int(arrives)), [Put(BO)], START) == 1 + arrives


@aio
async def test_a_cancelled_commit_is_finished_and_its_outcome_known(database_url: str) -> None:
    """The caller learns the revision although it was cancelled, and is cancelled after that."""
    learned: list[int] = []
    async with opened(database_url) as store:
        await loaded(store.journal)

        async def caller() -> None:
            learned.append(await store.journal.commit(HOME, at(0), [Put(ANA)], START))
            await turns(1)
            learned.append(-1)

        under_way = asyncio.Event()
        event.listen(
            store.database.writer.sync_engine, "before_cursor_execute", lambda *_: under_way.set()
        )
        task = asyncio.create_task(caller())
        await under_way.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert learned == [1]
        assert (await loaded(store.journal)).users == {ANA.id: ANA}


@aio
async def test_a_refused_commit_that_was_cancelled_still_says_so(database_url: str) -> None:
    """Cancellation does not hide that nothing was written."""
    learned: list[Exception] = []
    async with opened(database_url) as store:
        await loaded(store.journal)

        async def caller() -> None:
            try:
                await store.journal.commit(HOME, at(5), [Put(ANA)], START)
            except RevisionMoved as moved:
                learned.append(moved)
            await turns(1)
            learned.append(Exception("went on"))

        task = asyncio.create_task(caller())
        await turns(1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert [type(error) for error in learned] == [RevisionMoved]


def add_node(snapshot: Snapshot, name: str) -> Outcome[NodeId]:
    """Decide to add a node with the next id, as registration does."""
    number = snapshot.counters.next_node
    added = node(number, name, user=None, tags=("tag:x",))
    counters = replace(snapshot.counters, next_node=NodeId(number + 1))
    return outcome(snapshot, [Put(added), Put(counters)], added.id)


@aio
async def test_two_replicas_on_one_database_converge(database_url: str) -> None:
    """Racing replicas give every node its own id and address and end equal."""
    async with opened(database_url) as one, opened(database_url) as two:
        engines = [
            await Engine.open(HOME, store.journal, MemoryFeed(), FakeClock())
            for store in (one, two)
        ]
        async with asyncio.TaskGroup() as group:
            for engine in engines:
                group.create_task(engine.run())

            async def register(engine: Engine, name: str) -> NodeId:
                return await engine.apply(lambda snapshot, _: add_node(snapshot, name))

            names = [f"n{number}" for number in range(40)]
            tasks = [
                group.create_task(register(engines[number % 2], name))
                for number, name in enumerate(names)
            ]
            ids = [await task for task in tasks]
            for engine in engines:
                engine.stop()
        ends = [await caught_up(one.journal, engine.snapshot) for engine in engines]
        assert sorted(ids) == list(range(1, 41))
        assert set(ends[0].names) == set(names)
        assert content(ends[0]) == content(ends[1]) == content(await loaded(two.journal))


@aio
async def test_one_tailnet_is_created_once_by_many_replicas(database_url: str) -> None:
    """Replicas that start together agree on the tailnet's first row."""
    async with opened(database_url) as one, opened(database_url) as two:
        batches = await asyncio.gather(*(s.journal.load(HOME) for s in (one, two, one, two)))
        assert [batch.revision for batch in batches] == [0, 0, 0, 0]
        assert await one.journal.tailnets() == (HOME,)


@aio
async def test_a_full_disk_refuses_writes_and_recovers(sqlite_url: str) -> None:
    """Reads go on, the error names the cause, and space makes the same journal work again."""
    async with opened(sqlite_url) as store:
        await loaded(store.journal)

        async def pages(limit: int) -> None:
            async with store.database.writing() as connection:
                await connection.execute(text(f"PRAGMA max_page_count = {limit}"))

        await pages(1)
        big = replace(deployment("a"), files={"policy.hujson": "x" * 100_000})
        with pytest.raises(StoreUnavailable) as refused:
            await store.journal.commit(HOME, at(0), [Put(ANA), Put(big)], START)
        assert str(refused.value) == "the database did not take the write (SQLITE_FULL)"
        assert content(await loaded(store.journal)) == content(Snapshot(HOME))
        await pages(1_000_000)
        assert await store.journal.commit(HOME, at(0), [Put(ANA), Put(big)], START) == 1


@aio
async def test_a_number_no_database_can_hold_fails_clearly(database_url: str) -> None:
    """A value that the driver cannot encode is an error of the batch, not of the engine."""
    async with opened(database_url) as store:
        await loaded(store.journal)
        absurd = replace(node(1, "n1", user=None, tags=("tag:x",)), home_derp=2**70)
        with pytest.raises(StoreUnavailable):
            await store.journal.commit(HOME, at(0), [Put(absurd)], START)
        assert (await loaded(store.journal)).revision == 0


def test_every_row_of_a_tailnet_has_it_first_in_its_key() -> None:
    """No table but the server's own can hold a row without its tailnet in the primary key."""
    # Failed attempts are counted at the door, before anybody has shown which tailnet is meant.
    servers = {"tailnets", "server_secrets", "leases", "failures"}
    keys = {
        table.name: table.primary_key.columns.keys()[0]
        for table in METADATA.tables.values()
        if table.name not in servers
    }
    assert set(keys.values()) == {"tailnet"}
